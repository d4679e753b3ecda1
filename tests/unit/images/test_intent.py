# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull, lost, parse, to_text

NAMES = st.lists(st.text()).map(tuple)
PULLS = st.lists(st.builds(Pull, st.text(), st.text(), st.text(), NAMES, NAMES, NAMES)).map(tuple)


@given(PULLS)
def test_what_was_written_is_read(pulls: tuple[Pull, ...]) -> None:
    assert parse(to_text(pulls)) == pulls


def test_no_record_is_no_pull() -> None:
    assert parse(None) == parse("") == ()


@pytest.mark.parametrize(
    "text", ["{", "[]", "1", '{"version": 2, "pulls": []}', '{"version": 1}', '{"version": 1, "pulls": [1]}',
             '{"version": 1, "pulls": [{"boot": "a", "namespace": "b", "snapshotter": "c", "names": ["d"]}]}',
             '{"version": 1, "pulls": [{"boot": "a", "namespace": "b", "names": ["d"], "before": [], "blobs": []}]}']
)  # fmt: skip
def test_a_damaged_record_is_not_taken_for_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(it|a pull in it) "):
        parse(text)


def test_only_another_boot_loses_what_was_in_memory() -> None:
    mine, old = Pull("now", "n", "s", (), ()), Pull("then", "n", "s", (), ())
    assert lost((mine, old), "now") == (old,)
