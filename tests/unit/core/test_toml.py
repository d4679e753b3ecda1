# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tomllib
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.toml import parse, render, value_text
from ansible_collections.slipway.node.plugins.module_utils.core.toml_edit import edit
from ansible_collections.slipway.node.plugins.module_utils.core.toml_lines import edit_lines
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, dotted, edited_tree, flatten, lookup, quote

# Bare names, names that have to be quoted, and the empty one.
KEYS = st.sampled_from(["a", "b-1", "io.containerd.grpc.v1.cri", 'quote "', "", "é", "line\nbreak"]) | st.text(max_size=3)
SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(['say "no"', "C:\\path", "tab\tnul\x00del\x7fcr\r\n", "'''", '"""', "[table]", "# no comment"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
TREES = st.dictionaries(KEYS, VALUES, max_size=4)
quick = settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))


@given(TREES, st.sampled_from(["", "a comment\nof two lines"]))
@quick
def test_every_tree_survives_writing_and_parsing(tree: dict[str, Any], comment: str) -> None:
    text = render(tree, comment)
    assert tomllib.loads(text) == tree
    assert parse(text) == tree
    assert render(parse(text), comment) == text


@given(VALUES)
@quick
def test_every_value_survives_writing_and_parsing(value: Any) -> None:
    assert tomllib.loads(f"key = {value_text(value)}") == {"key": value}


@given(st.text())
@quick
def test_every_text_survives_quoting(text: str) -> None:
    assert tomllib.loads(f"{quote(text)} = {quote(text)}") == {text: text}


def test_booleans_are_not_numbers() -> None:
    assert (value_text(True), value_text(1), value_text(1.0)) == ("true", "1", "1.0")


@pytest.mark.parametrize("value", [None, object(), [1, None], {"a": {"b": None}}, b"bytes"])
def test_refuses_what_toml_cannot_say(value: Any) -> None:
    with pytest.raises(ValueError, match="TOML has no way to write"):
        value_text(value)


@pytest.mark.parametrize("text", ["a = ", "a = 1\na = 2", "[a\n"])
def test_bad_toml_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse(text)


@given(TREES)
@quick
def test_parses_alike_without_the_standard_library(tree: dict[str, Any]) -> None:
    text = render(tree)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toml, "_loads", None)
        patch.setattr(toml, "tomlkit", tomlkit)
        assert parse(text) == tree
        with pytest.raises(ValueError, match="line"):
            parse("a = 1\na = 2\nb = ")


# Documents as people write them: each line may have a comment of its own above or beside it.


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines = render(draw(TREES)).split("\n")
    commented = []
    for number, line in enumerate(lines):
        if draw(st.booleans()):
            commented.append(f"  # above {number}")
        commented.append(f"{line}  # beside {number}" if line and draw(st.booleans()) else line)
    return "\n".join(commented) + draw(st.sampled_from(["", "\n"]))


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, dict[Path, Any], list[Path]]:
    """A document, keys to set in it (new ones and some of its own), and keys of its own to remove."""
    text = draw(documents())
    # A table takes the comments in it along.
    leaves = [path for path, value in flatten(tomllib.loads(text)).items() if value != {}]
    own = st.sampled_from(leaves) if leaves else st.just(("nowhere",))
    fresh = st.tuples(st.just("plugins"), st.sampled_from(["io.containerd.x", "y"]), st.sampled_from(["k", "l"]))
    put = draw(st.dictionaries(own | fresh, VALUES, max_size=3))
    drop = draw(st.lists(own, max_size=2, unique=True))
    return text, put, [path for path in drop if path not in put]


def trailing(text: str) -> list[str]:
    return [line[line.index("# above") :] for line in text.split("\n") if line.strip().startswith("# above")]


@given(edits())
@quick
def test_an_edit_changes_what_it_says_and_nothing_else(case: tuple[str, dict[Path, Any], list[Path]]) -> None:
    text, put, drop = case
    edited = edit(text, put=put, drop=drop)
    assert tomllib.loads(edited) == edited_tree(tomllib.loads(text), put=put, drop=drop)
    assert trailing(edited) == trailing(text)


@given(edits())
@quick
def test_an_edit_done_again_changes_nothing(case: tuple[str, dict[Path, Any], list[Path]]) -> None:
    text, put, drop = case
    edited = edit(text, put=put, drop=drop)
    assert tomllib.loads(edit(edited, put=put, drop=drop)) == tomllib.loads(edited)


ADMIN = """\
# The node's containerd, see the wiki
version = 2   # schema

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = 'registry.example/pause:1' # mirrored
    # networks
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"

[debug]
# noisy
level = "info"
"""
CRI = ("plugins", "io.containerd.grpc.v1.cri")


def test_a_key_is_set_in_its_table_and_the_rest_stays_byte_for_byte() -> None:
    edited = edit(ADMIN, put={(*CRI, "sandbox_image"): "registry.example/pause:2"})
    assert edited == ADMIN.replace("'registry.example/pause:1'", '"registry.example/pause:2"')
    assert edit(ADMIN, put={}) == ADMIN


def test_a_new_key_goes_and_leaves_the_document_as_it_was() -> None:
    put = {(*CRI, "containerd", "snapshotter"): "native", ("root",): "/srv/containerd"}
    edited = edit(ADMIN, put=put)
    assert tomllib.loads(edited)["plugins"][CRI[1]]["containerd"] == {"snapshotter": "native"}
    assert tomllib.loads(edited)["root"] == "/srv/containerd"
    back = edit(edited, put={}, drop=put, drop_if_empty=[(*CRI, "containerd")])
    assert tomllib.loads(back) == tomllib.loads(ADMIN)
    assert [line for line in back.splitlines() if "#" in line] == [line for line in ADMIN.splitlines() if "#" in line]


def test_a_table_that_is_not_empty_stays() -> None:
    edited = edit(ADMIN, put={}, drop=[(*CRI, "sandbox_image")], drop_if_empty=[CRI, (*CRI, "cni"), ("nowhere",)])
    assert tomllib.loads(edited)["plugins"] == {CRI[1]: {"cni": {"bin_dir": "/usr/lib/cni"}}}


@pytest.mark.parametrize(
    "text",
    [
        'plugins = { "x" = { a = 1 } }\n',
        'plugins."x".a = 1\n',
        '[plugins]\n[plugins.x]\na = 1\n[debug]\n[plugins."y"]\nb = 1\n',
        "[plugins.x.deeper]\nc = 1\n[debug]\n[plugins.x]\na = 1\n",
        '[plugins."x"]\r\na = 1\r\n',
    ],
)
def test_sets_a_key_however_the_table_is_written(text: str) -> None:
    put: dict[Path, Any] = {("plugins", "x", "b"): [{"c": True}], ("plugins", "new", "table"): {"d": 1}}
    edited = edit(text, put=put)
    tree = tomllib.loads(text)
    tree["plugins"]["x"]["b"] = [{"c": True}]
    tree["plugins"]["new"] = {"table": {"d": 1}}
    assert tomllib.loads(edited) == tree


def test_a_document_that_tomlkit_would_spoil_is_edited_by_lines() -> None:
    text = '[plugins]\nx.a = 1\n[debug]\n[plugins."y"]\nb = 1\n'
    put: dict[Path, Any] = {("plugins", "x", "deeper", "b"): 1}
    assert parse(edit(text, put=put)) == edited_tree(parse(text), put=put)


def test_refuses_a_document_that_it_would_spoil() -> None:
    """Neither tomlkit nor the lines set a key in an entry of a list of tables."""
    text = "[plugins]\nx = [{ a = 1 }]\n[debug]\n[plugins.y]\nb = 1\n"
    with pytest.raises(ValueError, match=r"plugins\.x is not a table there"):
        edit(text, put={("plugins", "x", "a"): 2})


def test_an_emptied_table_with_a_comment_in_it_stays() -> None:
    text = "[debug]\nlevel = 1\n\n# what follows is about metrics\n[metrics]\naddress = ''\n"
    edited = edit(text, put={}, drop=[("debug", "level")], drop_if_empty=[("debug",)])
    assert edited == text.replace("level = 1\n", "")
    bare = edit(
        text.replace("# what follows is about metrics\n", ""), put={}, drop=[("debug", "level")], drop_if_empty=[("debug",)]
    )
    assert tomllib.loads(bare) == {"metrics": {"address": ""}}


@pytest.mark.parametrize("text", ["plugins = 5\n", "[[plugins]]\na = 1\n", 'plugins = "x"\n'])
def test_refuses_to_set_a_key_below_something_that_is_no_table(text: str) -> None:
    with pytest.raises(ValueError, match="plugins is not a table there"):
        edit(text, put={("plugins", "x"): 1})
    assert edit(text, put={("root",): "/srv"}, drop=[("nothing", "here")]) is not None


def test_lists_of_tables_are_edited() -> None:
    assert dotted(next(iter(flatten(parse("[[a.b]]\nc = 1\n"))))) == "a.b"
    edited = edit("[[a.b]]\nc = 1 # one\n\n[[a.b]]\nc = 2\n", put={("a", "d"): [{"e": "f"}], ("g",): []})
    assert tomllib.loads(edited) == {"a": {"b": [{"c": 1}, {"c": 2}], "d": [{"e": "f"}]}, "g": []}


CRI = ("plugins", "io.containerd.grpc.v1.cri")
SECTIONS: dict[Path, str] = {
    ("plugins",): "",
    CRI: 'sandbox_image = "a" # the registry\'s\n',
    (*CRI, "containerd"): 'snapshotter = "native"\n',
    (*CRI, "containerd", "runtimes", "runc"): "runtime_type = 'runc' # ours\n",
    (*CRI, "containerd", "runtimes", "runc", "options"): "SystemdCgroup = false\n",
    (*CRI, "registry"): 'config_path = "/a"\nlist = [ # of two\n  "a = 1",\n  "[b]"]\n',
    ("debug",): "# why\nlevel = 'info'\n",
}
PUTS: dict[Path, Any] = {
    ("imports",): ["/x"],
    (*CRI, "sandbox_image"): "b",
    (*CRI, "max_concurrent_downloads"): 4,
    (*CRI, "containerd", "snapshotter"): "zfs",
    (*CRI, "containerd", "runtimes", "runc", "options", "SystemdCgroup"): True,
    (*CRI, "containerd", "runtimes", "kata", "runtime_type"): "kata",
    (*CRI, "containerd", "runtimes", "kata", "options"): {},
    ("plugins", "io.containerd.service.v1.diff-service", "sync_fs"): True,
}


@given(st.permutations(sorted(SECTIONS)), st.integers(1, len(SECTIONS)), st.sets(st.sampled_from(sorted(PUTS)), min_size=1))
@settings(deadline=None, max_examples=100)
def test_tables_are_edited_in_every_order(order: list[Path], count: int, chosen: set[Path]) -> None:
    text = "version = 2\n" + "".join(f"[{dotted(path)}]\n{SECTIONS[path]}" for path in order[:count])
    tree = parse(text)
    put = {path: value for path, value in PUTS.items() if path in chosen}
    edited = edit(text, put=put)
    assert parse(edited) == edited_tree(tree, put=put)
    assert [line for line in text.splitlines() if "#" in line and "sandbox" not in line] == [
        line for line in edited.splitlines() if "#" in line and "sandbox" not in line
    ]
    known = {path: lookup(tree, path) for path in put if lookup(tree, path) is not None}
    tables = {path[:depth] for path in put for depth in range(1, len(path)) if lookup(tree, path[:depth]) is None}
    assert parse(edit(edited, put=known, drop=sorted(set(put) - set(known)), drop_if_empty=tables)) == tree


SCATTERED = """\
# the wiki has more
version = 2
[a.b.c]
x = [ 1, # one
  2 ] # end
[a.b]  # second
  y = 'y'   # why
[a]
"""


def test_a_line_is_edited_where_tables_are_scattered() -> None:
    edited = edit_lines(SCATTERED, put={("a", "b", "y"): "z", ("a", "b", "v"): 1, ("d", "e"): True}, drop=[], drop_if_empty=[])
    expected = SCATTERED.replace("  y = 'y'   # why\n", '  y = "z"  # why\n  v = 1\n') + "\n[d]\ne = true\n"
    assert edited == expected
    returned = edit_lines(edited, put={("a", "b", "y"): "y"}, drop=[("a", "b", "v"), ("d", "e")], drop_if_empty=[("d",)])
    assert parse(returned) == parse(SCATTERED)


def test_a_byte_order_mark_stays() -> None:
    text = "\ufeffversion = 2\n"
    assert parse(text) == {"version": 2}
    assert edit(text, put={("root",): "/srv"}) == '\ufeffversion = 2\nroot = "/srv"\n'


def test_lines_that_end_as_on_windows_are_edited() -> None:
    edited = edit_lines("version = 2\r\n[a.b]\r\nx = 1\r\n[a]\r\n", put={("a", "b", "x"): 2}, drop=[], drop_if_empty=[])
    assert parse(edited) == {"version": 2, "a": {"b": {"x": 2}}}
