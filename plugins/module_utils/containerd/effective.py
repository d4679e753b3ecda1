# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The daemon's effective configuration, read from the output of ``containerd config dump``."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd import durability, names
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import SNAPSHOTTER_PREFIX
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import SERVER_GRPC
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import (
    BY_NAME,
    DISCARD_UNPACKED_LAYERS,
    METADATA_NO_SYNC,
    PULL_SWITCHES,
    SETTINGS,
    Setting,
)
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, dotted, flatten, lookup

# containerd defaults/defaults_unix.go
_DEFAULT_ROOT = "/var/lib/containerd"
_DEFAULT_SNAPSHOTTER = "overlayfs"
_DEFAULT_OPT = "/opt/containerd"
_DEFAULT_CNI_CONF = "/etc/cni/net.d"
_DEFAULT_CNI_BIN = "/opt/cni/bin"
# internal/cri/config/config.go, CheckLocalImagePullConfigs (2.1 and newer): the keys of CRI's images plugin that make it pull
# by itself instead of through the transfer service, and the values with which they do.
_LOCAL_PULL: Mapping[str, Callable[[Any], bool]] = {
    "use_local_image_pull": bool,
    "image_pull_with_sync_fs": bool,
    "disable_snapshot_annotations": lambda value: value is False,
    "discard_unpacked_layers": bool,
    "registry.mirrors": bool,
    "registry.configs": bool,
    "registry.auths": bool,
    "max_concurrent_downloads": lambda value: value not in (None, 3),
}
# plugins/cri/images/plugin.go; before 2.2.2 ``config dump`` prints it.
_DEFAULT_HOSTS_DIRS = "/etc/containerd/certs.d:/etc/docker/certs.d"


@dataclass(frozen=True)
class Handler:
    """A runtime handler of CRI. ``path`` is that of the shim; ``snapshotter`` None: CRI's default one."""

    name: str
    type: str | None
    path: str | None
    snapshotter: str | None
    config_path: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the name."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


@dataclass(frozen=True)
class Cni:
    """CRI's settings of the network of pods. ``loopback``: whether CRI needs the plugin of that name."""

    conf_dir: str
    bin_dirs: tuple[str, ...]
    max_files: int
    loopback: bool


@dataclass(frozen=True)
class EffectiveConfig:
    """A typed reader of ``dump``, the parsed output of ``containerd config dump``. Keys that it lacks read as None."""

    dump: Mapping[str, Any]

    def lookup(self, path: Iterable[str], default: Any = None) -> Any:
        """Return the value at a path, or the default if there is none."""
        return lookup(self.dump, path, default)

    def leaves(self) -> dict[Path, Any]:
        """Return every setting by its path."""
        return flatten(self.dump)

    def setting(self, row: Setting) -> Any:
        """Return a setting's value."""
        return self.lookup(row.path(self.schema))

    def _text(self, name: str) -> str | None:
        found: str | None = self.setting(BY_NAME[name])
        return found

    def _flag(self, name: str) -> bool | None:
        found: bool | None = self.setting(BY_NAME[name])
        return found

    @cached_property
    def schema(self) -> int:
        """The version of the configuration's format, 0 if the daemon doesn't say it."""
        version = self.dump.get("version", 0)
        return version if isinstance(version, int) else 0

    @cached_property
    def plugins(self) -> frozenset[str]:
        """The ids of the plugins that have settings."""
        return frozenset(self.dump.get("plugins", {}))

    @cached_property
    def root(self) -> str | None:
        """The daemon's directory of persistent data."""
        return self.dump.get("root")

    @cached_property
    def state(self) -> str | None:
        """The daemon's directory of data that lasts until the next boot."""
        return self.dump.get("state")

    @cached_property
    def temporary(self) -> str | None:
        """The daemon's directory of temporary files; None leaves it to its environment."""
        return self.dump.get("temp") or None

    @cached_property
    def socket(self) -> str | None:
        """The socket that the daemon creates; schema 4 has moved it, and ignores the old place."""
        found = self.lookup(("grpc", "address") if self.schema < 4 else ("plugins", SERVER_GRPC, "address"))
        return found if isinstance(found, str) and found else None

    def message_bytes(self, key: str) -> int | None:
        """Return the size in bytes of the largest message by the key of its direction; None for the default (16 MiB)."""
        table = self.lookup(("grpc",) if self.schema < 4 else ("plugins", SERVER_GRPC), {})
        size = table.get(key) if isinstance(table, Mapping) else None
        return size if isinstance(size, int) and size > 0 else None

    @cached_property
    def cri_enabled(self) -> bool:
        """Whether ``disabled_plugins`` leaves CRI on (schema 1's short name is printed as it is)."""
        return not any(name in ("cri", names.CRI_V2) for name in self.dump.get("disabled_plugins", []))

    @property
    def _legacy(self) -> bool:
        return self.schema < 3

    @property
    def _images(self) -> Path:
        return ("plugins", names.CRI_V2 if self._legacy else names.CRI_IMAGES)

    @property
    def _runtime(self) -> Path:
        return ("plugins", names.CRI_V2 if self._legacy else names.CRI_RUNTIME)

    @property
    def _handler_tables(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.lookup((*self._runtime, "containerd", "runtimes"), {})
        return found

    @cached_property
    def handlers(self) -> dict[str, Handler]:
        """CRI's runtime handlers by name."""
        return {name: self._handler(name, table) for name, table in self._handler_tables.items()}

    def _handler(self, name: str, table: Mapping[str, Any]) -> Handler:
        return Handler(
            name=name,
            type=table.get("runtime_type"),
            path=table.get("runtime_path") or None,
            snapshotter=table.get("snapshotter") or self._platform_snapshotter(name),
            config_path=lookup(table, ("options", "ConfigPath")),
        )

    def handler_options(self, name: str) -> Mapping[str, Any]:
        """Return the options that a handler's shim gets, empty if there are none."""
        found = lookup(self._handler_tables, (name, "options"), {})
        return found if isinstance(found, Mapping) else {}

    def handler_sandboxer(self, name: str) -> str | None:
        """Return the sandbox controller that a handler names (2.0 and newer); None for the default one."""
        return lookup(self._handler_tables, (name, "sandboxer")) or None

    @property
    def unset_seccomp_profile(self) -> str:
        """The seccomp profile of containers that name none, empty for none."""
        return str(self.lookup((*self._runtime, "unset_seccomp_profile")) or "")

    def handler_base_spec(self, name: str) -> str | None:
        """Return the file of the OCI specification that a handler's containers start from; None for CRI's own."""
        return lookup(self._handler_tables, (name, "base_runtime_spec")) or None

    def _platform_snapshotter(self, handler: str) -> str | None:
        return self.lookup(("plugins", names.CRI_IMAGES, "runtime_platforms", handler, "snapshotter")) or None

    def handler_snapshotters(self, name: str, version: Version) -> dict[str, str | None]:
        """Return a handler's snapshotter by the place in which this version of the daemon reads it; None where it is unset.

        Before 2.0 and from 2.3 on there is one place; between, pulls go by another than containers.
        """
        runtime = lookup(self._handler_tables, (name, "snapshotter")) or None
        platform = self._platform_snapshotter(name)
        if self._legacy or (platform is None and version.at_least("2.3.0")):
            return {"runtimes": runtime}
        return {"runtimes": runtime, "runtime_platforms": platform}

    @cached_property
    def default_runtime(self) -> str | None:
        """The name of CRI's default handler."""
        return self._text("default_runtime")

    @cached_property
    def disabled_plugins(self) -> tuple[str, ...]:
        """The ids of plugins that the daemon doesn't load."""
        return tuple(map(str, self.dump.get("disabled_plugins") or ()))

    @cached_property
    def own_programs_dir(self) -> str:
        """The directory that the daemon puts before its PATH: containerd plugins/services/opt/service.go."""
        path = self.lookup(("plugins", "io.containerd.internal.v1.opt", "path"))
        return posixpath.join(str(path or _DEFAULT_OPT), "bin")

    @cached_property
    def shim_path(self) -> str | None:
        """The PATH that shims get instead of the daemon's: containerd core/runtime/v2, ManagerConfig (2.0 and newer)."""
        variables = self.lookup(("plugins", "io.containerd.shim.v1.manager", "env")) or ()
        return next((one.partition("=")[2] for one in reversed(list(map(str, variables))) if one.startswith("PATH=")), None)

    @cached_property
    def cni(self) -> Cni:
        """The network of pods."""
        table = self.lookup((*self._runtime, "cni"), {})
        return Cni(
            conf_dir=table.get("conf_dir") or _DEFAULT_CNI_CONF,
            bin_dirs=tuple(table.get("bin_dirs") or (table.get("bin_dir") or _DEFAULT_CNI_BIN,)),
            max_files=int(table.get("max_conf_num") or 0),
            loopback=not table.get("use_internal_loopback"),
        )

    @cached_property
    def sandbox_image(self) -> str | None:
        """The image that CRI starts pods with."""
        return self._text("sandbox_image") or None

    @cached_property
    def registry_config_path(self) -> str | None:
        """CRI's directories of registries, separated by colons."""
        return self._text("registry_config_path")

    def hosts_dirs(self, version: Version) -> tuple[str, ...]:
        """Return the directories in which CRI looks for the files of registries, in order.

        The transfer service takes several directories for the name of one: containerd core/transfer/registry/registry.go.
        """
        named = self._named_hosts_dirs(version)
        parts = named.split(":") if self.cri_pulls_locally(version) else [named]
        return tuple(filter(None, parts))

    def unread_hosts_dirs(self, version: Version) -> tuple[str, ...]:
        """Return the directories of registries that CRI was given and doesn't read."""
        named = self._named_hosts_dirs(version)
        unread = ":" in named and not self.cri_pulls_locally(version)
        return tuple(filter(None, named.split(":"))) if unread else ()

    def _named_hosts_dirs(self, version: Version) -> str:
        """Return them separated by colons, with the default."""
        by_default = version.at_least("2.2.2") and not self.lookup((*self._images, "registry", "mirrors"))
        return self.registry_config_path or (_DEFAULT_HOSTS_DIRS if by_default else "")

    @cached_property
    def named_snapshotter(self) -> str | None:
        """CRI's default snapshotter as the configuration names it."""
        return self._text("snapshotter")

    @cached_property
    def default_snapshotter(self) -> str:
        """The daemon's default snapshotter, which clients take as well if CRI is off."""
        return self.named_snapshotter or _DEFAULT_SNAPSHOTTER

    @cached_property
    def cri_snapshotter(self) -> str | None:
        """CRI's default snapshotter; None if CRI is off."""
        return (self.named_snapshotter or None) if self.cri_enabled else None

    @cached_property
    def used_snapshotters(self) -> tuple[str, ...]:
        """CRI's default snapshotter first, then those of its handlers; empty if CRI is off."""
        if not self.cri_enabled:
            return ()
        names = (self.default_snapshotter, *(handler.snapshotter for handler in self.handlers.values()))
        return tuple(dict.fromkeys(name for name in names if name))

    @cached_property
    def own_snapshotters(self) -> tuple[str, ...]:
        """As ``used_snapshotters``; the default alone if CRI is off."""
        return self.used_snapshotters or (self.default_snapshotter,)

    @cached_property
    def image_pull_sync_fs(self) -> bool | None:
        """Whether CRI flushes what it pulls."""
        return self._flag("image_pull_sync_fs")

    @cached_property
    def diff_sync_fs(self) -> bool | None:
        """Whether the diff service flushes each layer that it unpacks."""
        return self._flag("diff_sync_fs")

    @cached_property
    def local_pull_keys(self) -> tuple[Path, ...]:
        """The keys that make CRI of 2.1 and newer pull by itself instead of through the transfer service."""
        paths = {(*self._images, *name.split(".")): forces for name, forces in _LOCAL_PULL.items()}
        return tuple(path for path, forces in paths.items() if forces(self.lookup(path)))

    def cri_pulls_locally(self, version: Version) -> bool:
        """Return whether CRI pulls by itself instead of through the transfer service."""
        return self._pull(version, "cri", self.default_snapshotter).cri_pulls_locally

    @cached_property
    def metadata_no_sync(self) -> bool:
        """Whether containerd leaves its metadata unflushed, so that nothing survives a power cut for certain."""
        return bool(self.lookup(METADATA_NO_SYNC))

    @cached_property
    def verifier_dir(self) -> str | None:
        """The directory of the image verifiers, which the transfer service asks before it pulls; None if it asks none."""
        table = self.lookup(("plugins", names.IMAGE_VERIFIER), {})
        off = names.IMAGE_VERIFIER in self.dump.get("disabled_plugins", []) or table.get("max_verifiers") == 0
        return None if off else table.get("bin_dir") or None

    @cached_property
    def discards_layers(self) -> bool:
        """Whether CRI removes the blobs of layers once they are unpacked."""
        return bool(self.setting(DISCARD_UNPACKED_LAYERS))

    def unverified_pulls(self, version: Version, verifiers: Sequence[str]) -> str:
        """Return why CRI pulls without asking these image verifiers; empty if it asks them, or if there are none."""
        if not verifiers or not self.cri_pulls_locally(version):
            return ""
        keys = ", ".join(map(dotted, self.local_pull_keys)) if version.at_least("2.1.0") else ""
        why = f"with {keys}" if keys else f"of containerd {version}"
        return f"CRI {why} pulls without the transfer service, which asks the image verifiers ({', '.join(verifiers)})"

    @cached_property
    def proxy_snapshotters(self) -> tuple[str, ...]:
        """The names of proxy plugins that are snapshotters, sorted."""
        tables = self.dump.get("proxy_plugins", {})
        return tuple(sorted(name for name, table in tables.items() if table.get("type") == "snapshot"))

    def proxy_address(self, name: str) -> str | None:
        """Return the socket of a proxy snapshotter; None if the snapshotter is none."""
        return str(self.lookup(("proxy_plugins", name, "address")) or "") if name in self.proxy_snapshotters else None

    def snapshotter_table(self, name: str) -> Mapping[str, Any]:
        """Return a snapshotter's own settings, empty if the daemon prints none."""
        found = self.lookup(("plugins", SNAPSHOTTER_PREFIX + name))
        return found if isinstance(found, Mapping) else {}

    def snapshotter_root(self, name: str) -> str:
        """Return the directory of a snapshotter of containerd's own."""
        default = posixpath.join(str(self.root or _DEFAULT_ROOT), SNAPSHOTTER_PREFIX + name)
        return str(self.snapshotter_table(name).get("root_path") or default)

    @cached_property
    def thin_pool(self) -> str | None:
        """The name of the devmapper snapshotter's pool."""
        name = self.snapshotter_table("devmapper").get("pool_name")
        return str(name) if name else None

    def cri_config_error(self) -> str | None:
        """Return what ``config dump`` accepts and CRI fails on at start: one sentence, or None.

        containerd internal/cri/config/config.go: ValidatePluginConfig and ValidateImageConfig.
        """
        if not self.cri_enabled:
            return None
        default = self.default_runtime
        if default and default not in self.handlers:
            return f"the default runtime handler {default!r} is not declared: add it to runtimes"
        for name, handler in self.handlers.items():
            if not handler.type:
                return f"the runtime handler {name!r} has no type: give runtimes[{name}] one"
        registry = self.lookup((*self._images, "registry"), {})
        tls = any(table.get("tls") for table in (registry.get("configs") or {}).values())
        if registry.get("config_path") and (registry.get("mirrors") or tls):
            return "the registry's mirrors or configs.tls can't stand beside its config_path: move them into hosts.toml files"
        snapshotter = self.named_snapshotter
        if snapshotter and snapshotter not in (*BUILTIN_SNAPSHOTTERS, *self.proxy_snapshotters):
            return f"the snapshotter {snapshotter!r} is neither part of containerd nor declared under proxy_plugins"
        return None

    def pull_durability(self, version: Version) -> dict[str, dict[str, str]]:
        """Return ``durability``, ``reason``, ``source`` by pull path, for the daemon's default snapshotter."""
        default = self.own_snapshotters[0]
        return {path: self._verdict(version, path, default) for path in durability.paths(version)}

    def handlers_durability(self, version: Version) -> dict[str, dict[str, str]]:
        """Return the same by snapshotter, for what handlers unpack for snapshotters other than the default."""
        late: dict[str, bool] = {}
        for name, handler in self.handlers.items():
            if handler.snapshotter:
                places = self.handler_snapshotters(name, version)
                unread = not version.at_least("2.0.0") or places.get("runtime_platforms", handler.snapshotter) is None
                late[handler.snapshotter] = late.get(handler.snapshotter, False) or unread
        late.pop(self.own_snapshotters[0], None)
        return {name: self._verdict(version, "cri", name, late=one) for name, one in late.items()}

    def _verdict(self, version: Version, path: str, snapshotter: str, *, late: bool = False) -> dict[str, str]:
        verdict = durability.classify(self._pull(version, path, snapshotter, late=late))
        return {"durability": verdict.durability, "reason": verdict.reason, "source": verdict.source}

    def _pull(self, version: Version, path: str, snapshotter: str, *, late: bool = False) -> durability.Pull:
        return durability.Pull(
            path=path,
            version=version,
            snapshotter=snapshotter,
            image_pull_sync_fs=bool(self.image_pull_sync_fs),
            diff_sync_fs=bool(self.diff_sync_fs),
            local_image_pull=bool(self.local_pull_keys),
            no_sync=self.metadata_no_sync,
            late=late,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings under the names of the module's options; None where the daemon has no such key."""
        return {
            **{row.name: self.setting(row) for row in (*SETTINGS, *PULL_SWITCHES)},
            "runtimes": {name: handler.to_dict() for name, handler in self.handlers.items()},
            "proxy_snapshotters": list(self.proxy_snapshotters),
        }
