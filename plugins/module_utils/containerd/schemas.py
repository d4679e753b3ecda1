# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The place of a key of one configuration schema in another.

The daemon's own migrations: containerd cmd/containerd/server/config/config.go, core/metrics/cgroups/cgroups.go,
core/runtime/v2/shim_manager.go, plugins/restart/monitor.go, plugins/cri/cri.go, plugins/cri/images/plugin.go and
plugins/cri/runtime/plugin.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.names import CRI_IMAGES, CRI_RUNTIME, CRI_V2
from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, Tree, dotted, flatten, lookup, merge, nest

_SERVER = "io.containerd.server.v1."
SERVER_GRPC = _SERVER + "grpc"
_PROMETHEUS = "io.containerd.metrics.v1.grpc-prometheus"
# The keys of CRI's table containerd that 2.x migrates only if that table has one of runtime handlers, even an empty one.
NEED_HANDLERS: tuple[Path, ...] = (("snapshotter",), ("disable_snapshot_annotations",), ("discard_unpacked_layers",))
# Names of schema 1.
_SHORT_NAMES = {
    "cri": CRI_V2,
    "cgroups": "io.containerd.monitor.v1.cgroups",
    "scheduler": "io.containerd.gc.v1.scheduler",
    "bolt": "io.containerd.metadata.v1.bolt",
    "task": "io.containerd.runtime.v2.task",
    "opt": "io.containerd.internal.v1.opt",
    "restart": "io.containerd.internal.v1.restart",
    "diff-service": "io.containerd.service.v1.diff-service",
    **{name: f"io.containerd.snapshotter.v1.{name}" for name in ("btrfs", "devmapper", "native", "overlayfs", "zfs")},
}
# What 2.x has renamed as a whole, and what it has left in the CRI service's own table.
RENAMED = {
    "io.containerd.internal.v1.restart": "io.containerd.monitor.container.v1.restart",
    "io.containerd.monitor.v1.cgroups": "io.containerd.monitor.task.v1.cgroups",
}
CRI_SERVICE_KEYS = frozenset(
    {
        "disable_tcp_service",
        "stream_server_address",
        "stream_server_port",
        "stream_idle_timeout",
        "enable_tls_streaming",
        "x509_key_pair_streaming",
    }
)
_CRI_IMAGES_KEYS = frozenset(
    {
        "registry",
        "image_decryption",
        "max_concurrent_downloads",
        "image_pull_progress_timeout",
        "image_pull_with_sync_fs",
        "stats_collect_period",
    }
)
# Tables that schema 4 has moved, and keys that didn't go with the others. A table's unknown keys go with it.
_MOVED_TABLES: Mapping[Path, Path] = {(name,): ("plugins", _SERVER + name) for name in ("grpc", "ttrpc", "metrics")} | {
    ("debug", key): ("plugins", _SERVER + "debug", key) for key in ("address", "uid", "gid")
}
_MOVED_KEYS: Mapping[Path, Path] = {
    **{
        ("grpc", f"tcp_{key}"): ("plugins", _SERVER + "grpc-tcp", key)
        for key in ("address", "tls_ca", "tls_cert", "tls_key", "tls_common_name")
    },
    ("metrics", "grpc_histogram"): ("plugins", _PROMETHEUS, "grpc_histogram"),
}
_TO_4: Mapping[Path, Path] = {**_MOVED_KEYS, **_MOVED_TABLES}
_TO_3: Mapping[Path, Path] = {new: old for old, new in _TO_4.items()}


def _substituted(path: Path, places: Mapping[Path, Path]) -> Path:
    for old, new in places.items():
        if path[: len(old)] == old:
            return (*new, *path[len(old) :])
    return path


def moved_in_4(path: Path) -> bool:
    """Return whether this is the old place of a key that schema 4 has moved. A daemon ignores it in a file of schema 4."""
    return _substituted(path, _TO_4) != path


def in_schema(tree: Mapping[str, Any], schema: int) -> Tree:
    """Return tables with the daemon's sockets and metrics in the places that a schema has for them.

    Raises ValueError for a key that is given in both places, with different values.
    """
    moved: Tree = {}
    for path, value in flatten(tree).items():
        place = _substituted(path, _TO_4 if schema >= 4 else _TO_3)
        if lookup(moved, place, value) != value:
            raise ValueError(f"{dotted(path)} and its place in another schema have different values: keep one of them")
        moved = merge(moved, nest({place: value}))
    return moved


def read_as(trees: Sequence[Mapping[str, Any]], printed: int) -> list[int]:
    """Return the schema in which a daemon that prints schema ``printed`` reads each of its files, in their order.

    A file without a version is of schema 1; for 2.0 to 2.2, which migrate all files at once, it is of the last schema that a
    file declares.
    """
    versions = (tree.get("version") for tree in trees)
    own = [version if isinstance(version, int) and version > 1 else None for version in versions]
    declared = [version for version in own if version]
    without = 1 if printed != 3 else declared[-1] if declared else printed
    return [version or without for version in own]


def place(path: Path, value: Any, written: int, printed: int) -> tuple[Path, Any]:
    """Return where a daemon has a key of a file, and its value there; ``written`` and ``printed`` are the schemas of both."""
    if path[0] == "plugins" and len(path) > 1 and (written < 2 or printed == 3):
        path = ("plugins", _SHORT_NAMES.get(path[1], path[1]), *path[2:])
    if written < printed and printed >= 3:
        path, value = _migrated(path, value)
    if written < 4 <= printed:
        path = _substituted(path, _TO_4)
    return path, value


def _migrated(path: Path, value: Any) -> tuple[Path, Any]:
    if path[0] != "plugins" or len(path) < 3:
        return path, value
    if path[1] in RENAMED:
        return ("plugins", RENAMED[path[1]], *path[2:]), value
    if path[1:] == ("io.containerd.runtime.v2.task", "sched_core"):
        return ("plugins", "io.containerd.shim.v1.manager", "env"), ["SCHED_CORE=1"] if value is True else []
    return _migrated_cri(path[2:], value) if path[1] == CRI_V2 else (path, value)


def _migrated_cri(key: Path, value: Any) -> tuple[Path, Any]:
    images: Path = ("plugins", CRI_IMAGES)
    runtime: Path = ("plugins", CRI_RUNTIME)
    if key == ("cni", "bin_dir"):
        return (*runtime, "cni", "bin_dirs"), [value]
    if key == ("sandbox_image",):
        moved = (*images, "pinned_images", "sandbox")
    elif key[0] in _CRI_IMAGES_KEYS:
        moved = (*images, *key)
    elif key[0] in CRI_SERVICE_KEYS:
        moved = ("plugins", CRI_V2, *key)
    elif key[:1] == ("containerd",) and key[1:] in NEED_HANDLERS:
        moved = (*images, *key[1:])
    elif key[:2] == ("containerd", "runtimes") and key[3:] == ("sandbox_mode",):
        moved = (*runtime, *key[:3], "sandboxer")
    else:
        moved = (*runtime, *key)
    return moved, value


def older_places(path: Path) -> list[Path]:
    """Return the places that a key which this collection sets can have in files of older schemas."""
    found = [_substituted(path, _TO_3)]
    key = path[2:]
    if path[:2] == ("plugins", CRI_RUNTIME):
        found.append(("plugins", CRI_V2, *key))
    elif key == ("pinned_images", "sandbox"):
        found.append(("plugins", CRI_V2, "sandbox_image"))
    elif path[:2] == ("plugins", CRI_IMAGES):
        found.append(("plugins", CRI_V2, *(("containerd", *key) if key in NEED_HANDLERS else key)))
    return found


@dataclass(frozen=True)
class FileKey:
    """A key of a configuration file that is read in schema ``written``, and has ``value`` at ``place`` in the daemon."""

    file: str
    path: Path
    written: int
    place: Path
    value: Any

    def __str__(self) -> str:
        return f"{self.file}: {dotted(self.path)}"

    @property
    def dropped_without_handlers(self) -> bool:
        """Whether the daemon's migration drops this key if there is no table of runtime handlers beside it."""
        return self.path[:3] == ("plugins", CRI_V2, "containerd") and self.path[3:] in NEED_HANDLERS


def file_keys(sources: Sequence[Source], printed: int) -> list[list[FileKey]]:
    """Return the keys of each file, for a daemon that prints schema ``printed``. A file that is no TOML has none."""
    trees = []
    for source in sources:
        try:
            trees.append((source.path, toml.parse(source.text)))
        except ValueError:
            continue
    schemas = read_as([tree for _file, tree in trees], printed)
    return [
        [
            FileKey(file, path, written, *place(path, value, written, printed))
            for path, value in flatten(tree).items()
            if path[0] not in ("version", "imports")
        ]
        for (file, tree), written in zip(trees, schemas)
    ]
