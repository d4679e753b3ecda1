# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's version, and the facts that depend only on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

_VERSION = re.compile(r"(?<![\d.])v?(\d+)\.(\d+)\.(\d+)(?:[-~]((?:alpha|beta|rc)[.\w]*))?")


@dataclass(frozen=True)
class Version:
    """A containerd release, ordered as releases are: 2.1.0-rc.1 comes before 2.1.0."""

    major: int
    minor: int
    patch: int
    prerelease: str = ""

    @classmethod
    def parse(cls, text: str) -> Version:
        """Find the version in what ``containerd --version`` or a package manager prints.

        Distribution suffixes (``1.7.24~ds1-6+deb13u1``) are not part of it.
        Raises ValueError if there is none.
        """
        found = _VERSION.search(text)
        if found is None:
            raise ValueError(f"no containerd version in {text.strip().partition(chr(10))[0]!r}")
        major, minor, patch, prerelease = found.groups()
        return cls(int(major), int(minor), int(patch), prerelease or "")

    def _key(self) -> tuple[int, int, int, bool, str]:
        return (self.major, self.minor, self.patch, self.prerelease == "", self.prerelease)

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def __ge__(self, other: Version) -> bool:
        return not self < other

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + (f"-{self.prerelease}" if self.prerelease else "")

    def at_least(self, *releases: str) -> bool:
        """Return whether a change is in this version, given the first release of each line that has it.

        ``at_least("1.7.14", "2.0.0")``: backported to 1.7.14, and in all of 2.x. A line between
        two named ones has it when it is newer than the lower one's minor version.
        """
        candidates = [Version.parse(release) for release in releases]
        for release in candidates:
            if (self.major, self.minor) == (release.major, release.minor):
                return self >= release
        older = [release for release in candidates if release < self]
        return bool(older)


@dataclass(frozen=True)
class Line:
    """The releases of one minor version.

    ``end_of_life`` is the last day of upstream's support, the end of a month: containerd RELEASES.md names no more.
    ``tested`` is the release that the tests run, empty if none. ``distribution`` is the one that packages it.
    """

    major: int
    minor: int
    end_of_life: date
    tested: str = ""
    distribution: str = ""
    long_term: bool = False

    @property
    def number(self) -> tuple[int, int]:
        return (self.major, self.minor)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + (" (LTS)" if self.long_term else "")


# From the oldest supported line to the newest one.
LINES = (
    Line(1, 6, date(2025, 8, 31), tested="1.6.20", distribution="Debian 12"),
    Line(1, 7, date(2026, 9, 30), tested="1.7.24", distribution="Debian 13"),
    Line(2, 0, date(2025, 11, 30)),
    Line(2, 1, date(2026, 7, 31), tested="2.1.9", distribution="Debian sid"),
    Line(2, 2, date(2026, 11, 30), tested="2.2.9"),
    Line(2, 3, date(2028, 4, 30), tested="2.3.7", long_term=True),
    Line(2, 4, date(2027, 4, 30), tested="2.4.2"),
)
# The day on which the dates were read. A clock that shows an earlier one is wrong.
_LINES_READ = date(2026, 11, 29)
OLDEST = Version(*LINES[0].number, 0)
NEWEST = LINES[-1]


def line_of(version: Version) -> Line | None:
    """Return the line of a release; None if it is older or newer than the known ones."""
    return next((line for line in LINES if line.number == (version.major, version.minor)), None)


def is_past_end_of_life(line: Line, today: date) -> bool:
    """Return whether upstream's support of a line has ended, by the node's date."""
    return line.end_of_life < max(today, _LINES_READ)


def upgrade_target(today: date) -> Line | None:
    """Return the line with the longest support among those that upstream supports, with long-term support if there is one."""
    supported = [line for line in LINES if not is_past_end_of_life(line, today)]
    return max(supported, key=lambda line: (line.long_term, line.end_of_life), default=None)


@dataclass(frozen=True)
class SchemaSupport:
    """The newest configuration schema (the file's ``version`` key) of a daemon, and how it merges files."""

    newest: int
    merges_plugin_tables: bool
    """Whether an imported file is merged into a plugin's table, rather than replacing it whole."""


def schema_support(version: Version) -> SchemaSupport:
    """Return the newest schema of a version, and how it merges files (containerd cmd/containerd/server/config/config.go).

    Raises ValueError for a daemon older than the oldest supported one.
    """
    if version < OLDEST:
        raise ValueError(f"containerd {version} is not supported: upgrade to {OLDEST} or newer")
    if version.major == 1:
        return SchemaSupport(newest=2, merges_plugin_tables=False)
    if version < Version(2, 3, 0, "alpha"):
        return SchemaSupport(newest=3, merges_plugin_tables=True)
    return SchemaSupport(newest=4, merges_plugin_tables=True)
