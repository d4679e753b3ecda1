# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan for release archives: the entries to unpack, their place, the links to them, and the versions that stay."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_MEMBERS = 100_000
MAX_BYTES = 16 * 1024**3
ELF_HEADER_BYTES = 20
CURRENT = "current"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# e_machine of elf(5), by the names that uname -m uses.
_ELF_MACHINES = {
    "x86_64": 62,
    "aarch64": 183,
    "armv7l": 40,
    "i386": 3,
    "ppc64le": 21,
    "riscv64": 243,
    "s390x": 22,
    "loongarch64": 258,
}
_ALIASES = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "arm": "armv7l",
    "armhf": "armv7l",
    "armv6l": "armv7l",
    "armv8l": "armv7l",
    "386": "i386",
    "i686": "i386",
    "ppc64el": "ppc64le",
    "loong64": "loongarch64",
}


@dataclass(frozen=True)
class Release:
    """A requested release. ``architecture`` is a name of ``uname -m``; bin_dir is relative to the archive's root.

    tree, relative to it as well, is the one directory that is linked in the place of executables.
    """

    name: str
    version: str
    sha256: str
    architecture: str
    bin_dir: str
    tree: str | None = None

    @property
    def directory(self) -> str:
        """Name of the version's directory: the same version from another build is another directory."""
        return f"{self.version}-{self.sha256[:12]}"


@dataclass(frozen=True)
class Member:
    """One entry of an archive. kind: file, directory, symlink, hardlink, or what else tar knows; size in bytes."""

    name: str
    kind: str
    mode: int
    size: int = 0
    target: str = ""


@dataclass(frozen=True)
class Installed:
    """One version directory with a manifest. installed_at: seconds since the epoch; whole: nothing is missing."""

    directory: str
    version: str
    executables: tuple[str, ...]
    installed_at: float
    whole: bool = True


@dataclass(frozen=True)
class CurrentLink:
    """The file with the name of a managed link. target is None if it is not a symbolic link."""

    target: str | None
    is_directory: bool = False


@dataclass(frozen=True)
class InstalledReleases:
    """The state of one release on the node: version directories, the one that current leads to, what killed runs
    left behind, and what is in the directory of the links, by path. kept are the version directories that a generation of
    an upgrade leads to."""

    installed: tuple[Installed, ...]
    current: str | None
    leftovers: tuple[str, ...]
    links: Mapping[str, CurrentLink]
    kept: frozenset[str] = frozenset()

    def whole(self, release: Release) -> Installed | None:
        """Return the release's version directory if nothing of it is missing and its links are those of bin_dir."""
        for version in self.installed:
            if version.directory == release.directory and version.whole:
                linked = all((posixpath.dirname(path) or ".") == release.bin_dir for path in version.executables)
                return version if linked else None
        return None

    @property
    def version(self) -> str | None:
        """The version that the links lead to."""
        return next((version.version for version in self.installed if version.directory == self.current), None)


@dataclass(frozen=True)
class LinkPlan:
    """Links to have (path to target), those of them to set, and paths of links to remove."""

    wanted: Mapping[str, str]
    changed: tuple[str, ...]
    stale: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """install: the version directory to make, if any; current: where current is to lead, None for nowhere."""

    install: bool
    switch: bool
    current: str | None
    links: LinkPlan
    dropped: tuple[str, ...]
    leftovers: tuple[str, ...]

    @property
    def changed(self) -> bool:
        return bool(self.install or self.switch or self.links.changed or self.links.stale or self.dropped or self.leftovers)


def parse_name(name: str) -> str:
    """Return the release's name. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"name must be letters, digits, '.', '_' and '-', not {name!r}")
    return name


def parse_directory(path: str, option: str) -> str:
    """Return an absolute path without a slash at its end. Raises ValueError naming the option."""
    if not path.startswith("/") or _CONTROL.search(path) or ".." in path.split("/") or path.strip("/") == "":
        raise ValueError(f"{option} must be an absolute path below /, not {path!r}")
    return posixpath.normpath(path)


def parse_release(params: Mapping[str, Any], *, node_architecture: str) -> Release:
    """Check the options that say what to install. Raises ValueError naming the option."""
    version, sha256 = params["version"], params["sha256"].lower()
    if not _VERSION.fullmatch(version):
        raise ValueError(f"version must be letters, digits, '.', '_', '+', '~' and '-', not {version!r}")
    if not _SHA256.fullmatch(sha256):
        raise ValueError("sha256 must be 64 hexadecimal digits")
    bin_dir = posixpath.normpath(params["bin_dir"])
    if bin_dir.startswith(("/", "..")) or _CONTROL.search(bin_dir):
        raise ValueError(f"bin_dir must be a directory inside the archive, not {params['bin_dir']!r}")
    tree = parse_directory(params["install_root"], "install_root")[1:] if params.get("install_root") else None
    if tree and not f"{bin_dir}/".startswith(f"{tree}/"):
        raise ValueError(f"bin_dir must be inside install_root, as {tree}/bin is, not {params['bin_dir']!r}")
    architecture = normal_architecture(params["architecture"] or node_architecture)
    return Release(parse_name(params["name"]), version, sha256, architecture, bin_dir, tree)


def normal_architecture(name: str) -> str:
    """Return the name that ``uname -m`` uses. Raises ValueError if it is not known."""
    known = _ALIASES.get(name, name)
    if known not in _ELF_MACHINES:
        raise ValueError(f"architecture must be one of {', '.join(sorted({*_ELF_MACHINES, *_ALIASES}))}, not {name!r}")
    return known


def check_source(src: str) -> str:
    """Return 'url', or 'path' for an absolute path. Raises ValueError."""
    if not _CONTROL.search(src):
        if re.match(r"(https?|file)://[^\s]+$", src):
            return "url"
        if src.startswith("/"):
            return "path"
    raise ValueError(f"src must be an absolute path on the node or a URL (https, http, file), not {src!r}")


def check_members(members: Iterable[Member]) -> int:
    """Check that the archive can't write outside its directory; return its unpacked size in bytes.

    Raises ValueError naming the member at fault.
    """
    kinds: dict[str, str] = {}
    size = 0
    for member in members:
        path = member_path(member.name)
        known = kinds.get(path)
        if known is not None and (known, member.kind) != ("directory", "directory"):
            raise ValueError(f"the archive has {member.name!r} twice")
        _check_member(member, path, kinds)
        kinds[path] = member.kind
        size += member.size
        if len(kinds) > MAX_MEMBERS:
            raise ValueError(f"the archive has more than {MAX_MEMBERS} members")
        if size > MAX_BYTES:
            raise ValueError(f"the archive unpacks to more than {MAX_BYTES} bytes, seen at {member.name!r}")
    _check_parents(kinds)
    return size


def member_path(name: str) -> str:
    """Return the member's path relative to the archive's root, '.' for the root. Raises ValueError."""
    if not name or name.startswith("/") or _CONTROL.search(name) or ".." in name.split("/"):
        raise ValueError(f"the archive's member {name!r} would be written outside its directory or has no proper name")
    return posixpath.normpath(name)


def _check_member(member: Member, path: str, kinds: Mapping[str, str]) -> None:
    if member.kind not in ("file", "directory", "symlink", "hardlink"):
        raise ValueError(f"the archive's member {member.name!r} is a {member.kind}, which no release needs")
    if member.kind in ("file", "directory") and member.mode & 0o6000:
        raise ValueError(f"the archive's member {member.name!r} is setuid or setgid")
    if member.kind == "hardlink" and kinds.get(posixpath.normpath(member.target)) != "file":
        raise ValueError(f"the archive's member {member.name!r} is a hard link to {member.target!r}, not to a file before it")
    if member.kind == "symlink" and _leaves(path, member.target):
        raise ValueError(f"the archive's member {member.name!r} is a link that leaves the archive: {member.target!r}")
    if path == "." and member.kind != "directory":
        raise ValueError(f"the archive's member {member.name!r} would take the place of the whole directory")


def _leaves(path: str, target: str) -> bool:
    """Return whether a symbolic link may lead out of the tree.

    A '..' after another part could climb out of a directory that a second link leads to, so it counts too.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    depth = path.count("/")
    return not target or target.startswith("/") or bool(_CONTROL.search(target)) or ".." in parts[climbs:] or climbs > depth


def _check_parents(kinds: Mapping[str, str]) -> None:
    for path in kinds:
        parent = posixpath.dirname(path)
        while parent:
            if kinds.get(parent, "directory") != "directory":
                raise ValueError(f"the archive's member {path!r} is below {parent!r}, which is a {kinds[parent]}")
            parent = posixpath.dirname(parent)


def is_executable_below(member: Member, bin_dir: str) -> bool:
    """Return whether the member is an executable file directly in bin_dir."""
    if member.kind not in ("file", "hardlink") or not member.mode & 0o111:
        return False
    return (posixpath.dirname(member_path(member.name)) or ".") == bin_dir


def check_machine(path: str, header: bytes, architecture: str) -> None:
    """Check the first ELF_HEADER_BYTES bytes of an executable; what is not ELF, as a script, runs anywhere.

    Raises ValueError naming the file and both architectures.
    """
    if not header.startswith(b"\x7fELF") or len(header) < ELF_HEADER_BYTES:
        return
    machine = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    if machine != _ELF_MACHINES[architecture]:
        names = {number: name for name, number in _ELF_MACHINES.items()}
        raise ValueError(
            f"{path} is built for {names.get(machine, f'machine {machine}')}, but architecture is {architecture}: "
            "give the archive of the right architecture"
        )


def plan_links(executables: Sequence[str], found: Mapping[str, CurrentLink], *, links: str, home: str, adopt: bool) -> LinkPlan:
    """Plan the links to executables (paths inside a version directory) from the directory links.

    home is the release's directory, ``PREFIX/NAME``: links that lead below it are ours. found maps paths in
    the directory links to what is there. Raises ValueError naming what is in the way.
    """
    wanted = {f"{links}/{posixpath.basename(path)}": f"{home}/{CURRENT}/{path}" for path in executables}
    changed = []
    for path, target in wanted.items():
        link = found.get(path)
        if link is None or link.target != target:
            changed.append(path)
        if link is not None and not _is_ours(link, home):
            _refuse_foreign(path, link, adopt)
    stale = [path for path, link in sorted(found.items()) if _is_ours(link, home) and path not in wanted]
    return LinkPlan(wanted, tuple(changed), tuple(stale))


def _is_ours(link: CurrentLink, home: str) -> bool:
    return link.target is not None and link.target.startswith(f"{home}/")


def _refuse_foreign(path: str, link: CurrentLink, adopt: bool) -> None:
    if link.is_directory:
        raise ValueError(f"{path} is a directory: move it away")
    if not adopt:
        what = "is a file" if link.target is None else f"is a link to {link.target}"
        raise ValueError(
            f"{path} {what} and was not made by this module: move it away, or set adopt of release_install to take its place"
        )


def versions_to_drop(
    installed: Iterable[Installed], *, wanted: str, previous: str | None, keep: int, kept: Container[str] = ()
) -> tuple[str, ...]:
    """Return the version directories to remove, so that keep others than the wanted one stay.

    The one that the links led to before stays first, then the newest. Those in kept stay too. Raises ValueError if keep is
    negative.
    """
    if keep < 0:
        raise ValueError(f"keep_versions must not be negative, but is {keep}")
    others = [version for version in installed if version.directory != wanted]
    others.sort(key=lambda version: (version.directory == previous, version.installed_at, version.directory), reverse=True)
    return tuple(version.directory for version in others[keep:] if version.directory not in kept)


def plan_present(
    found: InstalledReleases,
    release: Release,
    executables: Sequence[str] | None,
    *,
    links: str,
    home: str,
    adopt: bool,
    keep: int,
) -> Plan:
    """Plan the release's installation. executables is None if the archive can't be read yet, in check mode.

    Raises ValueError naming what is in the way of a link.
    """
    install = found.whole(release) is None
    link_plan = LinkPlan({}, (), ())
    if executables is not None:
        link_plan = plan_links(executables, found.links, links=links, home=home, adopt=adopt)
    return Plan(
        install=install,
        switch=found.current != release.directory,
        current=release.directory,
        links=link_plan,
        dropped=versions_to_drop(found.installed, wanted=release.directory, previous=found.current, keep=keep, kept=found.kept),
        leftovers=found.leftovers,
    )


def plan_staged(found: InstalledReleases, release: Release) -> Plan:
    """Plan a version directory to which nothing leads yet. All other versions and all links stay."""
    return Plan(
        install=found.whole(release) is None,
        switch=False,
        current=found.current,
        links=LinkPlan({}, (), ()),
        dropped=(),
        leftovers=found.leftovers,
    )


def plan_absent(found: InstalledReleases, *, home: str) -> Plan:
    """Plan the removal of every version and of the links that lead to them."""
    return Plan(
        install=False,
        switch=found.current is not None,
        current=None,
        links=LinkPlan({}, (), tuple(sorted(name for name, link in found.links.items() if _is_ours(link, home)))),
        dropped=tuple(version.directory for version in found.installed),
        leftovers=found.leftovers,
    )
