# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory of Kata configurations as it was found: names, entries, and the order in which Kata reads drop-ins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.slipway.node.plugins.module_utils.kata.options import RUST

MAIN = "configuration.toml"
DROP_IN_DIRECTORY = "config.d"
DROP_IN = f"{DROP_IN_DIRECTORY}/60-slipway.toml"
MARK = ".slipway"
TEMPORARY_PREFIX = ".slipway-"
MODE = 0o644


FILE, LINK, DIRECTORY, OTHER = "file", "link", "directory", "other"


@dataclass(frozen=True)
class DirectoryEntry:
    """An entry of a directory. ``content`` is that of a file, or of the file that a link leads to; None for others."""

    kind: str
    content: bytes | None = None
    mode: int = 0


# A handler's directory: its entries by name, and those of config.d as ``config.d/NAME``. config.d itself is
# named only if it isn't a directory.
HandlerDirectory = Mapping[str, DirectoryEntry]


@dataclass(frozen=True)
class KataDirectory:
    """A directory of configurations. ``directories`` are the handlers', ``others`` names of links and files.

    ``leftovers`` are temporary names of a run that was cut short.
    """

    directories: Mapping[str, HandlerDirectory] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()


def reading_order(name: str) -> bytes:
    """Return the key by which Kata sorts drop-ins: the bytes of their names."""
    return name.encode("utf-8", "surrogateescape")


def check_drop_in(runtime: str, path: str, entry: DirectoryEntry) -> None:
    """Raise ValueError for what makes the runtime fail."""
    if path.rpartition("/")[2] == DROP_IN_DIRECTORY and entry.kind == LINK:
        raise ValueError(f"{path} is a link that leads to no directory, so Kata reads no drop-ins, or doesn't start: remove it")
    if path.rpartition("/")[2] == DROP_IN_DIRECTORY:
        raise ValueError(f"{path} is no directory, so Kata can't start with it: remove it")
    if entry.kind == LINK and runtime == RUST:
        raise ValueError(f"{path} is a symbolic link, and the Rust runtime doesn't start with one: put the file itself there")
    if entry.content is None:
        what = "a directory" if entry.kind == DIRECTORY else "not a file that can be read"
        raise ValueError(f"{path} is {what}, so Kata can't start with it: move it away")
