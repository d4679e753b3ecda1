# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.config.record import OwnedKey, Record

VALUES = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
PATHS = st.lists(st.text(max_size=4), min_size=1, max_size=3).map(tuple)
KEYS = st.builds(OwnedKey, VALUES) | st.builds(OwnedKey, VALUES, st.just(True), VALUES, st.lists(VALUES, max_size=2).map(tuple))
RECORDS = st.builds(
    Record,
    keys=st.dictionaries(PATHS, KEYS, max_size=3),
    tables=st.frozensets(PATHS, max_size=2),
    created=st.booleans(),
    imported=st.none() | st.text(),
    had_imports=st.booleans(),
    original=st.none() | st.text(),
    written=st.lists(st.text(), max_size=2).map(tuple),
    directories=st.frozensets(st.text(), max_size=2),
    pending=st.dictionaries(st.text(), st.none() | st.text(), max_size=2),
)


@given(RECORDS)
def test_every_record_survives_writing_and_reading(record: Record) -> None:
    assert Record.from_text(record.to_text()) == record


def test_nothing_to_remember_is_no_file() -> None:
    assert Record().to_text() is None
    assert Record.from_text(None) == Record()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("{}", "it is damaged"),
        ("[]", "it is damaged"),
        ('{"format": 2}', "it is of format 2, and this collection knows 1"),
        ('{"format": 1, "keys": [5]}', "it is damaged"),
        ('{"format": 1, "keys": [{"path": ["a"]}]}', "it is damaged"),
        ('{"format": 1, "keys": [], "tables": [], "created": false, "imported": null}', "it is damaged"),
    ],
)
def test_refuses_what_is_no_record(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Record.from_text(text)


def test_a_change_under_way_remembers_both_sides() -> None:
    found = Record(
        keys={("a",): OwnedKey(1), ("b",): OwnedKey(2, True, 0, earlier=(3,)), ("c",): OwnedKey(4)},
        tables=frozenset({("t",)}),
        imported="/old",
    )
    wanted = Record(
        keys={("b",): OwnedKey(5, True, 0), ("c",): OwnedKey(4), ("d",): OwnedKey(6)},
        tables=frozenset({("u",)}),
        created=True,
    )
    assert found.begun(wanted, {"/file": "text"}) == Record(
        keys={
            ("a",): OwnedKey(1),
            ("b",): OwnedKey(5, True, 0, earlier=(3, 2)),
            ("c",): OwnedKey(4),
            ("d",): OwnedKey(6),
        },
        tables=frozenset({("t",), ("u",)}),
        created=True,
        imported="/old",
        pending={"/file": "text"},
    )


@pytest.mark.parametrize("pending", ["null", "[]", '["a"]', "5"])
def test_pending_that_is_no_object_is_damage(pending: str) -> None:
    known = '"format": 1, "keys": [], "tables": [], "created": false, "imported": null, "unstarted": false'
    text = f'{{{known}, "pending": {pending}}}'
    with pytest.raises(ValueError, match="damaged"):
        Record.from_text(text)


def test_that_no_container_started_is_remembered_until_one_does() -> None:
    found = Record(unstarted=True)
    assert Record.from_text(found.to_text()) == found
    assert found.begun(Record(), {}).unstarted
