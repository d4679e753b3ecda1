# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's leases, as ``ctr leases ls`` lists them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")
_EXPIRE = re.compile(r"containerd\.io/gc\.expire=([^,\s]+)")
_REFERENCE = re.compile(r"containerd\.io/gc\.ref\.snapshot\.([^=,\s]+)=([^,]*?)(?=,|\s*\Z)")


@dataclass(frozen=True)
class Lease:
    """``expires`` is empty if it never does; ``snapshots`` are those that its labels name, as (snapshotter, key)."""

    id: str
    expires: str = ""
    snapshots: frozenset[tuple[str, str]] = frozenset()

    def names(self, snapshotter: str, key: str) -> bool:
        """Return whether it is the lease of a snapshot, as far as that can be seen: what a lease holds isn't listed anywhere."""
        return plain_path(self.id) == plain_path(key) or (snapshotter, key) in self.snapshots


def plain_path(key: str) -> str:
    """Normalise a snapshot's key or a lease's id if it is a path, which ``ctr images mount`` takes as typed."""
    return posixpath.normpath("/" + key.lstrip("/")) if key.startswith("/") else key


def parse_time(text: str) -> float:
    """Parse a time of RFC 3339 as seconds since the epoch. Raises ValueError if it is none."""
    found = _TIME.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no time such as 2026-01-31T12:00:00Z")
    zone = "+00:00" if found[3] == "Z" else found[3]
    return datetime.fromisoformat(found[1] + zone).timestamp() + float(found[2] or 0)


def parse_leases(stdout: str) -> tuple[Lease, ...]:
    """Parse ``ctr leases ls`` by the width of its columns, because an id may contain spaces. Raises ValueError."""
    lines = stdout.splitlines()
    if not lines:
        return ()
    created, labels = lines[0].find("CREATED AT"), lines[0].find("LABELS")
    if created < 0 or labels < 0:
        raise ValueError(f"this is no list of leases: {lines[0]!r}")
    return tuple(_lease(line[:created].rstrip(), line[labels:]) for line in lines[1:] if line.strip())


def _lease(name: str, labels: str) -> Lease:
    expire = _EXPIRE.search(labels)
    return Lease(name, expire[1] if expire else "", frozenset((one[0], one[1]) for one in _REFERENCE.findall(labels)))


def lease_of(snapshotter: str, key: str, leases: Iterable[Lease]) -> Lease | None:
    """Return the lease that was made for a snapshot; of several, the one that lasts longest."""
    own = [lease for lease in leases if lease.names(snapshotter, key)]
    return max(own, key=lambda lease: parse_time(lease.expires) if lease.expires else float("inf"), default=None)
