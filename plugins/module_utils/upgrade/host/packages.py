# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packages on the node: predict what apt would change, keep the installed ones, install the new ones.

Going back is `RESTORE_PACKAGES`, a function of sh, over the directory that `keep_packages` filled.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import (
    make_directories,
    naming,
    read_bytes,
    remove_file,
    write_file,
)
from ansible_collections.slipway.node.plugins.module_utils.core.host.sync import sync_file_systems
from ansible_collections.slipway.node.plugins.module_utils.upgrade.packages import (
    ABSENT,
    ENVIRONMENT,
    SELECTIONS,
    Change,
    PackagePlan,
    apt_reason,
    broken_packages,
    file_name,
    parse_simulation,
    plan_packages,
)

_ARCHIVES = "/var/cache/apt/archives"
# Files that dpkg has to replace, whichever package brings containerd.
WRITTEN = ("/usr/bin/containerd", "/var/lib/dpkg/status")
_REPACK = "dpkg-repack"
# Packages that may come to the node with dpkg-repack.
_REPACK_PACKAGES = frozenset({_REPACK, "libdpkg-perl"})
# Seconds to wait for another apt or dpkg.
_LOCK_TIMEOUT = 120
_OPTIONS = (
    "--quiet",
    "--yes",
    f"--option=DPkg::Lock::Timeout={_LOCK_TIMEOUT}",
    "--option=DPkg::Options::=--force-confold",
    # apt's own user may not write to the directory of a generation.
    "--option=APT::Sandbox::User=root",
)
_INSTALL = ("--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages", "install")


def pending(runner: Runner, packages: Sequence[str], replace: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the changes as texts; none if there is nothing to do. ``packages`` are NAME, NAME=VERSION or NAME/SUITE.

    Nothing is changed or downloaded. Raises ValueError or HostError if a package may not change or can't be kept.
    """
    plan = _plan(runner, packages, replace)
    needed = {one for change in plan.own if change.before for one in _to_keep(runner, change.name, change.before)}
    return tuple(str(one) for one in (*plan.own, *sorted(needed, key=str)))


def warnings(runner: Runner, packages: Sequence[str], replace: Sequence[str] = ()) -> tuple[str, ...]:
    """Return a warning about the dependencies that apt would change: they stay if the upgrade is taken back."""
    others = ", ".join(str(one) for one in _plan(runner, packages, replace).others)
    if not others:
        return ()
    return (
        f"dependencies change too: {others}; they stay if the upgrade is taken back, and services that use them aren't restarted",
    )


def keep_packages(runner: Runner, packages: Sequence[str], directory: str, replace: Sequence[str] = ()) -> None:
    """Keep the installed versions of all packages that go back, durably, and download the new ones.

    Raises HostError if one can't be kept or downloaded. Nothing else is changed until then.
    """
    plan = _plan(runner, packages, replace)
    if not plan.own:
        return
    _keep(runner, plan.own, directory)
    _apt(runner, "--download-only", *_INSTALL, *plan.arguments, doing=f"download {' '.join(plan.arguments)}")


def keep_against(runner: Runner, kept: str, directory: str) -> None:
    """Keep the installed versions of all packages that going back to ``kept`` would change. Raises HostError."""
    changes = _changes_back(runner, kept)
    if changes:
        _keep(runner, changes, directory)


def install(runner: Runner, packages: Sequence[str], replace: Sequence[str] = ()) -> None:
    """Install the packages from what was downloaded, and remove those in ``replace``.

    No service is started, stopped or reloaded, and no configuration file of an administrator is replaced.
    Raises ValueError or HostError.
    """
    plan = _plan(runner, packages, replace)
    if plan.arguments:
        _apt(runner, *_INSTALL, *plan.arguments, doing=f"install {' '.join(plan.arguments)}")


def differ(runner: Runner, directory: str) -> bool:
    """Return whether other versions are installed than those that a directory keeps."""
    return bool(_changes_back(runner, directory))


def _plan(runner: Runner, packages: Sequence[str], replace: Sequence[str]) -> PackagePlan:
    """Return what apt would change. Raises ValueError or HostError if it must not, or can't."""
    removed = [name for name, version in _installed(runner, replace).items() if version]
    if not packages and not removed:
        return PackagePlan()
    _check_database(runner)
    arguments = (*packages, *(f"{name}-" for name in removed))
    simulated = _apt(runner, "--simulate", *_INSTALL, *arguments, doing=f"install {' '.join(arguments)}")
    held = runner.run("apt-mark", "showhold", doing="read the packages on hold").split()
    return plan_packages(parse_simulation(simulated), packages, replace, held)


def _check_database(runner: Runner) -> None:
    states = runner.run(
        "dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package}\n", doing="read the state of packages"
    )
    broken = broken_packages(states)
    if broken:
        raise HostError(
            f"an interrupted or failed installation left packages behind, {', '.join(broken)}: "
            "run dpkg --configure -a and apt-get --fix-broken install, or install them again"
        )


def _apt(runner: Runner, *arguments: str, doing: str) -> str:
    """Run apt-get so that maintainer scripts ask nothing, and start or stop no service."""
    environment = (f"{key}={value}" for key, value in ENVIRONMENT.items())
    result = runner.try_run("env", *environment, "apt-get", *_OPTIONS, *arguments)
    if result.code != 0:
        raise HostError(f"apt-get cannot {doing}: {apt_reason(result.stdout, result.stderr)}", exit_code=result.code)
    return result.stdout


def _installed(runner: Runner, names: Iterable[str]) -> dict[str, str]:
    """Return the installed version by name, empty for a package that isn't installed."""
    return {name: _field(runner, name, "Version") for name in names}


def _field(runner: Runner, name: str, field: str) -> str:
    shown = runner.try_run("dpkg-query", "--show", f"--showformat=${{db:Status-Status}} ${{{field}}}\n", "--", name)
    rows = [line.partition(" ") for line in shown.stdout.splitlines()]
    # A removed package whose configuration files are left isn't installed.
    return next((value for state, _blank, value in rows if state not in ("config-files", "not-installed")), "")


def _to_keep(runner: Runner, name: str, version: str) -> tuple[Change, ...]:
    """Return the packages that the node needs to keep a package. Raises HostError if it can't be kept."""
    listed = runner.try_run("apt-get", "--quiet", "--print-uris", "download", f"{name}={version}")
    return () if listed.code == 0 or _cached(runner, name, version) else _repacker(runner, name, version)


def _cached(runner: Runner, name: str, version: str) -> str | None:
    """Return the path of apt's own copy of an installed package."""
    path = f"{_ARCHIVES}/{file_name(name, version, _field(runner, name, 'Architecture'))}"
    return path if _identity(runner, path) == (name, version) else None


def _identity(runner: Runner, path: str) -> tuple[str, str]:
    """Return name and version of a package's file, both empty for anything else."""
    shown = runner.try_run("dpkg-deb", "--show", "--showformat=${Package} ${Version}", path)
    name, _blank, version = shown.stdout.partition(" ") if shown.code == 0 else ("", "", "")
    return name, version


def _repacker(runner: Runner, name: str, version: str) -> tuple[Change, ...]:
    """Return the packages to install for dpkg-repack. Raises HostError if apt would install others with it."""
    if runner.find(_REPACK):
        return ()
    simulated = runner.try_run("apt-get", "--simulate", "--quiet", "--no-install-recommends", "install", _REPACK)
    changes = parse_simulation(simulated.stdout) if simulated.code == 0 else ()
    if changes and all(one.name in _REPACK_PACKAGES and one.before is None for one in changes):
        return changes
    raise HostError(
        f"{name} {version} can't be kept for going back, because no package source has it: "
        "install dpkg-repack, which packs the installed files, or add a source that has this version"
    )


def _keep(runner: Runner, changes: Sequence[Change], directory: str) -> None:
    make_directories(directory, 0o700)
    present = [change for change in changes if change.before is not None]
    for change in present:
        _keep_one(runner, change.name, change.before or "", directory)
    names = [change.name for change in present]
    selections = runner.run("dpkg", "--get-selections", *names, doing="read the packages on hold") if names else ""
    absent = "".join(f"{change.name}\n" for change in changes if change.before is None)
    write_file(f"{directory}/{ABSENT}", absent.encode(), 0o600)
    write_file(f"{directory}/{SELECTIONS}", selections.encode(), 0o600)
    sync_file_systems([directory])


def _keep_one(runner: Runner, name: str, version: str, directory: str) -> None:
    """Put the package of the installed version into the directory: apt's copy, a download, or packed from the installed files."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=directory) as scratch:
        for bring in (_copy, _download, _repack):
            bring(runner, name, version, scratch)
            for path in _packages_in(scratch):
                whole = runner.try_run("dpkg-deb", "--contents", path).code == 0
                if whole and _identity(runner, path) == (name, version):
                    with naming("move", path):
                        os.rename(path, os.path.join(directory, os.path.basename(path)))
                    return
                remove_file(path)
    raise HostError(f"cannot keep {name} {version} for going back: {_REPACK} made no package of this version")


def _copy(runner: Runner, name: str, version: str, scratch: str) -> None:
    cached = _cached(runner, name, version)
    if cached is not None:
        with naming("copy", cached):
            shutil.copy(cached, scratch)


def _download(runner: Runner, name: str, version: str, scratch: str) -> None:
    # A list may name a file that its server has no longer.
    runner.try_run("env", f"--chdir={scratch}", "apt-get", *_OPTIONS, "download", f"{name}={version}")


def _repack(runner: Runner, name: str, version: str, scratch: str) -> None:
    if _repacker(runner, name, version):
        _apt(runner, "--no-install-recommends", "install", _REPACK, doing=f"install {_REPACK}")
    # dpkg-deb's default takes a minute for containerd.
    fast = ("--deb-option=-Zgzip", "--deb-option=-z1")
    runner.run("env", f"--chdir={scratch}", _REPACK, *fast, name, doing=f"pack the installed files of {name} {version}")


def _packages_in(directory: str) -> list[str]:
    with naming("list", directory):
        return [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if name.endswith(".deb")]


def _changes_back(runner: Runner, directory: str) -> tuple[Change, ...]:
    """Return the changes that restore the kept packages."""
    kept = dict(_identity(runner, path) for path in _packages_in(directory))
    installed = _installed(runner, kept)
    changes = [Change(name, installed[name] or None, version) for name, version in kept.items() if installed[name] != version]
    absent = (read_bytes(f"{directory}/{ABSENT}") or b"").decode().split()
    return (*changes, *(Change(name, version, None) for name, version in _installed(runner, absent).items() if version))
