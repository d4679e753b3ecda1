# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's settings, one row each: the option, its place in each configuration schema, its check.

Writing, reading and comparing the settings, the modules' argument specs and the checks of what they
are given are loops over these rows. A new scalar setting is a row here, its documentation in
plugins/doc_fragments/settings.py, and a variable of the role.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd import names
from ansible_collections.slipway.node.plugins.module_utils.core.options import (
    absolute_path,
    absolute_paths,
    at_least,
    duration,
    one_line,
    plain_name,
)
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path

CRI: Path = ("plugins", names.CRI_V2)
CRI_IMAGES: Path = ("plugins", names.CRI_IMAGES)
CRI_RUNTIME: Path = ("plugins", names.CRI_RUNTIME)
_DIFF: Path = ("plugins", names.DIFF_SERVICE)


@dataclass(frozen=True)
class Setting:
    """A scalar of the configuration.

    ``type`` is Ansible's word for its kind; ``v2`` and ``v3`` are its places in schema 2 and from schema 3 on.
    ``check`` raises ValueError for a value that makes no sense. ``since`` names the first release of each line that
    knows it, if the oldest supported one doesn't, and ``otherwise`` the way out on an older one.
    """

    name: str
    type: str
    v2: Path
    v3: Path
    check: Callable[[str, Any], Any] | None = None
    since: tuple[str, ...] = ()
    otherwise: str = "leave it out"

    def path(self, schema: int) -> Path:
        """Return its place in a schema."""
        return self.v2 if schema < 3 else self.v3


# containerd internal/cri/config/config.go (pkg/cri/config before 2.0), cmd/containerd/server/config/config.go
SETTINGS = (
    Setting(
        "image_pull_sync_fs",
        "bool",
        v2=(*CRI, "image_pull_with_sync_fs"),
        v3=(*CRI_IMAGES, "image_pull_with_sync_fs"),
        since=("1.7.14", "2.0.0"),
        otherwise="set image_pull_sync_fs to false; its pulls then don't survive a power cut",
    ),
    Setting("snapshotter", "str", v2=(*CRI, "containerd", "snapshotter"), v3=(*CRI_IMAGES, "snapshotter"), check=plain_name),
    Setting(
        "default_runtime",
        "str",
        v2=(*CRI, "containerd", "default_runtime_name"),
        v3=(*CRI_RUNTIME, "containerd", "default_runtime_name"),
        check=plain_name,
    ),
    Setting(
        "systemd_cgroup",
        "bool",
        v2=(*CRI, "containerd", "runtimes", "runc", "options", "SystemdCgroup"),
        v3=(*CRI_RUNTIME, "containerd", "runtimes", "runc", "options", "SystemdCgroup"),
    ),
    Setting("sandbox_image", "str", v2=(*CRI, "sandbox_image"), v3=(*CRI_IMAGES, "pinned_images", "sandbox"), check=one_line),
    Setting(
        "registry_config_path",
        "str",
        v2=(*CRI, "registry", "config_path"),
        v3=(*CRI_IMAGES, "registry", "config_path"),
        check=absolute_paths,
    ),
    Setting(
        "max_concurrent_downloads",
        "int",
        v2=(*CRI, "max_concurrent_downloads"),
        v3=(*CRI_IMAGES, "max_concurrent_downloads"),
        check=at_least(1),
    ),
    Setting(
        "image_pull_progress_timeout",
        "str",
        v2=(*CRI, "image_pull_progress_timeout"),
        v3=(*CRI_IMAGES, "image_pull_progress_timeout"),
        check=duration,
        since=("1.7.0", "2.0.0"),
    ),
    Setting("root", "path", v2=("root",), v3=("root",), check=absolute_path),
)

# Switches that image_pull_sync_fs needs besides its own, and keys that follow from the snapshotters.
PULL_SWITCHES = (
    Setting("diff_sync_fs", "bool", v2=(*_DIFF, "sync_fs"), v3=(*_DIFF, "sync_fs"), since=("1.7.26", "2.0.0")),
    Setting(
        "use_local_image_pull",
        "bool",
        v2=(*CRI_IMAGES, "use_local_image_pull"),
        v3=(*CRI_IMAGES, "use_local_image_pull"),
        since=("2.1.0",),
    ),
)
BY_NAME: Mapping[str, Setting] = {row.name: row for row in (*SETTINGS, *PULL_SWITCHES)}
DISCARD_UNPACKED_LAYERS = Setting(
    "discard_unpacked_layers",
    "bool",
    v2=(*CRI, "containerd", "discard_unpacked_layers"),
    v3=(*CRI_IMAGES, "discard_unpacked_layers"),
)
DISABLE_SNAPSHOT_ANNOTATIONS = Setting(
    "disable_snapshot_annotations",
    "bool",
    v2=(*CRI, "containerd", "disable_snapshot_annotations"),
    v3=(*CRI_IMAGES, "disable_snapshot_annotations"),
)
# plugins/metadata/plugin.go, 2.1 and newer
METADATA_NO_SYNC: Path = ("plugins", names.METADATA, "no_sync")

RUNTIME_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "type": {"type": "str", "default": "io.containerd.runc.v2"},
    "path": {"type": "path"},
    "config_path": {"type": "path"},
    "snapshotter": {"type": "str"},
    "privileged_without_host_devices": {"type": "bool"},
    "pod_annotations": {"type": "list", "elements": "str", "default": []},
    "options": {"type": "dict", "default": {}},
}
# The argument spec of all settings: the rows, and those with a structure of their own.
SETTINGS_SPEC: dict[str, Any] = {
    **{row.name: {"type": row.type} for row in SETTINGS},
    "snapshotters": {"type": "dict", "default": {}},
    "runtimes": {"type": "list", "elements": "dict", "default": [], "options": RUNTIME_SPEC},
    "extra_config": {"type": "dict", "default": {}},
    "allow_unverified_pulls": {"type": "bool", "default": False},
}
# Options that the modules which set and verify the settings share, documented in plugins/doc_fragments/settings.py.
SHARED_OPTIONS: dict[str, Any] = {
    "settings": {"type": "dict", "default": {}, "options": SETTINGS_SPEC},
    "http_proxy": {
        "type": "dict",
        "options": {
            "http": {"type": "str", "no_log": True},
            "https": {"type": "str", "no_log": True},
            "no_proxy": {"type": "list", "elements": "str", "default": []},
        },
    },
}
