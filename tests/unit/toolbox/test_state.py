# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.store.leases import (
    Lease,
    lease_of,
    parse_leases,
    parse_time,
    plain_path,
)
from ansible_collections.slipway.node.plugins.module_utils.store.usage import parse_usage
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import (
    ExpectedToolbox,
    WritableSnapshot,
    is_below,
    is_prunable,
    parse_duration,
    parse_writable_snapshot,
    risk_of,
)

VERSIONS = ("1.6.20", "1.7.24", "2.1.9")
Recorded = Callable[[str, str], str]
PIN = {"containerd.io/gc.root": "2026-01-31T12:00:00Z"}
PATH = "/var/lib/toolbox/debug"
END = "2026-02-01T12:00:00Z"
HELD = WritableSnapshot("default", "overlayfs", PATH, created="2026-01-31T12:00:00.5Z", mount_points=(PATH,))
PINNED = replace(HELD, labels=PIN)


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_leases_whose_names_hold_spaces(recorded: Recorded, version: str) -> None:
    leases = {lease.id: lease for lease in parse_leases(recorded(version, "leases-ls.txt"))}
    assert set(leases) == {"/var/lib/toolbox/box/", "/var/lib/toolbox/my box", "for ever"}
    assert leases["for ever"] == Lease("for ever")
    leased = leases["/var/lib/toolbox/my box"]
    assert leased.names("overlayfs", "/var/lib/toolbox/my box")
    assert not leased.names("overlayfs", "/var/lib/toolbox/my")
    assert leased.snapshots == {("overlayfs", "/var/lib/toolbox/my box")}
    assert leases["/var/lib/toolbox/box/"].names("overlayfs", "/var/lib/toolbox/box")
    assert parse_time(leased.expires) > parse_time("2026-01-01T00:00:00Z")


def test_reads_a_list_without_leases() -> None:
    assert parse_leases("") == parse_leases("ID CREATED AT LABELS \n") == ()
    with pytest.raises(ValueError, match="no list of leases"):
        parse_leases("error: something\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_sizes(recorded: Recorded, version: str) -> None:
    (size,) = (parse_usage(recorded(version, "toolbox-usage.txt"))[key] for key in ("/var/lib/toolbox/my box",))
    assert 1_000_000 < size < 1_100_000


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_a_snapshot(recorded: Recorded, version: str) -> None:
    held = parse_writable_snapshot("default", "overlayfs", recorded(version, "snapshots-info.json"))
    assert (held.key, held.path) == ("/var/lib/toolbox/box/", "/var/lib/toolbox/box")
    assert held.parent.startswith("sha256:")
    assert not held.pinned
    assert parse_time(held.created) > parse_time("2026-01-01T00:00:00Z")


def test_a_pin_needs_a_value() -> None:
    text = {"Name": PATH, "Kind": "Active", "Labels": PIN}
    assert parse_writable_snapshot("default", "native", json.dumps(text)).pinned
    assert not parse_writable_snapshot("default", "native", json.dumps({**text, "Labels": {"containerd.io/gc.root": ""}})).pinned
    assert not parse_writable_snapshot("default", "native", json.dumps({**text, "Labels": None})).pinned
    for nonsense in ("[]", "{}", "no"):
        with pytest.raises(ValueError, match=r"no snapshot|Expecting value"):
            parse_writable_snapshot("default", "native", nonsense)


TIMES = [
    ("1970-01-01T00:00:00Z", 0.0),
    ("1970-01-01T01:00:00+01:00", 0.0),
    ("1970-01-01T00:00:01.250000000Z", 1.25),
    ("2024-03-13T15:38:53.586782845Z", 1710344333.586782845),
]


@pytest.mark.parametrize(("text", "seconds"), TIMES)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-03-13", "2024-13-13T15:38:53Z", "2024-03-13T15:38:53", f"{END}\n"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time such as|month must be"):
        parse_time(text)


def test_durations_are_read() -> None:
    assert [parse_duration("a", text) for text in ("0s", "90s", "2m", "3h", "30d", "1w")] == [0, 90, 120, 10800, 2592000, 604800]
    for text in ("", "30", "d", "-1d", "1.5d", "30 d", "1d\n", "9999999d"):
        with pytest.raises(ValueError, match=r"^prune_after has to be a number with one of the units"):
            parse_duration("prune_after", text)


def test_a_key_is_the_path_that_somebody_typed() -> None:
    for text in (PATH, f"{PATH}/", f"/{PATH}", "/var/lib/./toolbox//debug", "/var/lib/toolbox/other/../debug"):
        assert plain_path(text) == PATH
    assert plain_path("a key") == "a key"
    assert is_below(PATH, "/var/lib/toolbox/") and is_below(PATH, "/")
    for prefix in (PATH, "/var/lib/tool", "/var/lib/toolbox/deb", "/srv"):
        assert not is_below(PATH, prefix)
    assert not is_below("/var/lib/toolbox/../etc", "/var/lib/toolbox") or plain_path("/var/lib/toolbox/../etc") == "/var/lib/etc"


def test_of_several_leases_the_longest_counts() -> None:
    short, long = Lease(PATH, END), Lease(f"{PATH}/", "2026-03-01T12:00:00Z")
    assert lease_of("overlayfs", PATH, [short, long]) == long
    assert lease_of("overlayfs", PATH, [short, Lease("x", "", frozenset({("overlayfs", PATH)})), long]) == Lease(
        "x", "", frozenset({("overlayfs", PATH)})
    )
    assert lease_of("native", PATH, [Lease("x", "", frozenset({("overlayfs", PATH)}))]) is None
    assert lease_of("overlayfs", PATH, []) is None


# What is known of a snapshot: whether it is at risk, for certain, until when, and why.
RISKS: list[tuple[WritableSnapshot, Any]] = [
    (PINNED, None),
    (replace(PINNED, lease=Lease(PATH, END)), None),
    (replace(HELD, mount_points=()), None),
    (replace(HELD, lease=Lease(PATH)), None),
    (replace(HELD, lease=Lease(PATH, END)), (True, END, f"all that keeps it is the lease {PATH}, until {END}")),
    (HELD, (True, "", "nothing keeps it")),
    (replace(HELD, others=("a", "b")), (False, "", "whether a lease protects it can't be determined: there are 2")),
    (replace(HELD, mount_points=None), (False, "", "whether it is mounted can't be determined")),
    (replace(HELD, mount_points=None, lease=Lease(PATH, END)), (False, END, "whether it is mounted can't be determined")),
]


@pytest.mark.parametrize(("held", "expected"), RISKS, ids=[str(number) for number in range(len(RISKS))])
def test_what_garbage_collection_deletes_is_at_risk(held: WritableSnapshot, expected: tuple[bool, str, str] | None) -> None:
    risk = risk_of(held)
    if expected is None or risk is None:
        assert risk is None and expected is None
        return
    assert (risk.certain, risk.expires) == expected[:2]
    assert expected[2] in risk.reason
    assert risk.mount_point == (PATH if held.mount_points else "")
    assert risk.to_dict()["expires"] == (expected[1] or None)


def test_only_what_is_old_and_not_listed_goes() -> None:
    made = parse_time(HELD.created)
    assert not is_prunable(HELD, listed=True, age=0, now=made + 100)
    assert not is_prunable(HELD, listed=False, age=None, now=made + 100)
    assert [is_prunable(HELD, listed=False, age=60, now=made + seconds) for seconds in (59, 60)] == [False, True]
    # A clock that was wrong makes nothing old.
    assert not is_prunable(HELD, listed=False, age=0, now=made - 1)
    assert not is_prunable(replace(HELD, created="once"), listed=False, age=0, now=made)


def entry(path: str = PATH, **options: Any) -> dict[str, Any]:
    return {"path": path, "namespace": "default", "snapshotter": None, "state": "mounted", **options}


def test_expected_toolboxes_are_read() -> None:
    assert ExpectedToolbox.several([entry(f"{PATH}/"), entry("/srv/box", snapshotter="native", state="absent")]) == (
        ExpectedToolbox(PATH),
        ExpectedToolbox("/srv/box", "default", "native", "absent"),
    )


@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        (entry("box"), "toolboxes.path"),
        (entry("/var/../etc"), "toolboxes.path"),
        (entry("/var/lib\n"), "toolboxes.path"),
        (entry(namespace="-x"), "toolboxes.namespace"),
        (entry(snapshotter="a/b"), "toolboxes.snapshotter"),
    ],
)
def test_a_wrong_expected_toolbox_is_refused_by_its_option(wrong: dict[str, Any], option: str) -> None:
    with pytest.raises(ValueError, match=rf"^{option}"):
        ExpectedToolbox.several([wrong])
