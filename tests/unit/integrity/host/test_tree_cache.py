# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cached tree replaces reading the layers, gives the same result, and is ignored if it is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.integrity.host import layer_jobs
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.blobs import open_layer
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.compare import compare_views
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.views import View
from ansible_collections.slipway.node.plugins.module_utils.integrity.result import Comparison
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Descriptor
from nodes.odd_layers import OCI, Archive

OWNER: dict[str, Any] = {"uid": os.getuid(), "gid": os.getgid()}
DAY = 86400


@dataclass
class Image:
    """An image of two layers, unpacked by GNU tar; ``reads`` counts the layers that were read."""

    work: Path
    layers: list[Descriptor]
    reads: list[str]

    @property
    def tree(self) -> Path:
        return self.work / "tree"

    @property
    def trees(self) -> Path:
        return self.work / "kept/trees"

    @property
    def kept(self) -> Path:
        (path,) = self.trees.iterdir()
        return path

    def blob(self, number: int) -> Path:
        return self.work / "blobs/sha256" / self.layers[number].digest[7:]

    def compare(self, *, level: str = "metadata", keep: bool = True, overlay: bool = True, count: int = 2) -> Comparison:
        self.reads.clear()
        root = os.open(self.tree, os.O_RDONLY)
        try:
            pair = (View(root, overlay), tuple(self.layers[:count]))
            (found,) = compare_views([pair], str(self.work), level, trees=str(self.trees), keep=keep)
        finally:
            os.close(root)
        return found


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    lower = Archive().directory("d", 0o755, **OWNER).link("link", "d/a", **OWNER)
    lower.add("d/a", b"12345", **OWNER).add("n\udcff\n", b"x", **OWNER).add("d/b", kind=b"1", linkname="d/a", **OWNER)
    upper = Archive().add("d/c", b"upper", **OWNER).directory("e", 0o700, **OWNER)
    layers = []
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "tree").mkdir()
    for archive in (lower, upper):
        content = archive.bytes()
        digest = hashlib.sha256(content).hexdigest()
        (tmp_path / "blobs/sha256" / digest).write_bytes(content)
        layers.append(Descriptor(OCI, f"sha256:{digest}", len(content)))
        subprocess.run(["tar", "-C", str(tmp_path / "tree"), "-xpf", "-"], input=content, check=True)
    made = Image(tmp_path, layers, [])
    read = open_layer

    def counted(root: str, one: Descriptor, **more: bool) -> object:
        made.reads.append(one.digest)
        return read(root, one, **more)

    monkeypatch.setattr(layer_jobs, "open_layer", counted)
    return made


def test_a_second_look_reads_no_layer(image: Image) -> None:
    first = image.compare()
    assert first.intact and len(image.reads) == 2 and first.total == 7
    assert image.compare(keep=False) == first and not image.reads
    assert image.compare() == first and not image.reads
    assert image.compare(level="content") == first and len(image.reads) == 2
    assert oct(image.trees.stat().st_mode)[-3:] == "700" and oct(image.kept.stat().st_mode)[-3:] == "600"


def test_nothing_is_written_unless_wanted(image: Image) -> None:
    assert image.compare(keep=False).intact and image.compare(keep=False, level="content").intact
    assert not image.trees.parent.exists()


def test_content_keeps_a_tree_too(image: Image) -> None:
    first = image.compare(level="content")
    assert image.compare() == first and not image.reads


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("d/b")


CHANGES: dict[str, Callable[[Path], None]] = {
    "/d/c": lambda tree: os.truncate(tree / "d/c", 0),
    "/d/a": lambda tree: (tree / "d/a").unlink(),
    "/e": lambda tree: (tree / "e").chmod(0o755),
    "/n\\xff\n": lambda tree: Path(os.fsdecode(os.fsencode(tree) + b"/n\xff\n")).unlink(),
    "/more": lambda tree: (tree / "more").touch(),
    "/link": lambda tree: relink(tree / "link"),
}


@pytest.mark.parametrize("path", CHANGES)
def test_what_differs_is_said_in_the_same_words(image: Image, path: str) -> None:
    assert image.compare().intact
    CHANGES[path](image.tree)
    kept = image.compare()
    assert not image.reads and path in {one.path for one in kept.differences}
    image.kept.unlink()
    assert image.compare() == kept and len(image.reads) == 2
    assert kept.lowest == (1 if path in ("/d/c", "/e") else 0)
    # Of what isn't as it should be, all is kept but a digest of what was found.
    assert image.compare() == kept and not image.reads


def test_names_that_are_one_file_no_longer_are_found(image: Image) -> None:
    assert image.compare().intact
    (image.tree / "d/b").unlink()
    (image.tree / "d/b").write_bytes(b"12345")
    (image.tree / "d/b").chmod(0o644)
    found = image.compare()
    assert [one.problem for one in found.differences] == ["is not the same file as /d/a"] and not image.reads


def test_discarded_and_damaged_blobs(image: Image) -> None:
    """Files can be judged without them; a blob of another size is damaged, of the same it is not looked into."""
    assert image.compare().intact
    image.blob(0).unlink()
    os.truncate(image.blob(1), 100)
    found = image.compare()
    assert found.damaged_blobs == tuple(image.layers[number].digest for number in (0, 1))
    assert not found.unknown and not found.differences and found.total == 7 and not found.intact
    os.truncate(image.tree / "d/a", 0)
    assert {one.path for one in image.compare().differences} == {"/d/a", "/d/b"}
    assert image.compare(level="content").unknown
    assert image.compare(overlay=False).unknown, "it was kept for another kind of snapshot"


def rewrite(path: Path, change: Callable[[dict[str, object], bytes], tuple[dict[str, object], bytes]]) -> None:
    """As another program would write it: whole and with the right checksum."""
    first, _checksum, head, packed = path.read_bytes().split(b"\n", 3)
    changed, packed = change(json.loads(head), packed)
    body = json.dumps(changed).encode() + b"\n" + packed
    path.write_bytes(first + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def foreign(path: Path) -> None:
    rewrite(path, lambda head, packed: ({**head, "layers": ["sha256:" + "0" * 64]}, packed))


def nonsense(path: Path) -> None:
    rewrite(path, lambda head, _packed: ({**head, "digest": ""}, zlib.compress(b'[["a","?",0,0,0,0,0]]\n')))


def headless(path: Path) -> None:
    rewrite(path, lambda head, packed: ({"layers": head["layers"], "overlay": True}, packed))


def too_short(path: Path) -> None:
    rewrite(path, lambda head, packed: ({**head, "digest": ""}, packed[:-4]))


def somebody_elses(path: Path) -> None:
    path.chmod(0o666)


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def miscounted(path: Path) -> None:
    content = path.read_bytes()
    assert b'"total": 7' in content
    path.write_bytes(content.replace(b'"total": 7', b'"total": 6'))


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def other_format(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"tree 2\n", b"tree 1\n"))


BROKEN = [foreign, nonsense, headless, too_short, somebody_elses, a_link, a_pipe, flipped, miscounted, torn, zeros, other_format]


@pytest.mark.parametrize("how", BROKEN, ids=lambda how: how.__name__)
def test_what_is_not_sound_is_not_used_and_made_anew(image: Image, how: Callable[[Path], None]) -> None:
    first = image.compare()
    path = image.kept
    how(path)
    assert image.compare(keep=False) == first and len(image.reads) == 2
    assert image.compare() == first and len(image.reads) == 2
    assert image.compare() == first and not image.reads


def test_an_image_of_fewer_layers_is_another(image: Image) -> None:
    assert image.compare().intact
    found = image.compare(count=1)
    assert {one.path for one in found.differences} == {"/d/c", "/e"} and len(image.reads) == 1
    assert len(list(image.trees.iterdir())) == 2


def test_nothing_is_kept_of_layers_that_are_damaged(image: Image) -> None:
    content = image.blob(1).read_bytes()
    image.blob(1).write_bytes(content[:-1] + b"x")
    assert image.compare().unknown and not image.trees.exists()


def test_what_nobody_asks_for_is_removed(image: Image) -> None:
    assert image.compare().intact
    old, recent = image.trees / f"{'0' * 64}.tree", image.trees / f"{'1' * 64}.tree"
    left, alien = image.trees / "left.tmp", image.trees / "notes"
    for path, days in ((old, 31), (recent, 29), (left, 2), (alien, 99), (image.kept, 20)):
        path.touch()
        moment = path.stat().st_mtime - days * DAY
        os.utime(path, (moment, moment))
    used = next(path for path in image.trees.iterdir() if path not in (old, recent, left, alien))
    before = used.stat().st_mtime
    assert image.compare().intact and not image.reads
    assert used.stat().st_mtime > before, "its use is noted"
    assert image.compare(count=1).total
    assert {path.name for path in image.trees.iterdir()} > {recent.name, alien.name, used.name}
    assert not old.exists() and not left.exists()


def test_a_directory_that_cannot_be_written_costs_nothing_but_time(image: Image) -> None:
    image.trees.parent.write_text("in the way")
    assert image.compare().intact and len(image.reads) == 2
    assert image.compare().intact and len(image.reads) == 2


def test_no_temporary_file_is_left(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        assert image.compare().intact
    assert list(image.trees.iterdir()) == []
