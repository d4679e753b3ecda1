# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generations that stay, and the one to which the node goes back."""

from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.upgrade.generation import (
    PREVIOUS,
    UPGRADED,
    Manifest,
    next_number,
    target_of,
    to_drop,
)


def generation(number: int, state: str = UPGRADED) -> Manifest:
    return Manifest(number, "1.7.24", "2.3.7", state, 1.5, "boot", "1.1.15", units=("docker.service",), directories=("/etc/c",))


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert Manifest.from_text(generation(3).to_text()) == generation(3)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "number": 1}'])
def test_a_damaged_or_newer_manifest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"damaged|format|Expecting"):
        Manifest.from_text(text)


def test_a_number_is_not_used_twice() -> None:
    assert [next_number([]), next_number([1, 7, 3])] == [1, 8]


def test_the_node_goes_back_to_the_newest_generation_of_an_upgrade() -> None:
    """The generation that was kept when the node went back would undo that."""
    kept = [generation(4, PREVIOUS), generation(3), generation(2)]
    assert target_of(kept, None).number == 3


def test_the_node_goes_to_the_generation_with_the_wanted_number() -> None:
    kept = [generation(4, PREVIOUS), generation(3), generation(2)]
    assert [target_of(kept, number).number for number in (2, 4)] == [2, 4]


@pytest.mark.parametrize(
    ("kept", "wanted", "words"),
    [
        ([], None, "state: the node has no generation"),
        ([generation(1, PREVIOUS)], None, "state: the node has no generation"),
        ([], 3, r"generation: the node has no generation 3: name one of its generations \(none\)"),
        ([generation(1), generation(2)], 3, r"generation: the node has no generation 3: name one of its generations \(1, 2\)"),
    ],
)
def test_a_generation_that_is_not_there_is_refused(kept: list[Manifest], wanted: int | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        target_of(kept, wanted)


@pytest.mark.parametrize(
    ("kept", "keep", "dropped"),
    [([], 2, ()), ([1, 2], 2, ()), ([10, 9, 2, 1], 2, (1, 2)), ([1], 0, (1,)), ([3, 1, 2], 1, (1, 2))],
)
def test_the_oldest_generations_are_dropped(kept: list[int], keep: int, dropped: tuple[int, ...]) -> None:
    assert to_drop(kept, keep) == dropped


def test_a_generation_in_use_is_not_dropped() -> None:
    assert to_drop([1, 2, 3, 4], 2, {1}) == (2,)
