# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Kata runtime handler: its requested settings, and the configuration files as its runtime reads them.

Kata src/runtime/pkg/katautils/config.go (decodeDropIns, applyKey), src/libs/kata-types/src/config/drop_in.rs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, plain_name
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Tree, dotted, flatten, merge, nest
from ansible_collections.slipway.node.plugins.module_utils.kata.go_keys import go_keys
from ansible_collections.slipway.node.plugins.module_utils.kata.matrix import Combination
from ansible_collections.slipway.node.plugins.module_utils.kata.options import (
    ALWAYS_KNOWN,
    GO,
    RUST,
    SETTINGS,
    Hypervisor,
    check_settings,
    hypervisor_of,
    is_of,
    parse_version,
    vendor_settings,
)

_OPTIONS = frozenset(
    {
        "name",
        "runtime",
        "hypervisor",
        "base_config",
        "version",
        "snapshotter",
        "extra",
        "allow_host_disk_hotplug",
        *SETTINGS,
    }
)
# Names that Kata or kata-deploy give to something else in a directory of configurations.
_RESERVED = ("config.d", "configuration.toml", "runtimes", "custom-runtimes")
KATA_DEPLOY_MARK = "This file is managed by kata-deploy"
DROP_IN_COMMENT = (
    "Written by slipway.node.kata_config. It is rewritten: put your own settings into another file of this directory."
)
# A key that a file sets, or shows as a comment.
_MENTION = re.compile(r"^\s*#?\s*([A-Za-z0-9_]+)\s*=", re.MULTILINE)


@dataclass(frozen=True)
class Handler:
    """A requested handler. ``settings`` are those of the given options, ``extra`` raw tables beside them."""

    name: str
    runtime: str
    hypervisor: str
    base_config: str
    snapshotter: str = "overlayfs"
    version: Version | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    allow_host_disk_hotplug: bool = False

    @property
    def option(self) -> str:
        return f"handlers[{self.name}]"

    @property
    def kind(self) -> Hypervisor:
        return hypervisor_of(self.runtime, self.hypervisor)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Handler:
        """Parse one handler. Raises ValueError that names the option."""
        name = handler_name(params.get("name"))
        option = f"handlers[{name}]"
        unknown = sorted(set(params) - _OPTIONS)
        if unknown:
            raise ValueError(f"{option} has no key {unknown[0]!r}: its keys are {', '.join(sorted(_OPTIONS))}")
        for required in ("runtime", "hypervisor", "base_config"):
            if not params.get(required):
                raise ValueError(f"{option}.{required} is missing")
        try:
            kind = hypervisor_of(params["runtime"], params["hypervisor"])
        except ValueError as error:
            raise ValueError(f"{option}.hypervisor: {error}") from error
        settings = {key: params[key] for key in SETTINGS if params.get(key) is not None}
        check_settings(option, kind, settings)
        version = params.get("version")
        handler = cls(
            name=name,
            runtime=kind.runtime,
            hypervisor=kind.name,
            base_config=absolute_path(f"{option}.base_config", params["base_config"]),
            snapshotter=plain_name(f"{option}.snapshotter", params.get("snapshotter") or "overlayfs"),
            version=parse_version(f"{option}.version", version) if version else None,
            settings=settings,
            extra=dict(params.get("extra") or {}),
            allow_host_disk_hotplug=bool(params.get("allow_host_disk_hotplug")),
        )
        handler._check_extra()
        return handler

    def _check_extra(self) -> None:
        option = f"{self.option}.extra"
        try:
            toml.render(self.extra)
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from error
        for key, value in self.extra.items():
            if not isinstance(value, Mapping):
                raise ValueError(f"{option} must contain tables, such as runtime or agent, not the single key {key!r}")
        for section, table in self.extra.get("hypervisor", {}).items():
            if section not in self.kind.sections:
                raise ValueError(
                    f"{option}.hypervisor.{section} is the table of another hypervisor, and could make Kata start that one: "
                    f"leave it out, or give it a handler of its own"
                )
            if not isinstance(table, Mapping):
                raise ValueError(f"{option}.hypervisor.{section} has to be a table, not {table!r}")
            for key in table:
                if key in SETTINGS:
                    raise ValueError(f"{option}.hypervisor.{section}.{key} is an option: set {self.option}.{key}")


def handler_name(name: Any) -> str:
    """Return a valid handler name. Raises ValueError if no directory can have that name."""
    if not isinstance(name, str):
        raise ValueError(f"handlers must be a list of dictionaries with a name, not with {name!r}")
    plain_name("handlers.name", name)
    if name in _RESERVED:
        raise ValueError(f"handlers.name can't be {name}: Kata gives that name to something else")
    return name


def parse_handlers(entries: Iterable[Mapping[str, Any]]) -> list[Handler]:
    """Parse the option ``handlers``. Raises ValueError that names the error."""
    handlers = [Handler.from_params(entry) for entry in entries]
    check_twice([handler.name for handler in handlers])
    return handlers


def check_twice(names: Sequence[str]) -> None:
    """Raise ValueError that names the first handler that is listed twice."""
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"handlers lists {name} twice")


def parse_config_dir(path: str) -> str:
    """Return a valid config_dir. Raises ValueError for a directory that Kata or kata-deploy uses itself."""
    path = absolute_path("config_dir", path).rstrip("/")
    if not path:
        raise ValueError("config_dir can't be the root directory")
    if "config.d" in path.split("/"):
        raise ValueError(f"config_dir can't be {path}: Kata would read everything in it as drop-ins")
    if f"{path}/".find("/share/defaults/kata-containers/") >= 0:
        raise ValueError(
            f"config_dir can't be {path}: that directory belongs to Kata and kata-deploy; use one such as /etc/kata-containers"
        )
    return path


@dataclass(frozen=True)
class Vendor:
    """A configuration file as it was released. ``assumed``: it isn't there yet, and this is what it probably says.

    ``missing_program`` is the hypervisor's program that the file names, if the node lacks it.
    """

    text: str
    version: Version | None = None
    assumed: bool = False
    missing_program: str = ""

    def mentions(self) -> frozenset[str]:
        """Return the keys that it sets or shows in comments: what this version of Kata knows."""
        return frozenset(_MENTION.findall(self.text))


def assumed_vendor(handler: Handler) -> Vendor:
    """Return the file that a release probably contains, to predict a run that installs Kata first."""
    section = handler.kind.sections[0]
    tree: Tree = {"hypervisor": {section: vendor_settings(handler.kind, handler.version)}}
    if handler.runtime == RUST:
        tree["runtime"] = {"name": "virt_container", "hypervisor_name": section}
    return Vendor(toml.render(tree), handler.version, assumed=True)


def parse_file(path: str, content: bytes) -> Tree:
    """Parse a configuration file. Raises ValueError that names the file if Kata couldn't read it."""
    try:
        tree = toml.parse(content.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text, so Kata can't start with it: correct it, or move it away") from error
    except ValueError as error:
        raise ValueError(f"{path} is not TOML ({error}), so Kata can't start with it: correct it, or move it away") from error
    hypervisors = tree.get("hypervisor", {})
    if not isinstance(hypervisors, Mapping) or not all(isinstance(table, Mapping) for table in hypervisors.values()):
        raise ValueError(f"{path}: hypervisor is not a table of tables, so Kata can't start with it: correct it")
    for section, table in hypervisors.items():
        for key, kind in SETTINGS.items():
            if key in table and not is_of(kind, table[key]):
                raise ValueError(
                    f"{path}: hypervisor.{section}.{key} has to be of type {kind.__name__}, or Kata can't start: correct it"
                )
    return tree


def vendor_tree(handler: Handler, vendor: Vendor) -> Tree:
    """Parse the vendor's file. Raises ValueError unless it is for this handler's runtime and hypervisor."""
    option = f"{handler.option}.base_config"
    if KATA_DEPLOY_MARK in vendor.text:
        raise ValueError(
            f"{option}: {handler.base_config} is kata-deploy's copy, and left to it: name the file that it was copied from"
        )
    tree = parse_file(handler.base_config, vendor.text.encode())
    found = runtime_of(tree)
    if found != handler.runtime:
        raise ValueError(
            f"{option}: {handler.base_config} is of the {found.capitalize()} runtime: set runtime to {found}, or name another"
        )
    section_of(handler, tree)
    return tree


def runtime_of(tree: Mapping[str, Any]) -> str:
    """Return the runtime of a vendor's file: one for the Rust runtime names the hypervisor to start."""
    runtime = tree.get("runtime", {})
    return RUST if isinstance(runtime, Mapping) and "hypervisor_name" in runtime else GO


def section_of(handler: Handler, tree: Mapping[str, Any]) -> str:
    """Return the name of the hypervisor's table in the vendor's file. Raises ValueError if it isn't the only one."""
    sections = list(tree.get("hypervisor", {}))
    if len(sections) == 1 and sections[0] in handler.kind.sections:
        return str(sections[0])
    found = ", ".join(f"[hypervisor.{section}]" for section in sections) or "no table of a hypervisor"
    raise ValueError(
        f"{handler.option}.base_config: {handler.base_config} has {found}, "
        f"where [hypervisor.{handler.kind.sections[0]}] alone is expected"
    )


def drop_in_tree(handler: Handler, section: str) -> Tree:
    """Return the tree of the handler's own drop-in."""
    own = nest({("hypervisor", section, key): value for key, value in handler.settings.items()})
    return merge(_with_section(handler.extra, section), own)


def _with_section(extra: Mapping[str, Any], section: str) -> Tree:
    tables = {key: value for key, value in extra.items() if key != "hypervisor"}
    own = {key: value for table in extra.get("hypervisor", {}).values() for key, value in table.items()}
    return {**tables, "hypervisor": {section: own}} if own else tables


def drop_in_text(handler: Handler, section: str) -> str:
    """Return the handler's own drop-in as TOML."""
    return toml.render(drop_in_tree(handler, section), DROP_IN_COMMENT)


def unknown_keys(handler: Handler, vendor: Vendor, table: Mapping[str, Any]) -> Iterator[str]:
    """Yield keys of the hypervisor's table that this version of Kata may not know, by its sources and its file."""
    known = go_keys(handler.version or vendor.version) if handler.runtime == GO else ALWAYS_KNOWN
    known = known | vendor.mentions()
    return (key for key in table if not vendor.assumed and key not in known)


def check_known(handler: Handler, vendor: Vendor, section: str) -> Iterator[str]:
    """Yield a sentence for each key that the Rust runtime ignores. Raises ValueError for one that the Go runtime refuses."""
    table = drop_in_tree(handler, section).get("hypervisor", {}).get(section, {})
    for key in unknown_keys(handler, vendor, table):
        option = f"{handler.option}.{key}" if key in SETTINGS else f"{handler.option}.extra.hypervisor.{section}.{key}"
        if handler.runtime == GO:
            raise ValueError(
                f"{option} isn't known to this version of Kata, whose {handler.base_config} doesn't mention it, and the Go "
                "runtime doesn't start with a drop-in that has a key it doesn't know: leave it out"
            )
        yield f"{key} may have no effect: {handler.base_config} doesn't mention it"


def merged(runtime: str, base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Merge both files as the runtime does, ``over`` later: key by key, lists replaced.

    The Go runtime replaces a table inside of a hypervisor's or an agent's whole, the Rust runtime merges it as well.
    """
    result = merge(base, over)
    if runtime == RUST:
        return result
    for kind in ("hypervisor", "agent"):
        for name, table in over.get(kind, {}).items():
            if isinstance(table, Mapping):
                result[kind] = {**result[kind], name: {**base.get(kind, {}).get(name, {}), **table}}
    return result


def effective_settings(tree: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Return the runtime's settings; null where the file leaves them to it. A missing flag or number is false or 0."""
    table = tree.get("hypervisor", {}).get(section, {})
    settings = {name: table.get(name, None if kind is str else kind()) for name, kind in SETTINGS.items()}
    return {**settings, "force_guest_pull": _force_guest_pull(tree)}


def _force_guest_pull(tree: Mapping[str, Any]) -> bool:
    """Return whether the guest pulls the images. The Go runtime has a key for it, the Rust runtime an experimental feature."""
    runtime = tree.get("runtime", {})
    if runtime_of(tree) == GO:
        return isinstance(runtime, Mapping) and runtime.get("experimental_force_guest_pull") is True
    features = runtime.get("experimental")
    return isinstance(features, list) and "force_guest_pull" in features


def program_path(content: bytes) -> str:
    """Return the hypervisor's program that a file names; empty if it names none, or can't be read."""
    try:
        tables = parse_file("", content).get("hypervisor", {})
    except ValueError:
        return ""
    path: Any = ""
    for table in tables.values():
        path = table.get("path", path)
    return path if isinstance(path, str) else ""


def archive_hint(path: str) -> str:
    """Return in parentheses which archive of Kata has a program that others lack; empty for other programs."""
    return " (from 4.1.0 on, Firecracker is in the archive kata-go-static alone)" if path.endswith("/firecracker") else ""


def missing_program(path: str) -> str:
    """Say that a hypervisor's program isn't there, and where it comes from."""
    return f"there is no program {path}, which runs the guests: install it{archive_hint(path)}, or name another"


def combination(handler: Handler, vendor: Vendor, effective: Mapping[str, Any]) -> Combination:
    """Return the combination to look up in the matrix, for the runtime's settings."""
    return Combination(
        runtime=handler.runtime,
        hypervisor=handler.hypervisor,
        snapshotter=handler.snapshotter,
        version=handler.version or vendor.version,
        disable_block_device_use=bool(effective["disable_block_device_use"]),
        block_device_driver=effective["block_device_driver"] or None,
        shared_fs=effective["shared_fs"] or None,
        allow_host_disk_hotplug=handler.allow_host_disk_hotplug,
        guest_pull=bool(effective["force_guest_pull"]),
    )


def overridden(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return the keys of our drop-in that a later one sets to something else."""
    found = flatten(theirs)
    return [dotted(path) for path, value in flatten(ours).items() if path in found and found[path] != value]
