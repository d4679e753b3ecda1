# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's version, and what follows from it alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
            raise ValueError(f"no containerd version in {text.strip()!r}")
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


OLDEST = Version(1, 6, 0)
# The newest line whose sources the facts in this package were read from.
NEWEST_LINE = (2, 3)


@dataclass(frozen=True)
class SchemaSupport:
    """Which configuration schemas (the file's ``version`` key) a daemon reads and prints."""

    newest: int
    merges_plugin_tables: bool
    """Whether an imported file is merged into a plugin's table, rather than replacing it whole."""


def schema_support(version: Version) -> SchemaSupport:
    """containerd cmd/containerd/server/config/config.go, version/version.go.

    Raises ValueError for a daemon older than the oldest supported one.
    """
    if version < OLDEST:
        raise ValueError(f"containerd {version} is not supported: upgrade to {OLDEST} or newer")
    if version.major == 1:
        return SchemaSupport(newest=2, merges_plugin_tables=False)
    if version < Version(2, 3, 0, "alpha"):
        return SchemaSupport(newest=3, merges_plugin_tables=True)
    return SchemaSupport(newest=4, merges_plugin_tables=True)
