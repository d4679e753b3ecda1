# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The specification of a node: the variables of an inventory, checked and completed once for all roles."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import SETTINGS, Setting
from ansible_collections.slipway.node.plugins.module_utils.core.options import proxy_url
from ansible_collections.slipway.node.plugins.module_utils.core.tree import merge
from ansible_collections.slipway.node.plugins.module_utils.node_spec.images import image_batches, present_images
from ansible_collections.slipway.node.plugins.module_utils.node_spec.kata import INSTALL_ROOT, kata_handlers, kernel_modules
from ansible_collections.slipway.node.plugins.module_utils.node_spec.thin_pool import (
    check_thin_pool,
    pool_name,
    snapshotter_table,
)
from ansible_collections.slipway.node.plugins.module_utils.node_spec.toolboxes import default_toolbox, listed_toolboxes, toolboxes

# Variables that may be unset: the scalar settings, and these.
OPTIONAL = frozenset(
    {
        *(f"containerd_{row.name}" for row in SETTINGS),
        "containerd_http_proxy",
        "containerd_registries",
        "kata_handlers",
        "toolbox_default_name",
        "toolbox_prune_after",
    }
)
_HOSTS_DIR = "/etc/containerd/certs.d"
_ROOT = "/var/lib/containerd"
# The words that Ansible takes for booleans.
_WORDS = {
    **dict.fromkeys(("yes", "on", "y", "t", "1", "true"), True),
    **dict.fromkeys(("no", "off", "n", "f", "0", "false", ""), False),
}
# Entries of no_proxy that can only be addresses or networks.
_NETWORK = re.compile(r"[0-9.]+$|.*/|[0-9a-fA-F:]*::")


def resolve(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the specification.

    ``given`` has every variable that the role node_spec passes. Those of OPTIONAL may be None or empty.
    Raises ValueError that names the variable at fault, but no credentials.
    """
    variables: dict[str, Any] = {name: None if name in OPTIONAL and value == "" else value for name, value in given.items()}
    http_proxy = variables["containerd_http_proxy"]
    if http_proxy is not None:
        _check_proxy(_mapping("containerd_http_proxy", variables))
    thin_pool = _thin_pool(variables)
    kata = _kata(variables)
    settings = _settings(variables, thin_pool.pop("snapshotters"), kata.pop("runtimes"))
    batches = image_batches(variables["containerd_images"], variables["containerd_images_namespace"])
    return {
        "settings": settings,
        "http_proxy": http_proxy,
        "snapshotters_used": _snapshotters_used(settings),
        "images": present_images(batches),
        "image_batches": batches,
        "kata": kata,
        "thin_pool": thin_pool,
        "toolboxes": _toolboxes(variables),
    }


def _settings(
    variables: Mapping[str, Any], thin_pool_snapshotters: Mapping[str, Any], kata_runtimes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the settings under the names of containerd_config's options, without those that aren't set."""
    settings: dict[str, Any] = {row.name: _scalar(row, variables) for row in SETTINGS}
    if settings["registry_config_path"] is None and variables["containerd_registries"] is not None:
        settings["registry_config_path"] = _HOSTS_DIR
    settings["snapshotters"] = merge(thin_pool_snapshotters, _mapping("containerd_snapshotters", variables))
    settings["runtimes"] = [*_sequence("containerd_runtimes", variables), *kata_runtimes]
    settings["extra_config"] = _mapping("containerd_extra_config", variables)
    settings["allow_unverified_pulls"] = boolean("containerd_allow_unverified_pulls", variables) or None
    return {name: value for name, value in settings.items() if value is not None}


def _snapshotters_used(settings: Mapping[str, Any]) -> list[str]:
    """Return the snapshotters that have a table, and those of the default and of handlers."""
    handlers = [runtime["snapshotter"] for runtime in settings["runtimes"] if runtime.get("snapshotter")]
    default = settings.get("snapshotter")
    return list(dict.fromkeys([*settings["snapshotters"], *([default] if default else []), *handlers]))


def _thin_pool(variables: Mapping[str, Any]) -> dict[str, Any]:
    enabled = bool(variables["devmapper_devices"] or variables["devmapper_loop_file"])
    if enabled:
        check_thin_pool(variables)
    root = variables["containerd_root"] or _ROOT
    flags = {name: bool(boolean(f"devmapper_{name}", variables)) for name in ("discard_blocks", "async_remove")}
    return {
        "enabled": enabled,
        "name": pool_name(variables["devmapper_volume_group"], variables["devmapper_pool"]),
        "root_path": variables["devmapper_root_path"] or f"{root}/io.containerd.snapshotter.v1.devmapper",
        "snapshotters": {"devmapper": snapshotter_table(variables, **flags)} if enabled else {},
    }


def _kata(variables: Mapping[str, Any]) -> dict[str, Any]:
    handlers, runtimes = kata_handlers(
        [] if variables["kata_handlers"] is None else variables["kata_handlers"],
        config_dir=variables["kata_config_dir"],
        snapshotter=variables["containerd_snapshotter"] or "overlayfs",
        version=variables["kata_version"],
    )
    return {
        "managed": variables["kata_handlers"] is not None,
        "enabled": bool(handlers),
        "install_root": INSTALL_ROOT,
        "handlers": handlers,
        "kernel_modules": kernel_modules(handlers),
        "runtimes": runtimes,
    }


def _toolboxes(variables: Mapping[str, Any]) -> dict[str, Any]:
    entries = toolboxes(variables["toolbox_snapshots"], variables["toolbox_directory"], variables["toolbox_user"])
    default = default_toolbox(
        entries,
        variables["toolbox_default_name"],
        flatcar=bool(boolean("toolbox_flatcar_defaults", variables)),
        command=bool(boolean("toolbox_install_command", variables)),
    )
    pruned = bool(boolean("toolbox_prune_unlisted", variables) or variables["toolbox_prune_after"])
    return {
        "managed": bool(entries) or pruned,
        "pruned": pruned,
        "entries": entries,
        "listed": listed_toolboxes(entries),
        "default": default,
    }


def _check_proxy(http_proxy: Mapping[str, Any]) -> None:
    """Raise ValueError for URLs that containerd can't read, and for entries of no_proxy that look like networks and aren't."""
    for key in ("http", "https"):
        if http_proxy.get(key):
            proxy_url(f"containerd_http_proxy.{key}", http_proxy[key])
    entries = [str(entry) for entry in http_proxy.get("no_proxy") or []]
    wrong = [entry for entry in entries if _NETWORK.match(entry) and not _is_network(entry)]
    if wrong:
        raise ValueError(
            f"containerd_http_proxy.no_proxy has entries that are no address or network, {', '.join(wrong)}: write networks as "
            "10.0.0.0/8 or fd00::/8, names without a slash"
        )


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _scalar(row: Setting, variables: Mapping[str, Any]) -> Any:
    convert = {"bool": boolean, "int": _integer}.get(row.type)
    name = f"containerd_{row.name}"
    return convert(name, variables) if convert else variables[name]


def boolean(name: str, variables: Mapping[str, Any]) -> bool | None:
    """Return the variable as Ansible understands it, None if it is not set. Raises ValueError that names it."""
    value = variables[name]
    if value is None or isinstance(value, bool):
        return value
    if str(value).lower() not in _WORDS:
        raise ValueError(f"{name} has to be true or false, not {value!r}")
    return _WORDS[str(value).lower()]


def _integer(name: str, variables: Mapping[str, Any]) -> int | None:
    value = variables[name]
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} has to be a number, not {value!r}") from error


def _mapping(name: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
    value = variables[name]
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} has to be a dictionary")
    return value


def _sequence(name: str, variables: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    value = variables[name]
    if not isinstance(value, (list, tuple)) or not all(isinstance(element, Mapping) for element in value):
        raise ValueError(f"{name} has to be a list of dictionaries")
    return value
