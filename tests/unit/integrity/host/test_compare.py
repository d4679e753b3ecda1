# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random layers: the expected files are those that GNU tar unpacks, and every change is found."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.integrity.host import image_check, layer_jobs
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.blobs import open_layer
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.compare import compare_views, lowest_lost
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.layer_reader import LayerReader
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.views import LostSnapshotError, View
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.walk import TreeComparer
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import CONTENT, METADATA
from ansible_collections.slipway.node.plugins.module_utils.integrity.result import Comparison
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Descriptor

ROOT = os.geteuid() == 0
OWNERS = [0, 7, 1000] if ROOT else [os.getuid()]
KINDS = ["file", "file", "file", "directory", "directory", "link", "pipe", "hard link", *["device"] * ROOT]

# A layer: what is at some paths, what is taken away, which directories are opaque, and a seed for the rest.
Spec = tuple[dict[str, str], list[str], list[str], int]
names = st.sampled_from(["a", "b", "ü", "c" * 120])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
specs = st.tuples(
    st.dictionaries(paths, st.sampled_from(KINDS), max_size=12),
    st.lists(paths, max_size=3, unique=True),
    st.lists(paths, max_size=2, unique=True),
    st.integers(0, 1 << 30),
)


def above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def build(spec: Spec, directory: Path, implied: set[str]) -> list[str]:
    """Make a layer's files in a directory; returns the members for tar, without some directories that are implied."""
    wanted, removed, opaque, seed = spec
    source = random.Random(seed)
    kinds: dict[str, str] = {}
    for path, kind in sorted(wanted.items()):
        if all(kinds.get(parent, "directory") == "directory" for parent in above(path)):
            kinds.update(dict.fromkeys(above(path), "directory"))
            kinds[path] = kind
    files: list[str] = []
    for path, kind in sorted(kinds.items()):
        make(directory / path, kind, source, files, directory)
        if not (directory / path).is_symlink() and not (path in implied and kind == "directory"):
            # Not setgid for a directory: new ones in it inherit the bit, which tar doesn't always take away again.
            (directory / path).chmod(source.choice([0o755, 0o700, 0o644, 0o4755, 0o1777, *[0o2711] * (kind != "directory")]))
        if path in implied and kind == "directory":
            (directory / path).chmod(0o755)
    members = [path for path, kind in kinds.items() if not (kind == "directory" and path in implied and path not in wanted)]
    marks = [str(Path(path).parent / f".wh.{Path(path).name}") for path in removed if path not in kinds]
    marks += [f"{path}/.wh..wh..opq" for path in opaque if kinds.get(path) == "directory" and path in members]
    for mark in marks:
        if all(kinds.get(parent, "") == "directory" for parent in above(mark)):
            (directory / mark).touch()
            members.append(mark)
    # A directory's entry comes before what is in it, all the rest in any order; hard links after their files.
    source.shuffle(members)
    return sorted(members, key=lambda path: (kinds.get(path) != "directory" and 1000) or path.count("/"))


def make(path: Path, kind: str, source: random.Random, files: list[str], root: Path) -> None:
    if kind == "directory":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "link":
        path.symlink_to(source.choice(["a", "../b", "/c", "nowhere", "ü"]))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, 0o020644, os.makedev(source.randrange(1, 300), source.randrange(300)))
    elif kind == "hard link" and files:
        path.hardlink_to(root / source.choice(files))
        return
    else:
        path.write_bytes(source.randbytes(source.choice([0, 1, 511, 512, 513, 5000])))
        files.append(str(path.relative_to(root)))
    os.chown(path, source.choice(OWNERS), source.choice(OWNERS), follow_symlinks=False)


def extract(archive: Path, target: Path) -> None:
    """A layer over what is there: whiteouts and replaced files by hand, the rest by GNU tar."""
    members = subprocess.run(
        ["tar", "--null", "--quoting-style=literal", "-tf", str(archive)], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for member in members:
        path = target / member.rstrip("/")
        for one in [*(target / parent for parent in above(member.rstrip("/"))), path]:
            replaced = one.is_symlink() or one.exists()
            if replaced and not (one.is_dir() and not one.is_symlink() and (one != path or member.endswith("/"))):
                remove(one)
        if path.name == ".wh..wh..opq":
            for child in path.parent.iterdir() if path.parent.is_dir() else ():
                remove(child)
        elif path.name.startswith(".wh."):
            remove(path.with_name(path.name[4:]))
    subprocess.run(
        ["tar", "-C", str(target), "--exclude=.wh.*", "--numeric-owner", "-pxf", str(archive)], check=True, umask=0o022
    )


def remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


def store(root: Path, archive: Path) -> Descriptor:
    content = archive.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    (root / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (root / "blobs/sha256" / digest).write_bytes(content)
    return Descriptor("application/vnd.oci.image.layer.v1.tar", f"sha256:{digest}", len(content))


@contextmanager
def image(layers: Sequence[Spec], form: str) -> Iterator[tuple[Path, Callable[..., Comparison]]]:
    """The tree that GNU tar makes of them, and what compares it."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        tree = work / "tree"
        tree.mkdir()
        # Where anything else ever was, a directory is never left to be implied.
        others = {path for spec in layers for path, kind in spec[0].items() if kind != "directory"}
        others |= {path for spec in layers for path in (*spec[1], *spec[2])}
        descriptors = []
        for number, spec in enumerate(layers):
            source = work / f"layer{number}"
            source.mkdir()
            every = {parent for path in spec[0] for parent in above(path)}
            earlier = {path for one in layers[:number] for path in (*one[0], *(up for each in one[0] for up in above(each)))}
            # What is implied is lost to an opaque marker, on some snapshotters.
            opaque = {path for path in every if not set(above(path)).isdisjoint(spec[2])}
            implied = {path for path in every if spec[3] % 2 and path not in others | earlier | opaque | set(spec[0])}
            members = build(spec, source, implied)
            archive = work / f"{number}.tar"
            argv = ["tar", "-C", str(source), f"--format={form}", "--no-recursion", "-cf", str(archive), "--null", "-T", "-"]
            subprocess.run(argv, input="\0".join(members), text=True, check=True)
            extract(archive, tree)
            descriptors.append(store(work, archive))

        def compare(*, overlay: bool, level: str = CONTENT, **more: Any) -> Comparison:
            return compared([(tree, descriptors)], work, overlay=overlay, level=level, **more)[0]

        yield tree, compare


def compared(
    trees: Sequence[tuple[Path, Sequence[Descriptor]]],
    store: Path,
    *,
    overlay: bool = True,
    level: str = CONTENT,
    shared: bool = False,
    kept: Path | None = None,
) -> tuple[Comparison, ...]:
    """``shared``: by several processes, however little there is to do; ``kept``: where expected trees are kept."""
    roots = [os.open(tree, os.O_RDONLY) for tree, _layers in trees]
    pairs = [(View(root, overlay), tuple(layers)) for root, (_tree, layers) in zip(roots, trees)]
    try:
        with pytest.MonkeyPatch.context() as patch:
            if shared:
                patch.setattr(image_check, "WORTH_SHARING", -1)
                patch.setattr(image_check, "cores", lambda: 3)
            return compare_views(pairs, str(store), level, trees=str(kept) if kept else None, keep=True)
    finally:
        for root in roots:
            os.close(root)


@settings(max_examples=30, deadline=None)
@given(st.lists(specs, min_size=1, max_size=4), st.sampled_from(["gnu", "pax"]), st.booleans(), st.booleans())
def test_random_layers_are_as_tar_unpacks_them(layers: list[Spec], form: str, overlay: bool, shared: bool) -> None:
    """Whether they are read by this process or by others, and by what was kept of them."""
    with image(layers, form) as (tree, compare):
        total = len(list(tree.rglob("*")))
        kept = tree.with_name("kept")
        for level, walks in ((CONTENT, True), (METADATA, True), (METADATA, False)):
            with pytest.MonkeyPatch.context() as patch:
                if not walks:
                    patch.delattr(TreeComparer, "compare")  # the digest of the view is enough
                found = compare(overlay=overlay, level=level, shared=shared, kept=kept if level == METADATA else None)
            assert found.intact and found.count == 0, found
            assert found.total == total


def change(path: Path, how: str) -> str:  # noqa: PLR0911
    """Change a file; returns a part of what has to be said of it."""
    status = path.lstat()
    directory = path.is_dir() and not path.is_symlink()
    if how == "remove":
        remove(path)
        return "missing"
    if how == "mode" and not path.is_symlink():
        path.chmod((status.st_mode & 0o7777) ^ 0o100)
        return f"has mode {(status.st_mode & 0o7777) ^ 0o100:04o}"
    if how == "owner" and ROOT:
        os.chown(path, status.st_uid + 1, status.st_gid, follow_symlinks=False)
        return f"belongs to {status.st_uid + 1}:"
    if how == "truncate" and path.is_file() and not path.is_symlink() and status.st_size:
        os.truncate(path, 0)
        return "is empty, should have"
    if how == "flip" and path.is_file() and not path.is_symlink() and status.st_size:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        path.chmod(status.st_mode & 0o7777)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return f"has other content from byte {status.st_size - 1} on"
    if how == "grow" and path.is_file() and not path.is_symlink():
        os.truncate(path, status.st_size + 1)
        return f"should have {status.st_size}"
    if how == "link" and path.is_symlink():
        path.unlink()
        path.symlink_to("elsewhere")
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
        return "leads to elsewhere"
    if how == "unlink" and status.st_nlink > 1 and not directory:
        copy = path.with_name("copy")
        shutil.copy2(path, copy)
        os.chown(copy, status.st_uid, status.st_gid)
        copy.chmod(status.st_mode & 0o7777)
        copy.rename(path)
        return "is not the same file as"
    remove(path)
    if directory:
        path.touch()
        return "is a regular file, should be a directory"
    path.mkdir()
    return "is a directory, should be"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(specs, min_size=1, max_size=3),
    st.sampled_from(["remove", "mode", "owner", "truncate", "flip", "grow", "link", "unlink", "type", "add"]),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_every_change_is_found(layers: list[Spec], how: str, source: random.Random, shared: bool) -> None:
    """By its layers, and but for the bytes of files by what was kept of them."""
    with image(layers, "pax") as (tree, compare):
        kept = tree.with_name("kept")
        assert compare(overlay=True, level=METADATA, kept=kept).intact
        there = sorted(tree.rglob("*"))
        if how == "add" or not there:
            directories = [tree, *(path for path in there if path.is_dir() and not path.is_symlink())]
            path = source.choice(directories) / "added"
            path.touch()
            problem = "should not be there"
        else:
            path = source.choice(there)
            listed = any(str(path.relative_to(tree)) in spec[0] for spec in layers)
            # From the third layer on, mode and owner of a directory that no layer lists may come from what others hide.
            assume(listed or how not in ("mode", "owner") or not path.is_dir() or len(layers) < 3)
            problem = change(path, how)
        found = compare(overlay=True, shared=shared)
        named = {difference.path: difference.problem for difference in found.differences}
        wanted = f"/{path.relative_to(tree)}"
        # Said of one of the names of a file that has several.
        of_one_name = problem.startswith(("is not the same file as", "has other content"))
        if of_one_name and wanted not in named:
            assert any(said.startswith(problem) for said in named.values()), (named, wanted)
        else:
            assert problem in named.get(wanted, ""), (named, wanted, problem)
        assert not found.intact and found.count == len(named) > 0
        assert found.lowest < len(layers)
        again = compare(overlay=True, level=METADATA, kept=kept)
        assert again == (compare(overlay=True, level=METADATA) if how == "flip" else found)


def test_differences_beyond_a_hundred_are_counted() -> None:
    many = {f"{name}/{other}": "file" for name in "abcdefghijklmno" for other in "abcdefghij"}
    with image([(many, [], [], 0)], "pax") as (tree, compare):
        for path in tree.iterdir():
            remove(path)
        found = compare(overlay=True)
        assert (len(found.differences), found.count, found.total) == (100, 165, 165)


@pytest.mark.skipif(not ROOT, reason="another's file cannot be made")
def test_names_that_are_no_text_can_be_shown() -> None:
    with image([({"a": "directory"}, [], [], 0)], "pax") as (tree, compare):
        Path(os.fsdecode(os.fsencode(tree) + b"/a/\xff\n")).touch()
        assert [difference.path for difference in compare(overlay=True).differences] == ["/a/\\xff\n"]


def layer(store_at: Path, number: int, make: Callable[[Path], None], *, members: Sequence[str] = (".",)) -> Descriptor:
    source = store_at / f"source{number}"
    source.mkdir()
    make(source)
    archive = store_at / f"{number}.tar"
    subprocess.run(["tar", "-C", str(source), "-cf", str(archive), *members], check=True)
    return store(store_at, archive)


def test_a_hard_link_is_compared_though_its_first_name_is_gone(tmp_path: Path) -> None:
    """Or is another file now, of the same size."""

    def lower(path: Path) -> None:
        for name in ("a", "b"):
            (path / name).write_text("same size")
            (path / f"link-{name}").hardlink_to(path / name)

    def upper(path: Path) -> None:
        (path / ".wh.a").touch()
        (path / "b").write_text("another!!")

    layers = [layer(tmp_path, 0, lower, members=("a", "b", "link-a", "link-b")), layer(tmp_path, 1, upper)]
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, content in (("link-a", "same size"), ("link-b", "same size"), ("b", "another!!")):
        (tree / name).write_text(content)
    (found,) = compared([(tree, layers)], tmp_path)
    assert found.intact and found.total == 3
    (tree / "link-a").write_text("Same size")
    (tree / "link-b").write_text("another!!")
    (found,) = compared([(tree, layers)], tmp_path)
    assert {(one.path, one.problem) for one in found.differences} == {
        ("/link-a", "has other content from byte 0 on"),
        ("/link-b", "has other content from byte 0 on"),
    }
    assert compared([(tree, layers)], tmp_path, level="metadata")[0].intact


@pytest.mark.parametrize("shared", [False, True])
def test_content_behind_links_is_compared(tmp_path: Path, shared: bool) -> None:
    """Where layers are unpacked over each other, a link of a layer below may lead elsewhere."""

    def lower(path: Path) -> None:
        (path / "b").mkdir()
        (path / "a").symlink_to("b")

    def upper(path: Path) -> None:
        (path / "a").mkdir()
        (path / "a/file").write_text("xyz")

    layers = [layer(tmp_path, 0, lower), layer(tmp_path, 1, upper, members=("a/file",))]
    tree = tmp_path / "tree"
    (tree / "b").mkdir(parents=True)
    (tree / "a").symlink_to("b")
    (tree / "b/file").write_text("xyz")
    assert compared([(tree, layers)], tmp_path, overlay=False, shared=shared)[0].intact
    (tree / "b/file").write_text("xyZ")
    (found,) = compared([(tree, layers)], tmp_path, overlay=False, shared=shared)
    assert [(one.path, one.problem) for one in found.differences] == [("/b/file", "has other content from byte 2 on")]
    assert found.lowest == 1


def test_the_lowest_layer_to_unpack_again_is_told(tmp_path: Path) -> None:
    def files(*names: str) -> Callable[[Path], None]:
        def make(path: Path) -> None:
            for name in names:
                (path / name).parent.mkdir(exist_ok=True)
                (path / name).write_text(name)

        return make

    made = [files("every", "a"), files("every", "b", "d/x"), files("every", "c", "d/y"), files("every", "d/y", ".wh.b")]
    layers = [layer(tmp_path, number, make) for number, make in enumerate(made)]
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("every", "a", "c", "d/x", "d/y"):
        files(name)(tree)
    assert compared([(tree, layers)], tmp_path)[0].intact
    for change, lowest in (
        (lambda: (tree / "every").write_text("?"), 3),
        (lambda: (tree / "d/y").write_text("?"), 3),
        (lambda: (tree / "d").chmod(0o700), 3),
        ((tree / "c").unlink, 2),
        (lambda: (tree / "d/x").write_text("D/x"), 1),
        (lambda: (tree / "a").write_text("A"), 0),
    ):
        change()
        (found,) = compared([(tree, layers)], tmp_path)
        assert (found.lowest, found.intact) == (lowest, False)


def test_of_what_should_not_be_there_no_layer_is_told(tmp_path: Path) -> None:
    """It may be in any of them, or have been hidden by what is lost."""

    def make(path: Path) -> None:
        (path / "file").write_text("x")

    layers = [layer(tmp_path, number, make) for number in range(2)]
    tree = tmp_path / "source1"
    (tree / "file").unlink()
    assert compared([(tree, layers)], tmp_path)[0].lowest == 1
    (tree / "more").touch()
    assert compared([(tree, layers)], tmp_path)[0].lowest == 0


def test_names_that_are_no_longer_one_file_are_found(tmp_path: Path) -> None:
    def lower(path: Path) -> None:
        (path / "a").write_text("x")
        (path / "b").hardlink_to(path / "a")

    layers = [layer(tmp_path, 0, lower, members=("a", "b"))]
    tree = tmp_path / "source0"
    assert compared([(tree, layers)], tmp_path)[0].intact
    shutil.copy2(tree / "a", tree / "copy")
    (tree / "copy").rename(tree / "b")
    (found,) = compared([(tree, layers)], tmp_path)
    assert [(one.path, one.problem) for one in found.differences] == [("/b", "is not the same file as /a")]


@pytest.mark.skipif(not ROOT, reason="only root makes devices")
def test_another_device_is_found(tmp_path: Path) -> None:
    layers = [layer(tmp_path, 0, lambda path: os.mknod(path / "a", 0o020600, os.makedev(1, 3)))]
    tree = tmp_path / "source0"
    (tree / "a").unlink()
    os.mknod(tree / "a", 0o020600, os.makedev(1, 5))
    (found,) = compared([(tree, layers)], tmp_path)
    assert [(one.path, one.problem) for one in found.differences] == [("/a", "is the device 1:5, should be 1:3")]


def test_sparse_files_are_compared_where_they_have_holes(tmp_path: Path) -> None:
    def sparse(path: Path) -> None:
        with (path / "file").open("wb") as file:
            file.seek(1 << 20)
            file.write(b"data")
            file.truncate(3 << 20)

    (tmp_path / "source0").mkdir()
    sparse(tmp_path / "source0")
    archive = tmp_path / "0.tar"
    for version in ("0.0", "0.1", "1.0"):
        form = ["--sparse", "--format=pax", f"--sparse-version={version}"]
        subprocess.run(["tar", "-C", str(tmp_path / "source0"), *form, "-cf", str(archive), "file"], check=True)
        layers = [store(tmp_path, archive)]
        tree = tmp_path / f"tree{version}"
        tree.mkdir()
        sparse(tree)
        assert compared([(tree, layers)], tmp_path)[0].intact
        for position in (0, (1 << 20) + 2, (2 << 20) + 5, (3 << 20) - 1):
            with (tree / "file").open("r+b") as file:
                file.seek(position)
                file.write(b"X")
            (found,) = compared([(tree, layers)], tmp_path)
            assert found.differences[0].problem == f"has other content from byte {position} on"
            sparse(tree)


def test_no_file_outside_is_opened(tmp_path: Path) -> None:
    """Whatever a layer, or what has become of a snapshot, leads to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("xyz")
    os.utime(outside / "secret", (1, 1))
    os.utime(outside, (1, 1))

    def lower(path: Path) -> None:
        (path / "a").mkdir()
        (path / "a/secret").write_text("xyz")
        (path / "b").write_text("xyz")

    layers = [layer(tmp_path, 0, lower)]
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").symlink_to(outside)
    (tree / "b").symlink_to(outside / "secret")
    (found,) = compared([(tree, layers)], tmp_path)
    assert {one.path: one.problem for one in found.differences} == {
        "/a": "is a symbolic link, should be a directory",
        "/a/secret": "missing",
        "/b": "is a symbolic link, should be a regular file",
    }
    assert (outside / "secret").stat().st_atime == outside.stat().st_atime == 1


@dataclass(frozen=True)
class Sharing:
    """Five layers, and the unpacked trees of five images that share them."""

    store: Path
    layers: list[Descriptor]
    trees: list[tuple[Path, list[Descriptor]]]


@pytest.fixture
def sharing(tmp_path: Path) -> Sharing:
    def content(number: int) -> Callable[[Path], None]:
        def make(path: Path) -> None:
            (path / "every").write_text(str(number))
            (path / f"file{number}").write_text("xyz")
            (path / f"link{number}").hardlink_to(path / f"file{number}")

        return make

    descriptors = [layer(tmp_path, number, content(number)) for number in range(5)]
    images = [
        descriptors[:1],
        descriptors[:2],
        descriptors[:3],
        [*descriptors[:2], descriptors[3]],
        [*descriptors[:3], descriptors[4]],
    ]
    trees = []
    for number, layers in enumerate(images):
        tree = tmp_path / f"tree{number}"
        tree.mkdir()
        for one in layers:
            subprocess.run(["tar", "-C", str(tree), "-xpf", str(tmp_path / f"{descriptors.index(one)}.tar")], check=True)
        trees.append((tree, layers))
    return Sharing(tmp_path, descriptors, trees)


def test_layers_that_images_share_are_read_once(sharing: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = open_layer

    def counted(root: str, one: Descriptor, **more: Any) -> AbstractContextManager[LayerReader]:
        opened.append(one.digest)
        return read(root, one, **more)

    monkeypatch.setattr(layer_jobs, "open_layer", counted)
    assert all(found.intact for found in compared(sharing.trees, sharing.store))
    assert sorted(opened) == sorted(one.digest for one in sharing.layers)


def test_differences_belong_to_one_of_the_images_that_share_layers(sharing: Sharing) -> None:
    (sharing.trees[2][0] / "file1").write_text("xyZ")
    (sharing.trees[3][0] / "link0").unlink()
    results = compared(sharing.trees, sharing.store)
    assert [found.intact for found in results] == [True, True, False, False, True]
    assert {one.path for one in results[2].differences} == {"/file1", "/link1"}
    assert [(one.path, one.problem) for one in results[3].differences] == [("/link0", "missing")]


def test_a_damaged_blob_is_reported_for_all_images_that_share_it(sharing: Sharing) -> None:
    damaged = sharing.layers[1].digest
    blob = sharing.store / "blobs/sha256" / damaged[7:]
    blob.write_bytes(bytes(blob.stat().st_size))
    results = compared(sharing.trees, sharing.store)
    assert [found.damaged_blobs for found in results] == [(), *[(damaged,)] * 4]
    assert [bool(found.unknown) for found in results] == [False, True, True, True, True]


def test_many_files_need_little_memory(tmp_path: Path) -> None:
    """50,000 of them, in 30 MB more than the program itself; and the images that share them hardly more."""
    lines = "\n".join(f"usr/share/directory-{number // 100}/a-name-as-long-as-usual-{number}.txt" for number in range(50_000))
    script = f"""
import sys, tracemalloc
sys.path[:0] = {sys.path!r}
from ansible_collections.slipway.node.plugins.module_utils.integrity.rootfs import RootFs
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import FILE, Entry
tracemalloc.start()
tree = RootFs(overlay=True)
for _count in range(2):
    layer = tree.layer()
    for number, name in enumerate(sys.stdin.buffer):
        layer.add(Entry(bytes(name[:-1]), FILE, 0o644, 0, 0, number * 977, b"", (0, 0), {{}}, 0), number + (1 << 40))
    layer.finish()
assert tree.entries() > 50_000
print(tracemalloc.get_traced_memory()[1])
"""
    done = subprocess.run([sys.executable, "-c", script], input=lines, text=True, check=True, capture_output=True)
    assert int(done.stdout) < 30_000_000


class LosingViews:
    """The snapshots of layers, some of which are lost: a view of those and of all on them can't be made."""

    def __init__(self, *lost: str) -> None:
        self.lost = lost

    @contextmanager
    def open(self, chain_id: str) -> Iterator[None]:
        if any(chain_id.startswith(one) for one in self.lost):
            raise LostSnapshotError("no such file or directory")
        yield


@pytest.mark.parametrize(("lost", "lowest"), [("abc", 2), ("ab", 1), ("a", 0)])
def test_only_layers_from_the_lost_one_on_are_unpacked_again(lost: str, lowest: int) -> None:
    views: Any = LosingViews(lost)
    assert lowest_lost(views, ("a", "ab", "abc")) == lowest
