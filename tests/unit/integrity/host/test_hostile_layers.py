# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Malicious layers: one sentence for each, no file outside the view is opened, and the memory is limited."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.integrity.rootfs import MOST_BYTES
from nodes.odd_layers import OCI

# What the files of an image may take here, so that small bombs do.
BOMB_BYTES = 6 << 20
SECRET = b"nobody's business"
# Compares directories with layers; prints, for each, what was found, and at last the most memory that any process had.
PROBE = """
import json, os, resource, sys
sys.path[:0] = json.loads(sys.argv[1])
from ansible_collections.slipway.node.plugins.module_utils.integrity.host import image_check
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.compare import compare_views
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.views import View
from ansible_collections.slipway.node.plugins.module_utils.integrity import rootfs
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Descriptor

store, shared, cases = sys.argv[2], sys.argv[3] == "shared", json.loads(sys.argv[4])
rootfs.MOST_BYTES = int(sys.argv[5])
rootfs._UNMEASURED_BYTES = rootfs.MOST_BYTES >> 4
if shared:
    image_check.WORTH_SHARING = -1
    image_check.cores = lambda: 2
print(os.getcwd(), file=sys.stderr, flush=True)
for tree, layers, overlay, level in cases:
    root = os.open(tree, os.O_RDONLY)
    (found,) = compare_views([(View(root, overlay), tuple(Descriptor(*layer) for layer in layers))], store, level)
    os.close(root)
    said = {one.path: one.problem for one in found.differences}
    print(json.dumps([found.unknown, said, found.damaged_blobs, found.count]))
# Not getrusage's: that begins with what the process had that started this one.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(max(int(status["VmHWM"].split()[0]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""


def header(name: str | bytes, size: int = 0, *, kind: bytes = b"0", target: bytes = b"", **fields: bytes) -> bytes:
    """A block; ``fields``: mode, uid, length as they are written there."""
    block = bytearray(512)

    def put(at: int, content: bytes) -> None:
        block[at : at + len(content)] = content

    put(0, name if isinstance(name, bytes) else name.encode())
    put(100, fields.get("mode", b"0000644"))
    put(108, fields.get("uid", b"0000000"))
    put(116, b"0000000")
    put(124, fields.get("length", b"%011o" % size))
    put(136, b"%011o" % 0)
    put(156, kind)
    put(157, target)
    put(257, b"ustar\x0000")
    put(148, b" " * 8)
    put(148, fields.get("checksum", b"%06o\0 " % sum(block)))
    return bytes(block)


def file(name: str, content: bytes = b"", **more: Any) -> bytes:
    return header(name, len(content), **more) + content + bytes(-len(content) % 512)


def extended(*records: bytes) -> bytes:
    """A PAX header of records KEY=VALUE."""
    return file("pax", b"".join(map(record, records)), kind=b"x")


def record(text: bytes) -> bytes:
    length = len(text) + 3
    while len(b"%d %b\n" % (length, text)) != length:
        length += 1
    return b"%d %b\n" % (length, text)


def link(name: str, target: str) -> bytes:
    return header(name, kind=b"2", target=target.encode())


def sparse(numbers: str, stored: bytes = b"", real: bytes = b"17", name: bytes = b"regular") -> bytes:
    """Format 1.0."""
    content = numbers.encode()
    content += bytes(-len(content) % 512) + stored
    version = (b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.name=" + name)
    return extended(*version, b"GNU.sparse.realsize=" + real) + file("x", content)


def long_name(size: int) -> bytes:
    return file("././@LongLink", b"n" * size, kind=b"L") + file("x")


# Each leads to the file outside, where the view has links to it.
LEADING_OUT: dict[str, Callable[[str], bytes]] = {
    "above": lambda outside: file("../../../.." + outside + "/secret", SECRET),
    "absolute": lambda outside: file(outside + "/secret", SECRET),
    "through the view's link": lambda _outside: file("out/secret", SECRET),
    "the view's link itself": lambda _outside: file("secret", SECRET),
    "through its own link": lambda outside: link("own", outside) + file("own/secret", SECRET),
    "through links": lambda outside: link("l1", "/" + "../" * 9) + link("l2", "l1" + outside) + file("l2/secret", SECRET),
    "a link to it": lambda outside: link("secret", outside + "/secret") + header("hard", kind=b"1", target=b"secret"),
    "through proc": lambda _outside: file("proc/self/root/etc/passwd", SECRET) + file("dev/fd/0", SECRET),
    "a pipe in its place": lambda _outside: file("pipe", SECRET),
    "a device in its place": lambda _outside: file("device", SECRET),
    "a sparse one": lambda _outside: sparse("1\n0\n17\n", SECRET, name=b"secret"),
}
# What they are called, and what has to be said of them; nothing: what differs is told file by file.
BROKEN: dict[str, tuple[bytes, str]] = {
    "a hard link out": (header("hard", kind=b"1", target=b"../../etc/passwd"), "which is no file of its layer"),
    "a hard link to nothing": (header("hard", kind=b"1"), "which is no file of its layer"),
    "links in a circle": (link("a", "b") + link("b", "a") + file("a/x"), "through more than 255 symbolic links"),
    "a file as a directory": (file("a", b"x") + file("a/b"), "which is no directory"),
    "a whiteout of all": (file(".wh..wh..") + file(".wh.."), "is a whiteout of nothing"),
    "a name with NUL": (extended(b"path=a\0b") + file("x"), "an extended header is broken"),
    "an attribute with NUL": (extended(b"SCHILY.xattr.user.a\0b=x") + file("x"), "an extended header is broken"),
    "an attribute too long": (extended(b"SCHILY.xattr.user.a=" + b"x" * 70_000) + file("x"), "are too many"),
    "a name too long": (extended(b"path=" + b"n" * 256) + file("x"), "is a name that is too long"),
    "a path too long": (extended(b"path=" + b"a/" * 2100 + b"b") + file("x"), "is a name that is too long"),
    "a target too long": (extended(b"linkpath=" + b"a/" * 2100) + link("x", ""), "which is too long"),
    "a huge extended header": (header("pax", 1 << 40, kind=b"x"), "is too long"),
    "an extended header of 2 MB": (extended(b"comment=" + bytes(2 << 20)) + file("x"), "is too long"),
    "a long name of 2 MB": (long_name(2 << 20), "is too long"),
    "a long name and no file": (long_name(300)[:1024], "^$"),
    "a record that lies": (file("pax", b"99 path=a\n", kind=b"x") + file("x"), "an extended header is broken"),
    "a record without end": (file("pax", b"9" * 40, kind=b"x") + file("x"), "an extended header is broken"),
    "a size of digits": (extended(b"size=" + b"9" * 30) + file("x"), "is not a number"),
    "more than there is": (header("x", 1 << 32), "ends too early"),
    "a size below zero": (header("x", length=b"\xff" * 12), "negative size"),
    "a size without end": (header("x", length=b"\x80" + b"\x7f" * 11), "ends too early"),
    "an octal 9": (header("x", length=b"00000000009"), "where a number has to be"),
    "a wrong checksum": (header("x", checksum=b"000001\0 "), "checksum is wrong"),
    "noise": (os.urandom(2048), "checksum is wrong|where a number has to be"),
    "another type": (header("x", kind=b"V"), "of a type that containerd doesn't unpack"),
    "half a block": (header("x")[:300], "ends too early"),
    "a map that overlaps": (sparse("2\n5\n9\n6\n1\n"), "pieces overlap"),
    "a map of letters": (sparse("many\n"), "map is broken"),
    "a map longer than what is stored": (sparse("1\n0\n99\n"), "longer than what is stored"),
    "a map without end": (sparse("9999999\n" + "1\n" * 600_000), "which is too long"),
    "corrupt gzip": (gzip.compress(b"")[:10] + b"\xff" * 500, "it is not gzip"),
    "gzip cut off": (gzip.compress(file("x", os.urandom(5000)))[:3000], "compressed data end too early"),
    "garbage after gzip": (gzip.compress(file("x")) + b"garbage", "it is not gzip"),
    "corrupt zstd": (b"\x28\xb5\x2f\xfd" + b"\xff" * 500, "compressed data are broken|it is not zstd|install zstd"),
}
MAPS = {name for name in BROKEN if name.startswith("a map ")}
HARMLESS: dict[str, bytes] = {
    "newlines": file("a\nb/c\td\x1b[31m", b"x"),
    "no UTF-8": header(b"\xff\xfe/\xc3"),
    "dots": file("./.././/..//x/./y", b"x") + file("..") + file("/") + file("", b"x") + header("./", kind=b"5"),
    "owner without end": extended(b"uid=" + b"9" * 19) + file("x"),
    "deep": b"".join(extended(b"path=" + b"a/" * 2000 + b"%d" % number) + file("x") for number in range(3)),
    "a file of 8 EiB": sparse("1\n0\n1\n", b"x", real=b"9223372036854775807"),
    "a piece far away": sparse("1\n4611686018427387904\n1\n", b"x"),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that no comparison has any business in."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_bytes(SECRET)
    return directory


@pytest.fixture
def view(tmp_path: Path, outside: Path) -> Path:
    """What has become of a snapshot: full of traps."""
    tree = tmp_path / "view"
    tree.mkdir()
    for name, target in (("out", outside), ("own", outside), ("secret", outside / "secret"), ("l1", "/"), ("l2", outside)):
        (tree / name).symlink_to(target)
    for name in ("proc", "dev", "etc", outside.parts[1]):
        (tree / name).symlink_to(f"/{name}")
    (tree / "regular").write_bytes(bytes(len(SECRET)))
    os.mkfifo(tree / "pipe")
    if os.geteuid() == 0:
        os.mknod(tree / "device", 0o020666, os.makedev(1, 5))
    return tree


def store(root: Path, content: bytes) -> tuple[str, str, int]:
    digest = hashlib.sha256(content).hexdigest()
    (root / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (root / "blobs/sha256" / digest).write_bytes(content)
    return OCI, f"sha256:{digest}", len(content)


Found = tuple[str, dict[str, str], list[str], int]


def probe(cases: list[Any], store_at: Path, how: str = "alone", *before: str, limit: int = MOST_BYTES) -> tuple[list[Found], int]:
    """What was found in each case, and the most memory in KiB; ``limit`` in bytes is what the files of an image may take."""
    argv = [*before, sys.executable, "-c", PROBE, json.dumps(sys.path), str(store_at), how, json.dumps(cases), str(limit)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stderr == f"{os.getcwd()}\n", done.stderr
    *found, memory = map(json.loads, done.stdout.splitlines())
    return found, memory


@pytest.mark.parametrize(("how", "overlay"), [("alone", True), ("shared", False)])
def test_nothing_outside_is_opened(tmp_path: Path, outside: Path, view: Path, how: str, overlay: bool) -> None:
    """By what the kernel says of every file that is opened, by whatever process."""
    layers = [store(tmp_path, make(str(outside)) + bytes(1024)) for make in LEADING_OUT.values()]
    cases = [[str(view), [layer], overlay, level] for layer in layers for level in ("content", "metadata")]
    cases += [[str(view), [store(tmp_path, content)], overlay, "content"] for content, _said in BROKEN.values()]
    log = tmp_path / "log"
    trace = ["strace", "-f", "-qq", "-y", "-e", "trace=open,openat,openat2,execve", "-o", str(log)]
    found, _memory = probe(cases, tmp_path, how, *trace)
    assert len(found) == len(cases)
    opened = re.findall(r"open\w*\(.* = \d+<(.*)>$", log.read_text(), re.MULTILINE)
    start = opened.index(str(view))
    own = (
        str(view),
        str(tmp_path / "blobs"),
        *(one for one in sys.path if one),
        sys.prefix,
        sys.base_prefix,
        "/usr",
        "/etc/ld.so",
    )
    wrong = [
        path for path in opened[start:] if not path.startswith(own) and not path.startswith(("/proc/", "/sys/", "/dev/null"))
    ]
    assert len(opened) > len(cases) and not wrong
    assert not [path for path in opened if str(outside) in path or "passwd" in path]
    assert shutil.which("zstd") is None or "zstd" in log.read_text()


def test_the_test_itself_sees_what_is_opened_outside(tmp_path: Path, outside: Path, view: Path) -> None:
    log = tmp_path / "log"
    argv = ["strace", "-f", "-qq", "-y", "-e", "trace=open,openat", "-o", str(log), "cat", str(view / "out/secret")]
    subprocess.run(argv, check=True, capture_output=True)
    assert str(outside / "secret") in re.findall(r"open\w*\(.* = \d+<(.*)>$", log.read_text(), re.MULTILINE)


def test_what_leads_out_is_told_as_any_difference(tmp_path: Path, outside: Path, view: Path) -> None:
    layers = [store(tmp_path, make(str(outside)) + bytes(1024)) for make in LEADING_OUT.values()]
    found, _memory = probe([[str(view), [layer], True, "content"] for layer in layers], tmp_path)
    for name, (unknown, said, damaged, count) in zip(LEADING_OUT, found):
        assert not unknown and not damaged and count == len(said) > 0, name
        assert not any("content" in problem for problem in said.values()), (name, said)


@pytest.mark.parametrize("how", ["alone", "shared"])
def test_each_gets_one_sentence(tmp_path: Path, view: Path, how: str) -> None:
    """And the same one whoever reads it, whatever the snapshotter."""
    ways = [(True, "content"), (False, "metadata")]
    if how == "alone":
        ways += [(False, "content"), (True, "metadata")]
    blobs = [store(tmp_path, content) for content, _said in BROKEN.values()]
    cases = [[str(view), [blob], overlay, level] for blob in blobs for overlay, level in ways]
    found, memory = probe(cases, tmp_path, how)
    for number, (name, (_content, sentence)) in enumerate(BROKEN.items()):
        for case, (unknown, _said, damaged, _count) in islice(zip(cases, found), len(ways) * number, len(ways) * (number + 1)):
            # A sparse file's map is only read together with its content.
            expected = "^$" if name in MAPS and case[-1] == "metadata" else sentence
            assert re.search(expected, unknown) and "\n" not in unknown and len(unknown) < 5000, (name, case, unknown)
            assert not damaged, name
    assert memory < 100_000


def test_what_is_only_odd_is_judged(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases = [
        [str(tmp_path / "empty"), [store(tmp_path, content + bytes(1024))], overlay, "content"]
        for content in HARMLESS.values()
        for overlay in (True, False)
    ]
    found, _memory = probe(cases, tmp_path)
    for name, (unknown, said, damaged, count) in zip([name for name in HARMLESS for _overlay in range(2)], found):
        assert not unknown and not damaged and count >= len(said) > 0, (name, unknown)
        assert set(said.values()) == {"missing"}, name


def entries(count: int, make: Callable[[int], bytes]) -> Iterator[bytes]:
    for number in range(count):
        yield make(number)


def attribute(number: int) -> bytes:
    return extended(b"SCHILY.xattr.user.a=" + b"%d" % number * 9000) + file(f"f{number}")


# Each would take more than it may.
BOMBS: dict[str, Callable[[], Iterator[bytes]]] = {
    "files": lambda: entries(30_000, lambda number: header(f"d{number // 100}/f{number}")),
    "files of one directory": lambda: entries(30_000, lambda number: header(f"f{number}")),
    "directories": lambda: entries(20_000, lambda number: header(f"d{number}/", kind=b"5")),
    "directories that are implied": lambda: entries(10_000, lambda number: header(f"d{number}/d/f")),
    "names of one file": lambda: chain(
        [header("f")], entries(30_000, lambda number: header(f"l{number}", kind=b"1", target=b"f"))
    ),
    "whiteouts": lambda: entries(30_000, lambda number: header(f".wh.f{number}")),
    "attributes": lambda: entries(400, attribute),
    "long names": lambda: entries(15_000, lambda number: extended(b"path=" + b"n" * 240 + b"%d" % number) + file("x")),
    "deep directories": lambda: entries(30, lambda number: extended(b"path=" + b"%d/" % number * 800 + b"x") + file("x")),
}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> int:
    """What a comparison of next to nothing takes, in KiB."""
    empty = tmp_path_factory.mktemp("empty")
    _found, memory = probe([[str(empty), [store(empty, file("x") + bytes(1024))], True, "metadata"]], empty)
    return memory


@pytest.mark.parametrize(("name", "overlay"), [*((name, True) for name in BOMBS), ("files", False), ("directories", False)])
def test_a_bomb_takes_no_memory(tmp_path: Path, ordinary: int, name: str, overlay: bool) -> None:
    """It is too much, before it has taken more than that, about; were it twice that, 100 MB wouldn't be enough on nodes."""
    memory = bomb(tmp_path, BOMBS[name](), "alone", BOMB_BYTES, overlay=overlay)
    assert memory < ordinary + 1.2 * (BOMB_BYTES >> 10) + 4096


@pytest.mark.parametrize("how", ["alone", "shared"])
def test_a_bomb_takes_less_than_100_mb(tmp_path: Path, how: str) -> None:
    """On each side, with what the files of an image may take on nodes."""
    more = entries(4000, lambda number: extended(b"path=" + b"%d/" % number * 40 + b"n" * 200) + file("x"))
    assert bomb(tmp_path, more, how, MOST_BYTES) < 100_000


def bomb(directory: Path, content: Iterator[bytes], how: str, limit: int, *, overlay: bool = True) -> int:
    """A layer that has to be found too much; returns the most memory that a process had, in KiB."""
    (directory / "empty").mkdir()
    kind, digest, size = store(directory, gzip.compress(b"".join(content), 1))
    below = store(directory, file("below") + bytes(1024))
    case = [str(directory / "empty"), [below, (f"{kind}+gzip", digest, size)], overlay, "metadata"]
    ((unknown, _said, damaged, _count),), memory = probe([case], directory, how, limit=limit)
    assert not damaged and f"too many files: they take more than {limit >> 20} MiB" in unknown, unknown
    return memory


def test_much_of_nothing_takes_no_memory(tmp_path: Path) -> None:
    """A file of 128 MiB in a small blob, as it should be."""
    (tmp_path / "view").mkdir()
    content = header("zeros", 128 << 20, uid=b"%07o" % os.getuid()) + bytes(128 << 20)
    kind, digest, size = store(tmp_path, gzip.compress(content, 1))
    with (tmp_path / "view/zeros").open("wb") as zeros:
        zeros.truncate(128 << 20)
    (tmp_path / "view/zeros").chmod(0o644)
    case = [str(tmp_path / "view"), [(f"{kind}+gzip", digest, size)], True, "content"]
    ((unknown, said, _damaged, count),), memory = probe([case], tmp_path, "shared")
    assert not unknown and not said and not count and memory < 100_000
