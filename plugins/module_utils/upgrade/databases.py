# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which version of containerd opens the databases of another one, and whose running containers it finds.

No release refuses or changes a database of a newer one: containerd core/metadata/db.go, Init, only runs the migrations that a
database lacks, and no migration has changed what an older release reads. tests/integration/test_databases.py measures it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import LINES, OLDEST, Line, Version

# The daemon's directory of running containers, below its state directory: NAMESPACE/ID/FILE.
BUNDLES = "io.containerd.runtime.v2.task"
ADDRESS, BOOTSTRAP = "address", "bootstrap.json"


@dataclass(frozen=True)
class Format:
    """The databases of a release.

    ``metadata`` is the version of meta.db's schema (core/metadata/db.go, dbVersion). ``shim_files`` are the files in which the
    shim's address is looked for (core/runtime/v2/shim_manager.go, restoreBootstrapParams; runtime/v2/shim.go, loadShim).
    """

    metadata: int
    shim_files: frozenset[str]


_V1 = Format(metadata=3, shim_files=frozenset({ADDRESS}))
_V2 = Format(metadata=4, shim_files=frozenset({ADDRESS, BOOTSTRAP}))


def format_of(version: Version) -> Format:
    """Return the format of a release. Lines that are newer than the measured ones count as the newest one."""
    return _V1 if version.major == 1 else _V2


def opens(reader: Version, writer: Version) -> bool:
    """Return whether a version opens the databases that another version has written, without losing entries.

    For lines that aren't measured yet, the answer is an assumption. Copies are restored if the daemon does not start.
    """
    return not (reader < OLDEST or writer < OLDEST)


def adopts(reader: Version, bundle: Collection[str]) -> bool:
    """Return whether a version finds the shim of a running container, by the names of the files in the container's bundle.

    A version that doesn't find the shim ends the container when it starts. Shims of 1.x write ADDRESS. 2.x writes only
    BOOTSTRAP, for shims with another protocol than those of 1.x.
    """
    return not format_of(reader).shim_files.isdisjoint(bundle)


def bundle_of(starter: Version) -> tuple[str, ...]:
    """Return the files with the shim's address that a container has in its bundle, by the version that started it."""
    return (ADDRESS,) if starter.major == 1 else (BOOTSTRAP,)


def measured_lines() -> tuple[Line, ...]:
    """Return the lines whose tested releases have been measured with each other."""
    return tuple(line for line in LINES if line.tested)
