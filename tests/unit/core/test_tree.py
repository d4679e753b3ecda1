# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.core.tree import (
    Path,
    agrees,
    dotted,
    flatten,
    lookup,
    merge,
    nanoseconds,
    nest,
)

TREES = st.recursive(
    st.dictionaries(st.text(max_size=3), st.integers() | st.lists(st.integers(), max_size=2), max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(TREES)
def test_nest_undoes_flatten(tree: dict[str, Any]) -> None:
    assert nest(flatten(tree)) == tree


@given(TREES, TREES)
def test_merge_has_every_leaf_of_the_upper_tree(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(base, over)
    for path, value in flatten(over).items():
        assert lookup(merged, path) == value or value == {}
    assert merge(merged, over) == merged


def test_merge_changes_neither_tree() -> None:
    base, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(base, over) == {"a": {"b": 1, "c": 2}}
    assert (base, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_refuses_a_leaf_below_a_leaf() -> None:
    with pytest.raises(ValueError, match=r"a\.b lies below a key that is not a table"):
        nest({("a",): 1, ("a", "b"): 2})


@pytest.mark.parametrize("path", [("a", "x"), ("a", "b", "c"), ("x",)])
def test_a_path_that_leads_nowhere_has_the_default(path: Path) -> None:
    assert lookup({"a": {"b": 1}}, path, "default") == "default"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("plugins", "io.containerd.grpc.v1.cri", "sandbox_image"), 'plugins."io.containerd.grpc.v1.cri".sandbox_image'),
        (("",), '""'),
        (('a"b', "c\n"), r'"a\"b"."c\n"'),
        (("é",), '"é"'),
    ],
)
def test_writes_paths_as_toml_does(path: Path, text: str) -> None:
    assert dotted(path) == text


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", 0),
        ("+0", 0),
        ("-5s", -5 * 10**9),
        ("+5s", 5 * 10**9),
        (".5h", 1800 * 10**9),
        ("5.s", 5 * 10**9),
        ("1.s.5m", 31 * 10**9),
        ("1μs1µs1us", 3000),
        ("0.0000000001ns", 0),
        ("9223372036854775807ns", 2**63 - 1),
        ("2562047h", 2562047 * 3600 * 10**9),
        ("9223372036854775808ns", None),
        ("2562048h", None),
        ("5", None),
        (".s", None),
        ("1e3s", None),
        ("--1s", None),
        ("1H", None),
        ("1h 5m", None),
    ],
)
def test_a_duration_is_as_long_as_go_says(text: str, length: int | None) -> None:
    assert nanoseconds(text) == length


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("1500ms", "1.5s"),
        ("60m", "1h0m0s"),
        ("0s", "0s"),
        ("overlayfs", "overlayfs"),
        (True, True),
        ({"a": 1}, {"a": 1, "b": ""}),
        ([{"a": "1000ms"}], [{"a": "1s", "b": []}]),
        (("x",), ["x"]),
        ({}, {"anything": 1}),
    ],
)
def test_a_normalised_value_agrees(wanted: Any, found: Any) -> None:
    assert agrees(wanted, found)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("1s", "2s"),
        ("1s", "soon"),
        ("soon", "1s"),
        (1, True),
        (False, 0),
        (False, None),
        ("1", 1),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, None),
        (["a", "b"], ["a"]),
        (["a", "b"], ["b", "a"]),
    ],
)
def test_another_value_does_not_agree(wanted: Any, found: Any) -> None:
    assert not agrees(wanted, found)
