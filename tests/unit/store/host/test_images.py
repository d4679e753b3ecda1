# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Reference, parse_references
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import parse_root
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import parse_snapshots

VERSIONS = ("1.6.20", "1.7.24", "2.1.9")
Recorded = Callable[[str, str], str]
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_the_list_of_images(recorded: Recorded, version: str) -> None:
    assert parse_references(recorded(version, "images-ls.txt")) == (
        Reference("registry.example/deep:1", MANIFEST, "sha256:9bb468e9cd355c433f29cf699ed838524b6821621b7717f86f3f5ece4c4db761"),
        Reference("registry.example/deep:2", INDEX, "sha256:6314c2b4112f5d7655e3cc288fc2f45f83b97ff9c89bbafc7e0c40d586406716"),
        Reference("registry.example/deep:3", INDEX, "sha256:7eb26fdde5f740a3494461cadb427d9bbbf8bcc833c6d16607da50f4d495664a"),
    )


@pytest.mark.parametrize("stdout", ["", "REF TYPE DIGEST SIZE PLATFORMS LABELS \n"])
def test_reads_the_list_of_no_images(stdout: str) -> None:
    assert parse_references(stdout) == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_layers_are_among_the_snapshots(recorded: Recorded, version: str) -> None:
    """Not containers' own, such as the one with a space in its key."""
    found = parse_snapshots(recorded(version, "snapshots-ls.txt"))
    assert {key for key, one in found.items() if one.is_layer} == {
        "sha256:df3bef71277467a17b7175bd4e2476dcaecc66ec61baf14b5a293ed1e4564adf",
        "sha256:c60d743e214e0d3f591512157c8211983024334816efd24754bf288b2bd1bb89",
    }
    assert any(" " in key and not one.is_layer for key, one in found.items())


def test_an_image_is_synced_as_long_as_its_name_stands_for_it() -> None:
    row = "r.example/a:1 {type} sha256:{digest} 194.3 KiB linux/amd64 k=v w,slipway.node/synced.overlayfs=sha256:{label},l=m \n"
    listing = "REF TYPE DIGEST SIZE PLATFORMS LABELS \n" + row
    (one,) = parse_references(listing.format(type=MANIFEST, digest="a" * 64, label="a" * 64))
    assert one.synced == {"overlayfs"}
    (moved,) = parse_references(listing.format(type=MANIFEST, digest="b" * 64, label="a" * 64))
    assert moved.synced == frozenset()


@pytest.mark.parametrize("version", VERSIONS)
def test_finds_the_directory_that_a_plugin_exports(recorded: Recorded, version: str) -> None:
    listing = recorded(version, "plugins-overlayfs.txt")
    assert parse_root(listing) == "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
    assert parse_root(listing.replace("/var/lib/", "/srv/two words/")).startswith("/srv/two words/containerd/")  # type: ignore[union-attr]
    assert parse_root("") is None


@pytest.mark.parametrize("version", VERSIONS)
def test_what_images_were_unpacked_for_is_known_without_the_snapshotter(recorded: Recorded, version: str, tmp_path: Path) -> None:
    """The daemon has no devmapper there."""
    listing = tmp_path / "listing"
    listing.write_text(recorded(version, "content-ls.txt"))
    program = tmp_path / "ctr"
    program.write_text(f"#!/bin/sh\nexec cat {listing}\n")
    program.chmod(0o755)
    store = NamespaceStore(Ctr(Runner(Module()), "/run/none.sock", str(tmp_path / "containerd")), "default")
    one, two = (f"sha256:{key}" for key in (
        "2741dd984b7a00931cb9096f0511b921880d8d56545da27e10551c125f51d531",
        "2b356b3d7aa1231d2f87685565e1d830e955a054a095e34fe59ac3bfec475c91",
    ))  # fmt: skip
    assert store.content.unpacked_for("devmapper") == {one}
    assert store.content.unpacked_for("overlayfs") == {one, two}
    assert store.content.unpacked_for("2") == frozenset()


class Module:
    """Runs what it is told, as AnsibleModule does."""

    def run_command(self, args: list[str], **_options: Any) -> tuple[int, str, str]:
        done = subprocess.run(args, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def get_bin_path(self, arg: str, required: bool, opt_dirs: list[str]) -> str | None:
        return None


# What ctr 1.7.24 said where garbage collection had removed the lowest layer in the meantime.
COLLECTED = (
    'ctr: failed to prepare extraction snapshot "extract-725239722-bMn6 sha256:d828f6fc9f4749c7616ae67199658851210a029c7f": '
    "parent snapshot sha256:c5b49b1805d5b258eba8f60c88c535eb38b591a258d3c1bddb5c4db76ec0003c does not exist: not found"
)


def store_that_fails(directory: Path, *, times: int, saying: str) -> tuple[NamespaceStore, Path]:
    """A store whose ctr fails so often, and the file that gets a line for each of its calls."""
    (directory / "reason").write_text(saying)
    calls = directory / "calls"
    program = directory / "ctr"
    program.write_text(
        f"#!/bin/sh\necho >> {calls}\n[ $(wc -l < {calls}) -gt {times} ] && exit 0\ncat {directory}/reason >&2\nexit 1\n"
    )
    program.chmod(0o755)
    return NamespaceStore(Ctr(Runner(Module()), "/run/none.sock", str(directory / "containerd")), "default"), calls


@pytest.mark.parametrize(("times", "saying", "called", "fails"), [
    (0, "", 1, False),
    (2, COLLECTED, 3, False),
    (9, COLLECTED, 3, True),
    (9, "ctr: no space left on device", 1, True),
])  # fmt: skip
def test_unpacks_again_what_garbage_collection_has_taken(
    tmp_path: Path, times: int, saying: str, called: int, fails: bool
) -> None:
    store, calls = store_that_fails(tmp_path, times=times, saying=saying)
    reason = ""
    try:
        store.snapshots("devmapper").unpack("sha256:" + "a" * 64)
    except HostError as error:
        reason = str(error)
    assert bool(reason) == fails
    assert saying[:20] in reason or not fails
    assert len(calls.read_text().splitlines()) == called
