# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The leases of a namespace, and the garbage collection that ends with one."""

from __future__ import annotations

import re

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import NamespaceCtr

# What containerd's clients call theirs: core/leases/id.go, WithRandomID.
_OF_PULL = re.compile(r"\d{1,9}-[\w-]{4}")
_EXPIRES = "containerd.io/gc.expire="
_PROBE = "slipway-probe"


class Leases:
    """containerd core/leases. Raises HostError where the daemon refuses."""

    def __init__(self, ctr: NamespaceCtr) -> None:
        self._ctr = ctr

    def collect_garbage(self) -> None:
        """Run containerd's garbage collection, and wait for its end.

        Only a deletion starts a collection that can be waited for.
        """
        doing = "collect what nothing needs any more"
        self._ctr.ensure_gone("leases", "rm", _PROBE, doing=doing)  # a killed run's
        self._ctr.ask("leases", "create", "--id", _PROBE, doing=doing)
        self._ctr.ask("leases", "rm", "--sync", _PROBE, doing=doing)

    def remove_those_of_pulls(self) -> bool:
        """Remove the leases of pulls, and return whether there were any.

        A killed pull leaves its lease for a day; one that goes on has to start again.
        """
        listed = self._ctr.ask("leases", "ls", doing="ask containerd for its leases").splitlines()[1:]
        rows = [line.split() for line in listed if _EXPIRES in line]
        removed = [row[0] for row in rows if _OF_PULL.fullmatch(row[0])]
        for lease in removed:
            self._ctr.ensure_gone("leases", "rm", lease, doing=f"remove the lease {lease}")
        return bool(removed)
