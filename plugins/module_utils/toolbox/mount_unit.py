# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The systemd units that mount a snapshot, now and after every reboot."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

MARK = "# Made by slipway.node.toolbox_snapshot"
_DIRECTORY = "/etc/systemd/system"
# systemd src/basic/unit-name.h, UNIT_NAME_MAX, without the NUL.
LONGEST_NAME = 255
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f\"'\\]")
_BINDS = ("bind", "rbind")


@dataclass(frozen=True)
class Source:
    """The mount of a snapshot as containerd reports it: type, device or directory, options."""

    kind: str
    what: str
    options: tuple[str, ...]

    @property
    def binds(self) -> bool:
        """Whether a directory is shown in another place."""
        return self.kind in _BINDS or bool(set(_BINDS).intersection(self.options))

    @property
    def needs_daemon(self) -> bool:
        """Whether containerd may have to activate a device first."""
        return self.kind != "overlay" and not self.binds

    @property
    def upper(self) -> str:
        """The directory of an overlay that holds what is written; empty for anything else."""
        return option(self.options, "upperdir") if self.kind == "overlay" else ""

    @property
    def layers(self) -> tuple[str, ...]:
        """The directories of an overlay that it is laid over."""
        lower = option(self.options, "lowerdir") if self.kind == "overlay" else ""
        return tuple(lower.split(":")) if lower else ()

    @property
    def directories(self) -> tuple[str, ...]:
        """Those of the snapshot itself."""
        if self.binds:
            return (self.what,)
        return (self.upper, option(self.options, "workdir")) if self.upper else ()


@dataclass(frozen=True)
class MountArguments:
    """The arguments of mount(8): the options as one text; ``directory`` is where relative paths among them start, or empty."""

    kind: str
    what: str
    options: str
    directory: str = ""


def option(options: Sequence[str], name: str) -> str:
    """Return the value of an option NAME=VALUE; empty if there is none."""
    return next((one.partition("=")[2] for one in options if one.startswith(f"{name}=")), "")


def unit_name(path: str) -> str:
    """Return the name of the mount unit for a path: systemd.unit(5), "String escaping for inclusion in unit names"."""
    words = re.sub(r"/+", "/", path).strip("/")
    escaped = "".join(
        "-" if char == "/" else char if _stays(char, first=not number) else "".join(f"\\x{byte:02x}" for byte in char.encode())
        for number, char in enumerate(words)
    )
    return f"{escaped or '-'}.mount"


def _stays(char: str, *, first: bool) -> bool:
    return (char.isascii() and char.isalnum()) or char in ":_" or (char == "." and not first)


def unit_path(path: str) -> str:
    """Return where the unit lies that mounts something on a path."""
    return f"{_DIRECTORY}/{unit_name(path)}"


def layers_unit_name(path: str) -> str:
    """Return the name of the service that makes containerd mount the layers below a path's mount."""
    return f"{unit_name(path)[: -len('mount')]}service"


def layers_unit_path(path: str) -> str:
    """Return where that service lies."""
    return f"{_DIRECTORY}/{layers_unit_name(path)}"


def enabling_link(path: str) -> str:
    """Return the links that systemd creates when the unit is enabled."""
    return f"{_DIRECTORY}/multi-user.target.wants/{unit_name(path)}"


def mount_arguments(source: Source) -> MountArguments:
    """Lower directories are given relative to what they have in common: all options have to fit in one page of memory, and an
    image may have hundreds of layers. The options are sorted: containerd 1.x and 2.x list the same ones in another order.
    """
    lower = option(source.options, "lowerdir").split(":")
    if source.kind != "overlay" or len(lower) < 2:
        kind = "none" if source.kind in _BINDS else source.kind
        return MountArguments(kind, source.what, ",".join(sorted(source.options)))
    common = posixpath.commonpath(lower)
    relative = ":".join(posixpath.relpath(layer, common) for layer in lower)
    options = [f"lowerdir={relative}" if one.startswith("lowerdir=") else one for one in source.options]
    return MountArguments(source.kind, source.what, ",".join(sorted(options)), common)


def unit_text(path: str, source: Source, *, key: str, root: str, service: str, mounts: Sequence[str] = ()) -> str:
    """Return the unit's content. ``key`` is the snapshot's, ``root`` the snapshotter's directory, ``service`` the daemon.

    ``mounts`` are layers that are mounts of their own, which the path's other unit has the snapshotter make.

    Raises ValueError if a path can't be written in a unit.
    """
    how = mount_arguments(source)
    _check_readable(how.what, how.options, how.directory, root)
    unit = {
        "Description": f"Toolbox {path}",
        "DefaultDependencies": "no",
        "RequiresMountsFor": f'"{_literal(root)}"',
        "Conflicts": "umount.target",
        "Before": "umount.target systemd-user-sessions.service",
        "After": "local-fs.target",
    }
    if source.needs_daemon or mounts:
        first = layers_unit_name(path) if mounts else service
        # Not Requires=, which would unmount it whenever containerd is restarted.
        unit["After"] = f"local-fs.target {first}"
        unit["Wants"] = first
    mount = {"What": how.what, "Where": path, "Type": how.kind, "Options": how.options}
    if how.directory:
        mount["WorkingDirectory"] = how.directory
    lines = [f"{MARK} for the snapshot {key}: changes made here are lost."]
    lines += ["[Unit]", *(f"{name}={value if name == 'RequiresMountsFor' else _literal(value)}" for name, value in unit.items())]
    if source.directories:
        lines += ["# systemd makes them where they are missing (core/mount.c), and so would mount what is no snapshot any more."]
        lines += [f"AssertPathIsDirectory={_literal(one)}" for one in source.directories]
    if mounts:
        lines += ["# Until the layers are mounted, there is nothing but empty directories to lay this over."]
        lines += [f"AssertPathIsMountPoint={_literal(one)}" for one in mounts]
    lines += ["", "[Mount]", *(f"{name}={_literal(value)}" for name, value in mount.items() if value)]
    if source.kind == "overlay":
        lines += ["# fsconfig(2), which mount(8) takes by itself since util-linux 2.39, ends each option at 255 bytes."]
        lines += ["Environment=LIBMOUNT_FORCE_MOUNT2=always"]
    return "\n".join([*lines, "", "[Install]", "WantedBy=multi-user.target"]) + "\n"


def layers_unit_text(path: str, ask: Sequence[str], *, key: str, service: str) -> str:
    """Return the content of the service. ``ask`` is the command that makes the daemon mount the layers.

    Raises ValueError if it can't be written in a unit.
    """
    _check_readable(*ask)
    if len(layers_unit_name(path)) > LONGEST_NAME:
        raise ValueError(f"path {path} is too long for the name of a unit: use a shorter path")
    command = " ".join('"{}"'.format(_literal(one).replace("$", "$$")) for one in ask)
    lines = [f"{MARK} for the snapshot {key}: changes made here are lost."]
    lines += ["[Unit]", f"Description=Layers of the toolbox {_literal(path)}", f"Wants={service}", f"After={service}", ""]
    lines += ["[Service]", "Type=oneshot", f"ExecStart={command}", "StandardOutput=null"]
    return "\n".join(lines) + "\n"


def _check_readable(*texts: str) -> None:
    for text in texts:
        if _UNREADABLE.search(text):
            raise ValueError(f"{text[:200]!r} has characters that a systemd unit can't hold: move containerd's root elsewhere")


def _literal(text: str) -> str:
    """Escape a text for a unit: a percent sign starts a specifier (systemd.unit(5))."""
    return text.replace("%", "%%")
