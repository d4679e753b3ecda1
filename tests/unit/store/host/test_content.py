# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.stand_ins import Module
from unit.store.host.noting_ctr import CONFIG, calls, store

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr, NamespaceCtr
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.store.host.content import ContentStore, DamagedDocumentError
from ansible_collections.slipway.node.plugins.module_utils.store.host.leases import Leases
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore

VERSIONS = ("1.6.20", "1.7.24", "2.1.9")
Recorded = Callable[[str, str], str]


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


def test_blobs_are_removed_and_what_only_they_kept_is_collected(tmp_path: Path) -> None:
    store(tmp_path).content.remove([CONFIG])
    assert calls(tmp_path)[0] == f"content rm {CONFIG}" and calls(tmp_path)[-1] == "leases rm --sync slipway-probe"


def test_no_blobs_are_no_work(tmp_path: Path) -> None:
    store(tmp_path).content.remove([])
    assert not (tmp_path / "calls").exists()


TEXT = b'{"name": "\xff"}'
DOCUMENT = f"sha256:{hashlib.sha256(TEXT).hexdigest()}"


def content_in(directory: Path, content: bytes | None) -> ContentStore:
    """A content store with one blob, or none, and a daemon that answers nothing."""
    blobs = directory / "root/blobs/sha256"
    blobs.mkdir(parents=True)
    if content is not None:
        (blobs / DOCUMENT.removeprefix("sha256:")).write_bytes(content)
    ctr = NamespaceCtr(Ctr(Runner(Module()), "/run/none.sock", None), "default")
    return ContentStore(ctr, Leases(ctr), lambda: str(directory / "root"))


def test_a_document_is_read_without_asking_the_daemon(tmp_path: Path) -> None:
    read = content_in(tmp_path, TEXT).document(DOCUMENT, frozenset([DOCUMENT]))
    assert read.encode(errors="surrogateescape") == TEXT


@pytest.mark.parametrize("content", [None, b"", TEXT[:-1]])
def test_a_document_that_is_not_what_its_digest_says_is_damaged(tmp_path: Path, content: bytes | None) -> None:
    with pytest.raises(DamagedDocumentError) as raised:
        content_in(tmp_path, content).document(DOCUMENT, frozenset([DOCUMENT]))
    assert raised.value.digest == DOCUMENT


def test_a_document_of_another_namespace_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not in the content store"):
        content_in(tmp_path, TEXT).document(DOCUMENT, frozenset())
