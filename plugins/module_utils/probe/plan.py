# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The containers that a probe starts with each runtime handler, and their outcomes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig, Handler
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import PROBE_NAMESPACE
from ansible_collections.slipway.node.plugins.module_utils.probe.program import EXIT_CODE

# What a probe starts: nothing, a container through containerd, or a pod through CRI.
NONE, CONTAINER, POD = "none", "container", "pod"
KINDS = (NONE, CONTAINER, POD)

STARTED, FAILED, NOT_TRIED = "started", "failed", "not tried"

# The name of everything that a probe creates: its namespace in containerd, its container, its cgroup, its pod.
NAME = PROBE_NAMESPACE

# The only runtime that ctr passes options of runc to: cmd/ctr/commands/run/run_unix.go, RuntimeOptions.
_RUNC = "io.containerd.runc.v2"
_RUNC_OPTIONS: Mapping[str, type] = {"BinaryName": str, "Root": str, "SystemdCgroup": bool}
# How crictl logs what CRI answers, and its own last words.
_LOGGED = re.compile(r'(?: err|level=fatal msg)="((?:[^"\\]|\\.)*)"')
_STATUS = re.compile(r"^rpc error: code = \w+ desc = ")
_LOG_LINE = re.compile(r'^(time="|WARN\[|ERRO\[)')


class NotTried(ValueError):
    """The probe can't use this handler; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a handler: STARTED, FAILED or NOT_TRIED, and why in the last two cases."""

    handler: str
    state: str
    reason: str = ""

    def shown(self) -> str:
        """Return the state and its reason."""
        return f"{self.state}: {self.reason}" if self.reason else self.state


@dataclass(frozen=True)
class Report:
    """The outcome of each handler. ``left`` is what the probe couldn't take away again, empty if it left nothing."""

    outcomes: tuple[Outcome, ...]
    left: str = ""

    def to_json(self) -> bytes:
        """Return it for another process."""
        return json.dumps([[[one.handler, one.state, one.reason] for one in self.outcomes], self.left]).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Report:
        """Parse what ``to_json`` returned."""
        outcomes, left = json.loads(text)
        return cls(tuple(Outcome(*one) for one in outcomes), left)


@dataclass(frozen=True)
class Trial:
    """A handler with the arguments for ``ctr run``, or ``outcome`` if it isn't started. ``runc_root`` is runc's directory."""

    handler: str
    arguments: tuple[str, ...] = ()
    outcome: Outcome | None = None
    runc_root: str = "/run/containerd/runc"


def plan_trials(config: EffectiveConfig, only: Iterable[str] | None, unsafe: Mapping[str, str]) -> tuple[Trial, ...]:
    """Plan a container for each handler of CRI, or for those in ``only``.

    ``unsafe`` handlers aren't started, with the reason.
    """
    names = config.handlers if only is None else [name for name in only if name in config.handlers]
    return tuple(_trial(config, config.handlers[name], unsafe.get(name)) for name in names)


def plan_pods(config: EffectiveConfig, only: Iterable[str] | None, unsafe: Mapping[str, str]) -> tuple[Trial, ...]:
    """Plan a pod for each handler in the same way: CRI passes the options of its table itself."""
    names = config.handlers if only is None else [name for name in only if name in config.handlers]
    refused = {name: Outcome(name, NOT_TRIED, reason) for name, reason in unsafe.items()}
    return tuple(Trial(name, outcome=refused.get(name)) for name in names)


def _trial(config: EffectiveConfig, handler: Handler, unsafe: str | None) -> Trial:
    if unsafe is not None:
        return Trial(handler.name, outcome=Outcome(handler.name, NOT_TRIED, unsafe))
    options = config.handler_options(handler.name)
    snapshotter = handler.snapshotter or config.own_snapshotters[0]
    try:
        arguments = ("--snapshotter", snapshotter, *runtime_arguments(handler, options))
    except NotTried as error:
        return Trial(handler.name, outcome=Outcome(handler.name, NOT_TRIED, str(error)))
    except ValueError as error:
        return Trial(handler.name, outcome=Outcome(handler.name, FAILED, str(error)))
    return Trial(handler.name, arguments, runc_root=str(options.get("Root") or Trial.runc_root))


def runtime_arguments(handler: Handler, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the arguments of ``ctr run`` for a handler's runtime and the options of its table.

    Raises NotTried for a handler that ctr can't express, and ValueError for options that the daemon can't read either.
    """
    runtime = handler.path or handler.type
    if not runtime:
        raise ValueError("it has no runtime_type")
    runc = {key: value for key, kind in _RUNC_OPTIONS.items() if (value := _option(options, key, kind))}
    if not runc:
        config_path = _option(options, "ConfigPath", str)
        takes_path = config_path and runtime != _RUNC
        return ("--runtime", runtime, *(["--runtime-config-path", config_path] if takes_path else []), *_cgroup(systemd=False))
    if runtime != _RUNC:
        raise NotTried(f"ctr can't start {runtime} with {', '.join(runc)}: use the probe 'pod'")
    binary, root, systemd = runc.get("BinaryName"), runc.get("Root"), bool(runc.get("SystemdCgroup"))
    return (
        *("--runtime", runtime),
        *(["--runc-binary", binary] if binary else []),
        *(["--runc-root", root] if root else []),
        *(["--runc-systemd-cgroup"] if systemd else []),
        *_cgroup(systemd=systemd),
    )


def _option(options: Mapping[str, Any], key: str, kind: type) -> Any:
    value = options.get(key)
    if value is not None and not isinstance(value, kind):
        wanted = "true or false" if kind is bool else "a string"
        raise ValueError(f"its option {key} is {value!r}, and has to be {wanted}")
    return value


def _cgroup(*, systemd: bool) -> tuple[str, ...]:
    """Return the options for the cgroup. With systemd, runc expects a slice, a prefix and a name for the scope."""
    return ("--cgroup", f"system.slice:slipway:{NAME.partition('-')[2]}" if systemd else f"/{NAME}")


def outcome_of_run(handler: str, code: int, stderr: str) -> Outcome:
    """Judge how ``ctr run`` ended."""
    if code == EXIT_CODE:
        return Outcome(handler, STARTED)
    said = complaint(stderr)
    return Outcome(handler, FAILED, said or f"the container's process ended with {code} instead of {EXIT_CODE}")


def complaint(stderr: str) -> str:
    """Return what a client says went wrong, in its own words, without the lines of its log."""
    logged = _LOGGED.search(stderr)
    if logged:
        return _STATUS.sub("", re.sub(r"\\(.)", r"\1", logged[1]))
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = [line.partition(": ")[2] for line in lines if line.startswith("ctr: ")]
    return " ".join(said or [line for line in lines if not _LOG_LINE.match(line)] or lines)


def sandbox(handler: str) -> bytes:
    """Return the configuration of a pod without containers, for crictl. It uses the node's network, so it needs no CNI."""
    network_of_the_node = 2
    return json.dumps(
        {
            "metadata": {"name": NAME, "namespace": NAME, "uid": f"{NAME}-{handler}", "attempt": 0},
            "linux": {"security_context": {"namespace_options": {"network": network_of_the_node}}},
        }
    ).encode()
