# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The meaning of a configuration to the daemon, one row for each setting, and the verdict on its change.

A row reads the same values from the configurations of two versions, in any schema. To report another change, add a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd import durability
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import CRI_V2
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import place
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, nest
from ansible_collections.slipway.node.plugins.module_utils.upgrade.state import FAIL, INFO, WARN, Entry, UpgradeState

Values = Mapping[str, Any]
# Returns the status of the change from a value to another (None: there is none); empty if it isn't reported.
Judge = Callable[[Any, Any, UpgradeState], str]
_CRI: Path = ("plugins", CRI_V2)
_NRI: Path = ("plugins", "io.containerd.nri.v1.nri")
# The defaults of containerd.
NRI_PLUGINS = "/opt/nri/plugins"
CDI_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
# The values of a handler that names none.
_CGROUPFS = "cgroupfs"
_DEFAULT = "the default snapshotter"
_RANKS = (durability.NOT_DURABLE, durability.UNKNOWN, durability.DURABLE)


@dataclass(frozen=True)
class Meaning:
    """``title`` names an object with ``{name}``, ``remedy`` may use ``{now}`` and ``{then}``.

    ``cri``: the setting has no meaning if CRI is disabled. ``keys`` are the places of the values in schema 2. The comparison
    of defaults skips them, and a change to the value in the inventory has the status INFO.
    """

    kind: str
    title: str
    read: Callable[[EffectiveConfig, Version], Values]
    judge: Judge
    remedy: str
    keys: tuple[Path, ...] = ()
    cri: bool = True

    def compare(self, state: UpgradeState, before: EffectiveConfig, after: EffectiveConfig) -> Iterator[Entry]:
        """Yield an entry for each value that changes."""
        if self.cri and not (before.cri_enabled and after.cri_enabled):
            return
        now, then = self.read(before, state.now), self.read(after, state.then)
        wanted = EffectiveConfig(nest({("version",): after.schema, **state.wanted}))
        unset = EffectiveConfig({"version": after.schema})
        asked, silent = self.read(wanted, state.then), self.read(unset, state.then)
        named = any(place(path, "", 2, after.schema)[0] in state.wanted for path in self.keys)
        for name in dict.fromkeys((*now, *then)):
            one, other = now.get(name), then.get(name)
            status = self.judge(one, other, state) if one != other else ""
            if not status:
                continue
            what = self.title.format(name=name)
            if name in asked and asked[name] == other and (named or asked[name] != silent.get(name)):
                yield Entry(self.kind, INFO, what, _plain(one), _plain(other))
                continue
            remedy = "" if status == INFO else self.remedy.format(name=name, now=_shown(one), then=_shown(other))
            yield Entry(self.kind, status, what, _plain(one), _plain(other), remedy)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _fails(_now: Any, _then: Any, _state: UpgradeState) -> str:
    return FAIL


def _sandbox(_now: Any, _then: Any, state: UpgradeState) -> str:
    return INFO if state.sandbox_present else WARN


def _informs(_now: Any, _then: Any, _state: UpgradeState) -> str:
    return INFO


def _fails_if_gone(now: Any, then: Any, _state: UpgradeState) -> str:
    return INFO if now in (None, False) else FAIL


def _between_both(status: Judge) -> Judge:
    """Skip objects that only one version has: another row reports those."""
    return lambda now, then, state: "" if now is None or then is None else status(now, then, state)


def _network(now: Any, then: Any, _state: UpgradeState) -> str:
    """Return the status of other directories, which are searched in order. A missing plugin is an entry of its own."""
    return INFO if now == then[: len(now)] else WARN


def _registries(now: Any, then: Any, state: UpgradeState) -> str:
    if set(now) - set(then):
        return FAIL if state.names_in(set(now) - set(then)) else WARN
    return WARN if state.names_in(set(then) - set(now)) else INFO


def _nri(now: Any, then: Any, state: UpgradeState) -> str:
    plugins = state.names_in([NRI_PLUGINS])
    if now:
        return FAIL if plugins else WARN
    return WARN if plugins else INFO


def _devices(now: Any, _then: Any, state: UpgradeState) -> str:
    if now:
        return FAIL if state.names_in(CDI_DIRECTORIES) else WARN
    return INFO


def _handler_snapshotter(now: Any, _then: Any, _state: UpgradeState) -> str:
    return WARN if now == _DEFAULT else FAIL


def _durable(now: Any, then: Any, _state: UpgradeState) -> str:
    if now is None or then is None:
        return ""
    return FAIL if _RANKS.index(then) < _RANKS.index(now) else INFO


def _verified(now: Any, then: Any, state: UpgradeState) -> str:
    if not state.verifiers:
        return ""
    return FAIL if now else WARN


def _keys(**paths: Path) -> Callable[[EffectiveConfig, Version], Values]:
    """Read keys by their places in schema 2. Empty values are none."""

    def read(config: EffectiveConfig, _version: Version) -> Values:
        return {name: config.lookup(place(path, "", 2, config.schema)[0]) or None for name, path in paths.items()}

    return read


def _sockets(config: EffectiveConfig, version: Version) -> Values:
    found = dict(_keys(**{name: (name, "address") for name in ("grpc", "ttrpc", "debug", "metrics")})(config, version))
    found["grpc_tcp"] = config.lookup(place(("grpc", "tcp_address"), "", 2, config.schema)[0]) or None
    if found["grpc"] and not found["ttrpc"]:
        # cmd/containerd/command/main.go, until 2.2
        found["ttrpc"] = f"{found['grpc']}.ttrpc"
    return found


def _container_snapshotters(config: EffectiveConfig, version: Version) -> Values:
    places = {name: config.handler_snapshotters(name, version) for name in config.handlers}
    return {name: one["runtimes"] or _DEFAULT for name, one in places.items()}


def _pull_snapshotters(config: EffectiveConfig, version: Version) -> Values:
    found = {}
    for name in config.handlers:
        places = config.handler_snapshotters(name, version)
        own = places.get("runtime_platforms", places["runtimes"]) if version.at_least("2.0.0") else None
        found[name] = own or _DEFAULT
    return found


def _cgroup_drivers(config: EffectiveConfig, _version: Version) -> Values:
    return {
        name: "systemd" if options["SystemdCgroup"] else _CGROUPFS
        for name in config.handlers
        if "SystemdCgroup" in (options := config.handler_options(name))
    }


def _cdi(config: EffectiveConfig, version: Version) -> Values:
    found = config.lookup(place((*_CRI, "enable_cdi"), "", 2, config.schema)[0])
    return {"CDI": version.at_least("2.4.0") or bool(found)}


def _read_nri(config: EffectiveConfig, _version: Version) -> Values:
    table = config.lookup(_NRI)
    return {"NRI": isinstance(table, Mapping) and not table.get("disable")}


def _proxies(config: EffectiveConfig, _version: Version) -> Values:
    tables = config.lookup(("proxy_plugins",)) or {}
    return {name: (str(table.get("type")), str(table.get("address"))) for name, table in tables.items()}


def _registry_dirs(config: EffectiveConfig, version: Version) -> Values:
    # The daemon takes joined names for one directory, which doesn't exist.
    return {"": tuple(path for path in config.hosts_dirs(version) if ":" not in path)}


def _verifies(config: EffectiveConfig, version: Version) -> Values:
    asks = config.verifier_dir is not None and not config.cri_pulls_locally(version)
    return {"": asks}


def _pull_durability(config: EffectiveConfig, version: Version) -> Values:
    return {path: one["durability"] for path, one in config.pull_durability(version).items()}


_NAME_IT = "set it to {now} in the inventory, or in a file of the node"

MEANINGS = (
    Meaning(
        "snapshotter",
        "the default snapshotter",
        lambda config, version: {"": config.own_snapshotters[0]},
        _fails,
        "set settings.snapshotter to {now}",
        ((*_CRI, "containerd", "snapshotter"),),
        cri=False,
    ),
    Meaning(
        "handler",
        "the type of the runtime handler {name}",
        lambda config, version: {name: one.type for name, one in config.handlers.items()},
        _fails_if_gone,
        "declare {name} with the type {now} in settings.runtimes",
    ),
    Meaning(
        "handler",
        "the shim of the runtime handler {name}",
        lambda config, version: {name: one.path for name, one in config.handlers.items()},
        _fails_if_gone,
        "set path of {name} to {now} in settings.runtimes",
    ),
    Meaning(
        "default_handler",
        "the default runtime handler",
        lambda config, version: {"": config.default_runtime},
        _fails,
        "set settings.default_runtime to {now}",
        ((*_CRI, "containerd", "default_runtime_name"),),
    ),
    Meaning(
        "handler_snapshotter",
        "the snapshotter of containers with the handler {name}",
        _container_snapshotters,
        _between_both(_handler_snapshotter),
        "set snapshotter of {name} to {now} in settings.runtimes",
    ),
    Meaning(
        "handler_snapshotter",
        "the snapshotter for which images of the handler {name} are unpacked when they are pulled",
        _pull_snapshotters,
        _between_both(_informs),
        "",
    ),
    Meaning(
        "cgroup_driver",
        "the cgroup driver of the handler {name}",
        _cgroup_drivers,
        lambda now, then, state: "" if (now or _CGROUPFS) == (then or _CGROUPFS) else FAIL,
        "set SystemdCgroup of {name}, in settings.systemd_cgroup for runc",
    ),
    Meaning(
        "registries",
        "the directories of registries that CRI reads",
        _registry_dirs,
        _registries,
        "set settings.registry_config_path to one directory that holds the files of all registries",
        ((*_CRI, "registry", "config_path"),),
    ),
    Meaning(
        "sandbox_image",
        "the sandbox image",
        lambda config, version: {"": config.sandbox_image},
        _sandbox,
        "set settings.sandbox_image to {now}, or pull {then} first",
        ((*_CRI, "sandbox_image"),),
    ),
    Meaning(
        "cni",
        "the directories of CNI plugins",
        lambda config, version: {"": config.cni.bin_dirs},
        _network,
        "install the plugins in {then}, or keep {now} with cni.bin_dirs (bin_dir before 2.1) in settings.extra_config",
        ((*_CRI, "cni", "bin_dir"), (*_CRI, "cni", "bin_dirs")),
    ),
    Meaning(
        "cni",
        "the directory of CNI configuration",
        lambda config, version: {"": config.cni.conf_dir},
        _fails,
        "keep {now} with cni.conf_dir in settings.extra_config",
        ((*_CRI, "cni", "conf_dir"),),
    ),
    Meaning(
        "cdi",
        "devices by the Container Device Interface",
        _cdi,
        _devices,
        "set enable_cdi to true in settings.extra_config",
        ((*_CRI, "enable_cdi"),),
    ),
    Meaning(
        "nri",
        "plugins of the Node Resource Interface",
        _read_nri,
        _nri,
        "set disable of io.containerd.nri.v1.nri in settings.extra_config to keep this as it is; the daemon starts every program "
        f"in {NRI_PLUGINS} if NRI is on",
        ((*_NRI, "disable"),),
        cri=False,
    ),
    Meaning("socket", "the socket {name}", _sockets, _fails_if_gone, _NAME_IT, (("ttrpc", "address"),), cri=False),
    Meaning(
        "stream_server",
        "{name} of CRI's stream server",
        _keys(**{name: (*_CRI, name) for name in ("stream_server_address", "stream_server_port", "enable_tls_streaming")}),
        _fails,
        _NAME_IT,
    ),
    Meaning(
        "cri",
        "the CRI plugin",
        lambda config, version: {"": config.cri_enabled},
        _fails_if_gone,
        "remove io.containerd.grpc.v1.cri from disabled_plugins",
        cri=False,
    ),
    Meaning(
        "proxy_plugin", "the proxy plugin {name}", _proxies, _fails_if_gone, "declare {name} in settings.snapshotters", cri=False
    ),
    Meaning(
        "directory",
        "the directory {name}",
        lambda config, version: {"root": config.root, "state": config.state},
        _fails,
        _NAME_IT,
        (("root",), ("state",)),
        cri=False,
    ),
    Meaning(
        "durability",
        "the durability of pulls by {name}",
        _pull_durability,
        _durable,
        "set settings.image_pull_sync_fs to true, or pull with slipway.node.containerd_image",
        cri=False,
    ),
    Meaning(
        "durability",
        "the durability of images that handlers use with the snapshotter {name}",
        lambda config, version: {name: one["durability"] for name, one in config.handlers_durability(version).items()},
        _durable,
        "pull them with slipway.node.containerd_image, with this snapshotter",
    ),
    Meaning(
        "image_verifiers",
        "whether CRI asks the image verifiers",
        _verifies,
        _verified,
        "check that the image verifiers accept the node's images; settings.image_pull_sync_fs makes CRI pull without them",
    ),
)
