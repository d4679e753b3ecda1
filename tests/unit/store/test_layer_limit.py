# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.store.layer_limit import (
    Overlay,
    headroom,
    judge_present,
    judge_pull,
    next_id,
)

ROOT = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
DEFAULT = Overlay(ROOT, 4096, ("index=off",))


def closed_form(root: int, digits: int, page: int, options: tuple[str, ...]) -> int:
    """The number of layers, by the lengths alone, if all ids have as many digits and the lower directories are relative."""
    fixed = 58 + sum(len(option) + 1 for option in options)
    return min(500, (page - fixed - 2 * root - 2 * digits) // (digits + 4))


@pytest.mark.parametrize(
    ("first", "expected"),
    [(1, 500), (100, 500), (499, 500), (1000, 488), (10_000, 433), (100_000, 390), (1_000_000, 354)],
)
def test_the_default_root_has_room_for(first: int, expected: int) -> None:
    room = headroom(DEFAULT, first)
    assert len(ROOT) == 58
    assert (room.layers_max, room.digits) == (expected, len(str(first)))
    assert room.layers_max == closed_form(58, room.digits, 4096, DEFAULT.options)


@pytest.mark.parametrize(
    ("first", "expected"),
    # Ids that get another digit on the way: 9999 has four, 10000 five.
    [(999, 488), (9_999, 433), (9_800, 455), (600, 500), (99_900, 400)],
)
def test_ids_that_grow_during_the_pull_count_as_they_will_be(first: int, expected: int) -> None:
    assert headroom(DEFAULT, first).layers_max == expected
    assert judge_pull(DEFAULT, expected, first).mountable is True
    assert judge_pull(DEFAULT, expected + 1, first).mountable is False


@given(
    root=st.integers(min_value=2, max_value=1500),
    digits=st.integers(min_value=1, max_value=9),
    page=st.sampled_from([4096, 16384, 65536]),
    options=st.lists(st.sampled_from(["index=off", "userxattr", "metacopy=on", "volatile"]), unique=True).map(tuple),
    layers=st.integers(min_value=2, max_value=500),
)
def test_the_closed_formula_is_the_exact_computation_for_ids_of_one_length(
    root: int, digits: int, page: int, options: tuple[str, ...], layers: int
) -> None:
    overlay = Overlay("/" + "r" * (root - 1), page, options)
    number = 10 ** (digits - 1)
    fits = not overlay.excess([number] * layers, number)
    assert fits == (layers <= closed_form(root, digits, page, options))


@given(root=st.integers(min_value=2, max_value=1300), first=st.integers(min_value=1, max_value=10**8))
def test_the_headroom_is_where_the_verdict_turns(root: int, first: int) -> None:
    overlay = Overlay("/" + "r" * (root - 1), 4096, ("index=off",))
    most = headroom(overlay, first).layers_max
    assert judge_pull(overlay, most, first).mountable
    assert not judge_pull(overlay, most + 1, first).mountable


def test_options_are_written_as_containerd_writes_them() -> None:
    overlay = Overlay("/c/", 4096, ("noatime", "index=off"))
    assert overlay.mount_data((), 1) == ""
    assert overlay.mount_data((3, 12), 13) == (
        "workdir=/c/snapshots/13/work,upperdir=/c/snapshots/13/fs,lowerdir=/c/snapshots/12/fs:/c/snapshots/3/fs,index=off"
    )


def test_options_are_shortened_512_bytes_before_the_page() -> None:
    """As in containerd's sum: without the commas between the options."""
    ids = list(range(100, 300))
    whole = Overlay("/c", 4096).mount_data(ids[:100], 999)
    assert "lowerdir=/c/snapshots/199/fs:" in whole
    short = Overlay("/c", 4096, ("index=off",)).mount_data(ids, 999)
    assert short.startswith("workdir=/c/snapshots/999/work,upperdir=/c/snapshots/999/fs,index=off,lowerdir=299/fs:298/fs:")
    for count in range(2, 200):
        text = Overlay("/c", 4096).mount_data(ids[:count], 999)
        absolute = 8 + 21 + 9 + 19 + 9 + count * 19 + count - 1
        assert ("lowerdir=/c/" in text) == (absolute < 4096 - 512), count
    # 3583 bytes, and 3584.
    assert "lowerdir=/c/" in Overlay("/c", 4096, ("v" * 18,)).mount_data(ids[:175], 999)
    assert "lowerdir=/c/" not in Overlay("/c", 4096, ("v" * 19,)).mount_data(ids[:175], 999)


def test_a_single_lower_directory_is_not_shortened() -> None:
    overlay = Overlay("/" + "r" * 1400, 4096)
    assert judge_pull(overlay, 1, 1).mountable is False
    assert judge_pull(overlay, 2, 1).mountable is True


@pytest.mark.parametrize(
    ("layers", "first", "words"),
    [
        (501, 1, ["501 layers", "500 lower directories", "fewer layers"]),
        (489, 1000, ["489 layers", "4103 bytes", "accepts 4095", "58 characters", "4 digits", "at most 54 characters"]),
        (488, 9_900, ["488 layers", "4 to 5 digits", "fewer layers"]),
    ],
)
def test_a_refusal_has_the_numbers_and_the_remedy(layers: int, first: int, words: list[str]) -> None:
    verdict = judge_pull(DEFAULT, layers, first)
    assert verdict.mountable is False
    assert [word for word in words if word not in verdict.reason] == []


def test_the_root_that_a_refusal_names_is_short_enough() -> None:
    assert "at most 54 characters" in judge_pull(DEFAULT, 489, 1000).reason
    assert judge_pull(Overlay("/" + "r" * 53, 4096, DEFAULT.options), 489, 1000).mountable is True
    assert judge_pull(Overlay("/" + "r" * 54, 4096, DEFAULT.options), 489, 1000).mountable is False


@given(
    root=st.integers(min_value=20, max_value=900), layers=st.integers(min_value=200, max_value=500), first=st.integers(1, 10**7)
)
@example(root=100, layers=349, first=1_000_000)
def test_no_refusal_names_a_root_that_is_too_long_or_needlessly_short(root: int, layers: int, first: int) -> None:
    reason = judge_pull(Overlay("/" + "r" * (root - 1), 4096, ("index=off",)), layers, first).reason
    named = re.search(r"at most (\d+) characters", reason)
    if named:
        enough = int(named[1])
        assert judge_pull(Overlay("/" + "r" * (enough - 1), 4096, ("index=off",)), layers, first).mountable
        assert not judge_pull(Overlay("/" + "r" * enough, 4096, ("index=off",)), layers, first).mountable


def test_of_unpacked_layers_the_ids_are_among_those_there() -> None:
    old, new = range(1, 491), range(10_000, 10_490)
    assert judge_present(DEFAULT, 440, 440, old).mountable is True
    assert judge_present(DEFAULT, 440, 440, new).mountable is False
    both = judge_present(DEFAULT, 440, 440, [*old, *new])
    assert both.mountable is None
    assert "the greatest on this node is 10489" in both.reason
    assert judge_present(DEFAULT, 300, 300, [*old, *new]).mountable is True
    assert judge_present(DEFAULT, 501, 501, [*old, *new]).mountable is False


def test_of_other_layers_the_ids_are_those_in_sight_or_longer() -> None:
    """The snapshots with the greatest ids may have been removed."""
    assert judge_present(DEFAULT, 354, 0, []).mountable is True
    assert judge_present(DEFAULT, 355, 0, []).mountable is None
    assert judge_present(DEFAULT, 500, 0, [7]).mountable is None
    assert judge_present(DEFAULT, 488, 0, [999]).mountable is None
    assert judge_present(DEFAULT, 489, 0, [999]).mountable is False
    assert judge_present(DEFAULT, 353, 0, [12_345_678]).mountable is False
    assert judge_present(DEFAULT, 324, 0, [12_345_678]).mountable is True


def test_of_an_image_in_part_unpacked_both_are_so() -> None:
    assert judge_present(DEFAULT, 370, 300, range(100, 1000)).mountable is True
    assert judge_present(DEFAULT, 489, 300, range(100, 1000)).mountable is None
    assert judge_present(DEFAULT, 489, 300, range(100_000, 100_400)).mountable is False
    assert judge_present(DEFAULT, 3, 2, [1]).mountable is None
    assert judge_present(DEFAULT, 0, 0, []).mountable is True


def test_what_the_limit_comes_from_is_said() -> None:
    assert "500 lower directories" in headroom(DEFAULT, 1).reason
    tight = headroom(DEFAULT, 1000)
    assert "4096 bytes" in tight.reason and "58 characters" in tight.reason and "4 digits" in tight.reason
    assert tight.to_dict() == {
        "layers_max": 488,
        "layers_guaranteed": 354,
        "reason": tight.reason,
        "root": ROOT,
        "root_length": 58,
        "next_id": 1000,
        "digits": 4,
        "page_size": 4096,
        "mount_options": ["index=off"],
    }
    assert headroom(Overlay("/" + "r" * 2100, 4096), 1).layers_max == 0
    late = headroom(DEFAULT, 12_345_679)
    assert late.layers_max == late.layers_guaranteed == 324


def test_the_next_id_follows_the_greatest() -> None:
    assert next_id([]) == 1
    assert next_id([7, 41, 3]) == 42


@pytest.mark.parametrize(("root", "page"), [("relative", 4096), ("", 4096), ("/c", 0), ("/c", 4095)])
def test_nonsense_is_refused(root: str, page: int) -> None:
    with pytest.raises(ValueError, match=r"absolute path|page size"):
        Overlay(root, page)


@pytest.mark.parametrize(("layers", "first"), [(-1, 1), (1, 0)])
def test_nonsense_is_not_judged(layers: int, first: int) -> None:
    with pytest.raises(ValueError, match="no image"):
        judge_pull(DEFAULT, layers, first)
