# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs of the other version: which links, packages and unit lead to them, and the switch to them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import MANAGED
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import remove_file, write_file
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.release.host.install import apply_plan, read_state
from ansible_collections.slipway.node.plugins.module_utils.release.plan import (
    CURRENT,
    LinkPlan,
    Plan,
    parse_directory,
    parse_name,
    plan_absent,
    plan_links,
)
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import packages

_UNITS = "/etc/systemd/system"
# The releases that packages replace.
_RELEASES = ("containerd", "runc")


@dataclass(frozen=True)
class ReleaseSwitch:
    """The switch of a release to a version directory that is on the node already. ``home`` is PREFIX/NAME."""

    home: str
    before: str | None
    plan: Plan

    @property
    def paths(self) -> tuple[str, ...]:
        """The links that lead to the version, in the order in which they go back."""
        return (f"{self.home}/{CURRENT}", *self.plan.links.wanted, *self.plan.links.stale)


@dataclass(frozen=True)
class ProgramSwitch:
    """The changes after which the daemon, its client, its shims and runc are those of the other version.

    apt installs ``packages``, and may remove ``replaced``. ``package_changes`` are all changes of packages, as texts.
    """

    releases: tuple[ReleaseSwitch, ...]
    packages: tuple[str, ...]
    replaced: tuple[str, ...]
    package_changes: tuple[str, ...]
    unit: FileChange

    @property
    def changed(self) -> bool:
        """Whether the switch changes the node."""
        return any(one.plan.changed for one in self.releases) or bool(self.package_changes) or self.unit.changed

    @property
    def paths(self) -> tuple[str, ...]:
        """The links and the file of the unit that may change. They are not followed."""
        return (*(path for one in self.releases for path in one.paths), self.unit.path)

    def diff(self) -> list[dict[str, str]]:
        """Return what diff mode shows of the programs."""
        found = [one for one in self.releases if one.plan.switch]
        lines = [f"{one.home}/{CURRENT}" for one in found]
        shown = [
            {
                "before_header": path,
                "after_header": path,
                "before": f"{one.before or ''}\n",
                "after": f"{one.plan.current or ''}\n",
            }
            for path, one in zip(lines, found)
        ]
        if self.package_changes:
            text = "".join(f"{one}\n" for one in self.package_changes)
            shown.append({"before_header": "packages", "after_header": "packages", "before": "", "after": text})
        return shown + ([self.unit.diff()] if self.unit.changed else [])


def plan_switch(runner: Runner, params: Mapping[str, Any], unit: str, *, predicted: bool) -> ProgramSwitch:
    """Plan the switch of the releases, packages and unit that the options name.

    ``predicted``: a version directory may be missing. Raises ValueError that names the option.
    """
    links = parse_directory(params["link_dir"], "link_dir")
    prefix = parse_directory(params["prefix"], "prefix")
    wanted, replaced = tuple(params["packages"]), tuple(params["replace_packages"])
    releases = [
        _plan_release(
            one["name"], one["path"], links, _predicted_programs(one["name"], params["to_binary"]) if predicted else None
        )
        for one in params["releases"]
    ]
    if wanted:
        # In PATH, the shims and runc of a release come before those of a package.
        releases += [_plan_unused(f"{prefix}/{name}", links) for name in _RELEASES]
    return ProgramSwitch(
        releases=tuple(releases),
        packages=wanted,
        replaced=replaced,
        package_changes=packages.pending(runner, wanted, replaced),
        unit=_plan_unit(f"{_UNITS}/{unit}", params["unit_content"], remove=bool(wanted)),
    )


def _predicted_programs(name: str, to_binary: str | None) -> list[str]:
    """Return the programs of a release that is not on the node yet. Those of containerd are unpacked for the report."""
    directory = os.path.dirname(to_binary or "")
    if name != "containerd" or not os.path.isdir(directory):
        return [name]
    return sorted(one for one in os.listdir(directory) if os.access(f"{directory}/{one}", os.X_OK))


def _plan_release(name: str, path: str, links: str, predicted: list[str] | None) -> ReleaseSwitch:
    """Plan the switch to a version directory. ``predicted``: its programs, if it may be missing."""
    home, directory = os.path.split(parse_directory(path, "releases.path"))
    if os.path.basename(home) != parse_name(name):
        raise ValueError(f"releases: {path} is not a version directory of {name}: name the path that release_install returned")
    found = read_state(home, links)
    version = next((one for one in found.installed if one.directory == directory), None)
    if (version is None or not version.whole) and predicted is None:
        raise ValueError(f"releases: {path} is missing or damaged: stage it with slipway.node.release_install (state: staged)")
    executables = version.executables if version is not None else predicted or ()
    # It also refuses programs of others in the place of a link.
    plan = plan_links(executables, found.links, links=links, home=home, adopt=False)
    if version is None:
        plan = LinkPlan({}, (), ())
    return ReleaseSwitch(home, found.current, Plan(False, found.current != directory, directory, plan, (), ()))


def _plan_unused(home: str, links: str) -> ReleaseSwitch:
    """Plan the removal of all links to a release. Its version directories stay."""
    found = read_state(home, links)
    return ReleaseSwitch(home, found.current, replace(plan_absent(found, home=home), dropped=(), leftovers=()))


def _plan_unit(path: str, content: str | None, *, remove: bool) -> FileChange:
    """Plan the unit's file. Without ``content``, a file of the collection's own is removed for a package's (``remove``)."""
    before = None if os.path.islink(path) else read_text(path)
    if content is not None:
        return FileChange(path, before, content if content.endswith("\n") else f"{content}\n")
    ours = before is not None and before.startswith(f"# {MANAGED}")
    return FileChange(path, before, None if remove and ours else before)


def apply_switch(runner: Runner, switch: ProgramSwitch) -> None:
    """Switch to the programs. The daemon is stopped. Raises HostError."""
    if switch.package_changes:
        packages.install(runner, switch.packages, switch.replaced)
    for one in switch.releases:
        apply_plan(one.plan, one.home, None)
    unit = switch.unit
    if unit.changed and unit.after is None:
        remove_file(unit.path)
    elif unit.changed and unit.after is not None:
        if os.path.islink(unit.path):
            remove_file(unit.path)
        write_file(unit.path, unit.after.encode(), unit.mode)


def check_program(to_binary: str, switch: ProgramSwitch, releases: Sequence[Mapping[str, Any]], installed: str) -> None:
    """Raise ValueError if no release or package brings the program to_binary."""
    program = os.path.realpath(to_binary)
    staged = any(program.startswith(f"{os.path.realpath(one['path'])}/") for one in releases)
    if not (staged or switch.packages or program == os.path.realpath(installed)):
        raise ValueError(
            f"to_binary: {to_binary} is in none of releases, and packages is empty: "
            "list the release or the package that contains it"
        )
