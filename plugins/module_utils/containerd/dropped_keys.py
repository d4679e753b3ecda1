# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of configuration files that a later containerd doesn't read any more, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.names import CRI_RUNTIME, CRI_V2
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, dotted, lookup

NOTHING = "nothing takes its place"
_ANY_SCHEMA = (2, 3, 4)
_OTLP: Path = ("plugins", "io.containerd.tracing.processor.v1.otlp")
_CONTAINERD: Path = ("plugins", CRI_V2, "containerd")
_HANDLER: Path = (*_CONTAINERD, "runtimes", "*")
_TRACING: Path = ("plugins", "io.containerd.internal.v1.tracing")


@dataclass(frozen=True)
class Key:
    """A key at ``path`` in files of ``schemas`` that does nothing from the release ``gone`` on. ``*`` stands for any name.

    Values in ``neutral`` lose nothing. ``instead`` says what to write, with the value as ``{value}``, from the release
    ``since`` on.
    """

    path: Path
    gone: str
    instead: str
    neutral: tuple[Any, ...] = ("",)
    schemas: tuple[int, ...] = _ANY_SCHEMA
    since: str = "1.6.0"


def _variable(name: str) -> str:
    return f"set the environment variable {name} in a drop-in of the unit"


# containerd pkg/deprecation/deprecation.go; plugins/cri/runtime/plugin.go migrates bin_dir and enable_cdi of schema 2.
KEYS = (
    Key(
        ("plugins", CRI_RUNTIME, "cni", "bin_dir"),
        gone="2.4.0",
        instead="write bin_dirs = [{value!r}]",
        schemas=(3, 4),
        since="2.1.0",
    ),
    Key(
        ("plugins", CRI_RUNTIME, "enable_cdi"),
        gone="2.4.0",
        instead="nothing takes its place, as CDI can't be turned off there",
        neutral=(True,),
        schemas=(3, 4),
    ),
    Key(
        ("plugins", CRI_RUNTIME, "enable_experimental_restore_via_create"),
        gone="2.4.0",
        instead=NOTHING,
        neutral=(False,),
        schemas=(3, 4),
    ),
    Key((*_OTLP, "endpoint"), gone="2.0.0", instead=_variable("OTEL_EXPORTER_OTLP_ENDPOINT")),
    Key((*_OTLP, "protocol"), gone="2.0.0", instead=_variable("OTEL_EXPORTER_OTLP_PROTOCOL")),
    Key((*_OTLP, "insecure"), gone="2.0.0", instead=_variable("OTEL_EXPORTER_OTLP_INSECURE"), neutral=(False,)),
    Key((*_TRACING, "service_name"), gone="2.0.0", instead=_variable("OTEL_SERVICE_NAME"), neutral=("", "containerd")),
    Key(
        (*_CONTAINERD, "default_runtime", "runtime_type"),
        gone="2.0.0",
        instead="declare a handler under runtimes, and name it in default_runtime_name",
        schemas=(2,),
    ),
    Key(
        (*_CONTAINERD, "untrusted_workload_runtime", "runtime_type"),
        gone="2.0.0",
        instead="declare a handler under runtimes, and a runtime class for it",
        schemas=(2,),
    ),
    Key(
        ("plugins", CRI_V2, "disable_cgroup"),
        gone="2.0.0",
        instead=NOTHING,
        neutral=(False,),
        schemas=(2,),
    ),
    Key(
        ("plugins", CRI_V2, "systemd_cgroup"),
        gone="2.0.0",
        instead="set options.SystemdCgroup of each handler to true",
        neutral=(False,),
        schemas=(2,),
    ),
    Key((*_CONTAINERD, "no_pivot"), gone="2.0.0", instead=NOTHING, neutral=(False,), schemas=(2,)),
    Key((*_HANDLER, "runtime_engine"), gone="2.0.0", instead="write options.BinaryName = {value!r}", schemas=(2,)),
    Key((*_HANDLER, "runtime_root"), gone="2.0.0", instead="write options.Root = {value!r}", schemas=(2,)),
    Key(
        (*_HANDLER, "options", "CriuPath"),
        gone="2.0.0",
        instead="set the environment variable PATH in a drop-in of the unit, with the directory of criu",
        schemas=(2,),
    ),
    Key((*_TRACING, "sampling_ratio"), gone="2.0.0", instead=_variable("OTEL_TRACES_SAMPLER_ARG"), neutral=(1, 1.0)),
)


@dataclass(frozen=True)
class DroppedKey:
    """A key in a file; ``gone`` is the release that drops it."""

    source: str
    path: Path
    gone: str
    instead: str

    def is_dropped_by(self, version: Version) -> bool:
        """Return whether a release ignores the key."""
        return version.at_least(f"{self.gone}.0")

    def sentence(self) -> str:
        """Return which key it is, where, and which release drops it."""
        return f"{self.source}: {dotted(self.path)} does nothing from containerd {self.gone} on"

    def remedy(self) -> str:
        """Return what to write instead."""
        return f"in place of {dotted(self.path)} in {self.source}, {self.instead}"


def dropped_keys(sources: Iterable[Source], version: Version) -> Iterator[DroppedKey]:
    """Yield the keys in the files that this release or a later one ignores, if their value means something.

    Keys that have no successor yet in this release are left out.
    """
    for source in sources:
        try:
            tree: Mapping[str, Any] = toml.parse(source.text)
        except ValueError:
            continue
        for key in KEYS:
            if not version.at_least(key.since) or tree.get("version", max(key.schemas)) not in key.schemas:
                continue
            for path in _paths(tree, key.path):
                value = lookup(tree, path)
                if value is not None and value not in key.neutral:
                    yield DroppedKey(source.path, path, key.gone.removesuffix(".0"), key.instead.format(value=value))


def _paths(tree: Mapping[str, Any], pattern: Path) -> list[Path]:
    """Return the paths that a pattern stands for."""
    if "*" not in pattern:
        return [pattern]
    star = pattern.index("*")
    table = lookup(tree, pattern[:star])
    return [(*pattern[:star], name, *pattern[star + 1 :]) for name in table] if isinstance(table, Mapping) else []
