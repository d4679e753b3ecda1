# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which packages an upgrade installs and removes, and how they go back."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# Packages with containerd or runc, of Debian and of Docker. They go back with an upgrade, as the named ones do.
ENGINES = ("containerd", "containerd.io", "runc")
# Files beside the kept packages: names to remove, one a line, and dpkg's selections (holds).
ABSENT, SELECTIONS = "absent", "selections"
# apt and dpkg ask no question and keep the configuration files of administrators. With SYSTEMD_OFFLINE, systemctl ignores
# commands that need the service manager (systemd docs/ENVIRONMENT.md), so no maintainer script starts or stops a service.
# The variable lasts as long as the process.
ENVIRONMENT = {
    "APT_LISTCHANGES_FRONTEND": "none",
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_SUSPEND": "1",
    "SYSTEMD_OFFLINE": "1",
    "UCF_FORCE_CONFFOLD": "1",
}
# Dependencies that an upgrade of containerd may not change: they run the node, and an upgrade restarts no other service.
_RUN_THE_NODE = re.compile(
    r"(systemd|init|dbus|udev|apt|dpkg|python3|podman|buildah|cri-o|docker|kube|openssh-server)(?![a-z])|(docker|kube)[a-z]"
)
# apt gives a meaning to a name that ends with + or -, and to names with wildcards.
_REQUEST = re.compile(r"([a-z0-9][a-z0-9+.-]*[a-z0-9])(?:[=/][A-Za-z0-9][A-Za-z0-9.+:~_*-]*)?")
_LINE = re.compile(r"(Inst|Remv|Purg) (\S+)(?: \[([^]\s]+)\])?(?: \((\S+) )?")
# States of a package in dpkg's database that an interrupted or failed installation leaves.
_BROKEN_STATES = frozenset("HUF")


@dataclass(frozen=True)
class Change:
    """A package that apt would install (``before`` is None), upgrade or remove (``after`` is None)."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name} {self.after} is installed"
        if self.after is None:
            return f"{self.name} {self.before} is removed"
        return f"{self.name} {self.before} → {self.after}"


@dataclass(frozen=True)
class PackagePlan:
    """``own`` goes back with the upgrade. ``others`` are dependencies of it, which stay as the upgrade left them."""

    own: tuple[Change, ...] = ()
    others: tuple[Change, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the arguments of ``apt-get install``. apt would mark a named dependency as installed by hand."""
        return tuple(f"{one.name}-" if one.after is None else f"{one.name}={one.after}" for one in self.own)


def request_name(request: str) -> str:
    """Return the package's name of NAME, NAME=VERSION or NAME/SUITE. Raises ValueError."""
    found = _REQUEST.fullmatch(request)
    if found is None:
        raise ValueError(f"packages: {request!r} is not NAME, NAME=VERSION or NAME/SUITE")
    return found[1]


def parse_simulation(stdout: str) -> tuple[Change, ...]:
    """Parse the output of ``apt-get --simulate install``."""
    changes: dict[str, Change] = {}
    for line in stdout.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        action, name, before, after = found.groups()
        # A package that apt removes and installs again has both lines.
        before = before or (changes[name].before if name in changes else None)
        changes[name] = Change(name, before, after if action == "Inst" else None)
    return tuple(changes.values())


def plan_packages(
    changes: Sequence[Change], requests: Sequence[str], replace: Collection[str], held: Collection[str]
) -> PackagePlan:
    """Divide apt's changes into those of the upgrade and of its dependencies.

    Raises ValueError that names the packages which may not change.
    """
    wanted = {request_name(request) for request in requests}
    removed = [one for one in changes if one.after is None and one.name not in replace]
    if removed:
        names = ", ".join(one.name for one in removed)
        target = ", ".join(requests) or f"remove {', '.join(replace)}"
        raise ValueError(
            f"to {'install ' if requests else ''}{target}, apt would remove {names}: "
            "name them in replace_packages if they may be removed"
        )
    own = tuple(one for one in changes if one.name in wanted or one.name in replace or one.name in ENGINES)
    others = tuple(one for one in changes if one not in own)
    frozen = [one for one in others if one.name in held]
    if frozen:
        raise ValueError(
            f"apt would change packages that are on hold, {_list(frozen)}: "
            "name them in packages, or release them with apt-mark unhold"
        )
    running = [one for one in others if one.before is not None and _RUN_THE_NODE.match(one.name)]
    if running:
        raise ValueError(
            f"apt would change packages that run the node, {_list(running)}: upgrade them first, or name them in packages"
        )
    return PackagePlan(own, others)


def apt_reason(stdout: str, stderr: str) -> str:
    """Return why apt refuses, in its own words: the unmet dependencies, and the errors."""
    _before, _heading, unmet = stdout.partition("have unmet dependencies:\n")
    lines = [*unmet.splitlines(), *(line for line in stderr.splitlines() if line.startswith("E: "))]
    return "; ".join(line.strip() for line in lines if line.strip())


def broken_packages(states: str) -> tuple[str, ...]:
    """Return the packages that are not whole, from lines of ``dpkg-query --showformat='${db:Status-Abbrev} ${Package}\\n'``."""
    rows = ((line[:3], line[3:].strip()) for line in states.splitlines())
    return tuple(name for abbreviation, name in rows if abbreviation[1:2] in _BROKEN_STATES or abbreviation[2:] == "R")


def file_name(package: str, version: str, architecture: str) -> str:
    """Return the name of apt's file of a package."""
    return f"{package}_{version.replace(':', '%3a')}_{architecture}.deb"


def _list(changes: Sequence[Change]) -> str:
    return ", ".join(str(one) for one in changes)


# A function of sh that restores the packages of a directory: `restore_packages DIRECTORY`. It needs only dpkg, no network and
# no service manager: while the node boots, `systemctl start containerd` in a maintainer script would wait for the unit that
# calls it. apt may still run after its run was killed, so the function waits for dpkg's lock, five minutes at most.
RESTORE_PACKAGES = r"""
dpkg_offline() {
    tries=0
    set -- dpkg --force-confold --force-downgrade --force-remove-reinstreq "$@"
    until said=$(env LC_ALL=C __ENVIRONMENT__ "$@" </dev/null 2>&1); do
        case $said in
        *" lock "*) tries=$((tries + 1)) ;;
        *) tries=300 ;;
        esac
        if [ "$tries" -ge 300 ]; then
            printf '%s\n' "$said" | grep -A 1 '^dpkg: error' >&2 || printf '%s\n' "$said" | tail -n 1 >&2
            return 1
        fi
        sleep 1
    done
}

# Whether the packages in these files are installed, in their versions.
are_installed() {
    for file in "$@"; do
        name=$(dpkg-deb --field "$file" Package) && wanted=$(dpkg-deb --field "$file" Version) || return 1
        found=$(dpkg-query --show --showformat="\${db:Status-Abbrev} \${Version}" "$name") || return 1
        # The first letter is i, or h for a package on hold.
        [ "${found#?}" = "i  $wanted" ] || return 1
    done 2>/dev/null
}

restore_packages() {
    kept=$1
    # A failure doesn't matter: a new package that can't be configured is removed below.
    dpkg_offline --configure -a 2>/dev/null || true
    if [ -s "$kept/absent" ]; then
        while read -r name; do
            case $(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null) in
            '' | not-installed | config-files) ;;
            # Packages that depend on it are restored in the next step.
            *) dpkg_offline --force-depends --remove "$name" || return 1 ;;
            esac
        done <"$kept/absent"
    fi
    set --
    for file in "$kept"/*.deb; do
        [ ! -e "$file" ] || set -- "$@" "$file"
    done
    # On a full disk, dpkg could not replace them before either, and leaves them as they are.
    [ "$#" -eq 0 ] || dpkg_offline --install "$@" || are_installed "$@" || return 1
    [ ! -s "$kept/selections" ] || dpkg --set-selections <"$kept/selections"
}
""".replace("__ENVIRONMENT__", " ".join(f"{key}={value}" for key, value in ENVIRONMENT.items()))
