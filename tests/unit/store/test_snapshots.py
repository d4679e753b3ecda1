# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import Snapshot, parse_snapshots, plan_removal

VERSIONS = ("1.6.20", "1.7.24", "2.1.9")
Recorded = Callable[[str, str], str]
LISTING = """\
KEY                     PARENT      KIND
/var/lib/toolbox/my box sha256:bbbb Active
sha256:aaaa                         Committed
sha256:bbbb             sha256:aaaa Committed
view of it              sha256:aaaa View
"""


def test_keys_may_hold_spaces() -> None:
    assert parse_snapshots(LISTING) == {
        "/var/lib/toolbox/my box": Snapshot("sha256:bbbb", "Active"),
        "sha256:aaaa": Snapshot("", "Committed"),
        "sha256:bbbb": Snapshot("sha256:aaaa", "Committed"),
        "view of it": Snapshot("sha256:aaaa", "View"),
    }
    assert parse_snapshots("") == parse_snapshots("KEY PARENT KIND\n") == {}
    with pytest.raises(ValueError, match="no list of snapshots"):
        parse_snapshots("error: something\n")


@st.composite
def forests(draw: st.DrawFn) -> dict[str, Snapshot]:
    """Snapshots on each other; nothing stands on one that isn't committed."""
    found: dict[str, Snapshot] = {}
    for number in range(draw(st.integers(0, 12))):
        layers = [key for key, one in found.items() if one.is_layer]
        parent = draw(st.sampled_from(["", *layers]))
        found[str(number)] = Snapshot(parent, draw(st.sampled_from(["Committed", "Committed", "Active", "View"])))
    return found


@given(forests(), st.sets(st.integers(0, 12).map(str)))
def test_nothing_is_pulled_from_under_anyone(forest: dict[str, Snapshot], unwanted: set[str]) -> None:
    removal = plan_removal(forest, sorted(unwanted))
    left = dict(forest)
    for key in removal.keys:
        assert left[key].is_layer
        assert all(one.parent != key for one in left.values())
        del left[key]
    for key in unwanted & set(left):
        # It stays for a reason, which is named.
        assert any(stands_on(forest, user, key) for user in removal.users)


def stands_on(forest: dict[str, Snapshot], key: str, below: str) -> bool:
    while key and key != below:
        key = forest[key].parent
    return key == below


def test_a_deep_image_is_no_problem() -> None:
    chain = {str(number): Snapshot(str(number - 1) if number else "", "Committed") for number in range(5000)}
    assert len(plan_removal(chain, ["0"]).keys) == 5000


def test_a_half_unpacked_layer_is_in_nobodys_way_after_a_power_cut() -> None:
    layer = "sha256:" + "a" * 64
    forest = {layer: Snapshot("", "Committed"), f"extract-999528639-nCP6 {layer}": Snapshot(layer, "Active")}
    assert plan_removal(forest, [layer]).keys == ()
    assert plan_removal(forest, [layer], unpacking=True).keys == (f"extract-999528639-nCP6 {layer}", layer)
    forest["extract of my own"] = Snapshot(layer, "Active")
    assert plan_removal(forest, [layer], unpacking=True).users == ("extract of my own",)


@pytest.mark.parametrize("version", VERSIONS)
def test_layers_are_among_the_snapshots(recorded: Recorded, version: str) -> None:
    """Not containers' own, such as the one with a space in its key."""
    found = parse_snapshots(recorded(version, "snapshots-ls.txt"))
    assert {key for key, one in found.items() if one.is_layer} == {
        "sha256:df3bef71277467a17b7175bd4e2476dcaecc66ec61baf14b5a293ed1e4564adf",
        "sha256:c60d743e214e0d3f591512157c8211983024334816efd24754bf288b2bd1bb89",
    }
    assert any(" " in key and not one.is_layer for key, one in found.items())
