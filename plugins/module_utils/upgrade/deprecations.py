# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deprecated features that the running daemon has seen in use."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version

# containerd pkg/deprecation/deprecation.go: "removed in containerd v2.0" is a fact. "will be removed in" is a plan, which was
# postponed for every key of the configuration so far. The report compares these keys separately.
_REMOVED = re.compile(r"(?<!will be )\bremoved in containerd v(\d+)\.(\d+)")


@dataclass(frozen=True)
class Deprecation:
    """A row of ``ctr deprecations list``: the id without its prefix, and containerd's words."""

    name: str
    message: str

    def is_gone_in(self, version: Version) -> bool:
        """Return whether the feature is gone in a release."""
        found = _REMOVED.search(self.message)
        return found is not None and (version.major, version.minor) >= (int(found[1]), int(found[2]))


def parse_deprecations(stdout: str) -> tuple[Deprecation, ...]:
    """Parse ``ctr deprecations list --format json``. Raises ValueError for other text."""
    try:
        rows = json.loads(stdout.strip() or "null") or []
        return tuple(Deprecation(str(row["id"]).rpartition("/")[2], str(row["message"])) for row in rows)
    except (TypeError, KeyError) as error:
        raise ValueError(f"no list of deprecations: {stdout.strip()!r}") from error
