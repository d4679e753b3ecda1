# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The odd cases of layers, as containerd's archive.Apply treats them; random ones are in ../host/test_integrity.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.integrity.inode import Inode
from ansible_collections.slipway.node.plugins.module_utils.integrity.rootfs import RootFs
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import (
    CHARACTER,
    DIRECTORY,
    FILE,
    GLOBAL,
    HARD_LINK,
    SYMLINK,
    Entry,
)

Layer = Sequence[Entry]


def entry(name: str, kind: str, mode: int = 0o644, size: int = 0, target: str = "", **more: Any) -> Entry:
    device = (1, 3) if kind == CHARACTER else (0, 0)
    made = Entry(name.encode(), kind, mode, 0, 0, size, target.encode(), device, {}, size)
    return made._replace(**more)


def file(name: str, size: int = 1, mode: int = 0o644, **more: Any) -> Entry:
    return entry(name, FILE, mode, size, **more)


def directory(name: str, mode: int = 0o755, **more: Any) -> Entry:
    return entry(name, DIRECTORY, mode, **more)


def link(name: str, target: str) -> Entry:
    return entry(name, SYMLINK, 0o777, target=target)


def hard(name: str, target: str, mode: int = 0o644, **more: Any) -> Entry:
    return entry(name, HARD_LINK, mode, target=target, **more)


def tree(layers: Sequence[Layer], *, overlay: bool) -> RootFs:
    root = RootFs(overlay=overlay)
    for entries in layers:
        layer = root.layer()
        for one in entries:
            layer.add(one)
        layer.finish()
    return root


@pytest.mark.parametrize(("implied_modes", "mode"), [(True, 0o755), (False, None)])
def test_a_directory_that_no_layer_lists_has_a_mode_unless_others_give_it(implied_modes: bool, mode: int | None) -> None:
    root = RootFs(overlay=True, implied_modes=implied_modes).fork()
    layer = root.layer()
    layer.add(entry("a/b", FILE, 0o644))
    layer.add(entry("c", DIRECTORY, 0o700))
    layer.finish()
    assert {name: node.mode for name, node in root.root.children.items()} == {b"a": mode, b"c": 0o700}


def paths(root: RootFs) -> dict[str, Inode]:
    found: dict[str, Inode] = {}

    def visit(node: Inode, path: str) -> None:
        for name, child in node.children.items():
            found[f"{path}{name.decode()}"] = child
            visit(child, f"{path}{name.decode()}/")

    visit(root.root, "")
    assert len(found) == root.entries()
    return found


def names(layers: Sequence[Layer], *, overlay: bool) -> str:
    return " ".join(sorted(paths(tree(layers, overlay=overlay))))


# Layers, and which paths there are in the end, on whatever snapshotter.
SAME: dict[str, tuple[Sequence[Layer], str]] = {
    "nothing": ([[]], ""),
    "the root itself": ([[directory("./"), directory("/"), directory(".."), file("")]], ""),
    "absolute": ([[file("/etc/x")]], "etc etc/x"),
    "above the root": ([[file("../../x"), file("a/../../y"), file("/../z")]], "x y z"),
    "cleaned by spelling": ([[file("./a//b/./c"), file("a/b/../d")]], "a a/b a/b/c a/d"),
    "whiteout": ([[file("a"), file("b")], [file(".wh.a", 0)]], "b"),
    "whiteout of a directory": ([[file("a/b/c")], [file("a/.wh.b")]], "a"),
    "whiteout of nothing": ([[file("a")], [file(".wh.b"), file("c/.wh.d")]], "a c"),
    "whiteout, then a file": ([[directory("a"), file("a/b")], [file(".wh.a"), file("a")]], "a"),
    "whiteout and back": ([[file("a")], [file(".wh.a")], [file("a")]], "a"),
    "opaque": ([[file("a/b"), file("a/c/d")], [directory("a"), file("a/.wh..wh..opq"), file("a/e")]], "a a/e"),
    "opaque afterwards": ([[file("a/b")], [directory("a"), file("a/e"), file("a/.wh..wh..opq")]], "a a/e"),
    "opaque without an entry": ([[file("a/b")], [file("a/.wh..wh..opq")]], "a"),
    "opaque of nothing": ([[file("a/.wh..wh..opq"), file("a/b")], []], "a a/b"),
    "opaque, then more below": (
        [[file("a/b/c")], [directory("a"), file("a/.wh..wh..opq"), directory("a/b"), file("a/b/d")]],
        "a a/b a/b/d",
    ),
    "directory over directory": ([[file("a/b")], [directory("a", 0o700)]], "a a/b"),
    "file over directory": ([[file("a/b")], [file("a")]], "a"),
    "directory over file": ([[file("a")], [directory("a"), file("a/b")]], "a a/b"),
    "link over directory": ([[file("a/b")], [link("a", "c")]], "a"),
    "duplicate": ([[file("a", 1), file("a", 2)]], "a"),
    "duplicate directory": ([[directory("a"), file("a/b"), directory("a")]], "a a/b"),
    "file in place of a directory of its own layer": ([[file("a/b"), file("a")]], "a"),
    "links within the layer": ([[directory("b"), link("a", "b"), file("a/c")]], "a b b/c"),
    "links that lead nowhere": ([[link("a", "b/c"), file("a/d")]], "a b b/c b/c/d"),
    "links that are absolute": ([[directory("x/y"), link("x/a", "/y"), file("x/a/d")]], "x x/a x/y y y/d"),
    "links out of the tree": (
        [[link("a", "../../b"), file("a/c"), link("d/e", "/../../f"), file("d/e/g")]],
        "a b b/c d d/e f f/g",
    ),
    "global header": ([[entry("tmp/pax_global_header", GLOBAL), file("a")]], "a tmp"),
    "hard link": ([[file("a"), hard("b/c", "a")]], "a b b/c"),
    "hard link named from the root": ([[file("a/b"), hard("c", "/../a/b")]], "a a/b c"),
    "hard link through a link": ([[file("a/b"), link("d", "a"), hard("c", "d/b")]], "a a/b c d"),
}
# The same, where it depends on the snapshotter: on overlayfs, on others.
DIFFERENT: dict[str, tuple[Sequence[Layer], str, str]] = {
    "links of the layer below": ([[directory("b"), link("a", "b")], [file("a/c")]], "a a/c b", "a b b/c"),
    "whiteout, then a directory": ([[file("a/b")], [file(".wh.a"), directory("a"), file("a/c")]], "a a/b a/c", "a a/c"),
    "a device like a whiteout": ([[file("a")], [entry("a", CHARACTER, device=(0, 0))]], "", "a"),
    "a device like a whiteout below": ([[entry("a", CHARACTER, device=(0, 0))], []], "", "a"),
    "a device like a whiteout alone": ([[entry("a", CHARACTER, device=(0, 0))]], "a", "a"),
    "opaque over what was implied": ([[], [file("a/b/c"), file("a/.wh..wh..opq")]], "a a/b a/b/c", "a"),
}


@pytest.mark.parametrize("overlay", [True, False])
@pytest.mark.parametrize("case", SAME)
def test_what_there_is(case: str, overlay: bool) -> None:
    layers, expected = SAME[case]
    assert names(layers, overlay=overlay) == expected


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_there_is_depends_on_the_snapshotter(case: str) -> None:
    layers, overlay, others = DIFFERENT[case]
    assert names(layers, overlay=True) == overlay
    assert names(layers, overlay=False) == others


@pytest.mark.parametrize(
    ("layers", "complaint"),
    [
        ([[file("a"), file("a/b")]], "no directory"),
        ([[file("a"), link("b", "a"), file("b/c")]], "no directory"),
        ([[link("a", "b"), link("b", "a"), file("a/c")]], "symbolic links"),
        ([[hard("a", "b")]], "no file of its layer"),
        ([[directory("b"), hard("a", "b")]], "no file of its layer"),
        ([[file(".wh.")]], "whiteout of nothing"),
        ([[file("a/.wh..")]], "whiteout of nothing"),
        ([[file("a/.wh...")]], "whiteout of nothing"),
    ],
)
@pytest.mark.parametrize("overlay", [True, False])
def test_what_containerd_refuses(layers: Sequence[Layer], complaint: str, overlay: bool) -> None:
    with pytest.raises(ValueError, match=complaint):
        tree(layers, overlay=overlay)


def test_a_hard_link_reaches_no_lower_layer_on_overlayfs() -> None:
    layers = [[file("a")], [hard("b", "a")]]
    assert names(layers, overlay=False) == "a b"
    with pytest.raises(ValueError, match="no file of its layer"):
        tree(layers, overlay=True)
    with pytest.raises(ValueError, match="file of the same layer"):
        tree([[], [file("a"), file(".wh.a")]], overlay=True)


def test_the_latest_entry_counts() -> None:
    node = paths(tree([[file("a", 1), file("a", 2, mode=0o4755, uid=3, gid=4)]], overlay=True))["a"]
    assert (node.size, node.mode, node.uid, node.gid) == (2, 0o4755, 3, 4)
    found = paths(tree([[directory("a", 0o700), file("a/b")], [directory("a", 0o1777, gid=5)]], overlay=True))
    assert (found["a"].mode, found["a"].gid) == (0o1777, 5)


def test_hard_links_are_one_file_and_get_the_last_entrys_owner_and_mode() -> None:
    capability = {b"security.capability": b"x", b"user.y": b"z"}
    made = [file("a", 7, xattrs=capability), hard("b", "a", 0o600, uid=9)]
    found = paths(tree([made], overlay=True))
    assert found["a"] is found["b"] and found["a"].linked
    assert (found["a"].size, found["a"].mode, found["a"].uid) == (7, 0o600, 9)
    # As the kernel does when an owner is set.
    assert found["a"].xattrs == {b"user.y": b"z"}
    found = paths(tree([made, [file("b", 1)]], overlay=True))
    assert (found["a"].size, found["b"].size) == (7, 1)


def test_directories_that_no_entry_makes() -> None:
    found = paths(tree([[directory("s", 0o2775, gid=7), file("a/b/c"), file("s/t/u")]], overlay=True))
    assert (found["a/b"].mode, found["a/b"].gid) == (0o755, 0)
    assert (found["s/t"].mode, found["s/t"].gid) == (0o755, 7)


def test_directories_that_only_a_lower_layer_makes_keep_their_mode() -> None:
    lower = [directory("a", 0o711, uid=4), directory("a/b", 0o1777)]
    found = paths(tree([lower, [file("a/b/c")]], overlay=True))
    assert (found["a"].mode, found["a"].uid, found["a/b"].mode) == (0o711, 4, 0o1777)
    found = paths(tree([lower, [file(".wh.a")], [file("a/b/c")]], overlay=True))
    assert found["a/b"].mode is None, "containerd looks into the layers, of which only what they show together is known"
    found = paths(tree([[directory("b"), link("a", "b")], [file("a/c")]], overlay=True))
    assert found["a"].mode is None


def test_trusted_attributes_are_not_set() -> None:
    made = file("a", xattrs={b"trusted.overlay.opaque": b"y", b"user.a": b"b"})
    assert paths(tree([[made]], overlay=True))["a"].xattrs == {b"user.a": b"b"}


def test_a_copy_for_another_image_is_one_of_its_own() -> None:
    one = tree(
        [[file("a/b", 3, xattrs={b"user.x": b"y"}), hard("a/c", "a/b"), link("l", "a"), directory("d", 0o700)]], overlay=False
    )
    other = one.fork()
    found, copied = paths(one), paths(other)
    assert found.keys() == copied.keys() and copied["a/b"] is copied["a/c"] is not found["a/b"]
    described = ("kind", "mode", "uid", "gid", "size", "target", "device", "xattrs", "linked", "origin")
    for path, node in found.items():
        assert all(getattr(node, name) == getattr(copied[path], name) for name in described), path
    layer = other.layer()
    for entry_of_other in (file("a/.wh.b"), file("d/new"), hard("e", "a/c", 0o600)):
        layer.add(entry_of_other)
    layer.finish()
    assert sorted(paths(other)) == ["a", "a/c", "d", "d/new", "e", "l"] and sorted(paths(one)) == ["a", "a/b", "a/c", "d", "l"]
    assert (paths(one)["a/c"].mode, paths(other)["a/c"].mode) == (0o644, 0o600)
