#!/usr/bin/env python3
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of docs/kata.md, from the code that decides. Run it to bring the page up to date."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "kata.md"
sys.path.insert(0, str(ROOT / ".work" / "src"))

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version  # noqa: E402
from ansible_collections.slipway.node.plugins.module_utils.kata import matrix, options  # noqa: E402
from ansible_collections.slipway.node.plugins.module_utils.kata.matrix import Combination, Row, classify  # noqa: E402

SNAPSHOTTERS = (*matrix.DIRECTORY_SNAPSHOTTERS, *matrix.BLOCK_SNAPSHOTTERS, "erofs", "others")
SHOWN_VERSION = Version(4, 1, 0)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell or " " for cell in line) + " |" for line in lines)


def code(values: Iterable[Any] | None) -> str:
    return "any" if values is None else ", ".join(f"`{value}`" for value in values)


def transports() -> str:
    rows = []
    for one in options.HYPERVISORS:
        for disable in (True, False):
            asked = [
                Combination(
                    one.runtime,
                    one.name,
                    snapshotter,
                    version=SHOWN_VERSION,
                    disable_block_device_use=disable,
                    block_device_driver=one.drivers[0],
                )
                for snapshotter in SNAPSHOTTERS
            ]
            transports = [classify(combination).transport for combination in asked]
            rows.append([one.runtime, one.name, str(disable).lower(), *transports])
    return table(["runtime", "hypervisor", "disabled", *SNAPSHOTTERS], rows)


def conditions(row: Row) -> Iterator[str]:
    if row.disabled is not None:
        yield f"`disable_block_device_use` {str(row.disabled).lower()}"
    if row.drivers:
        yield f"driver {code(row.drivers)}"
    if row.other_drivers_than:
        yield f"driver other than {code(row.other_drivers_than)}"
    if row.other_shared_fs_than:
        yield f"`shared_fs` other than {code(row.other_shared_fs_than)}"
    if row.shared_fs:
        yield f"`shared_fs` {code(row.shared_fs)}"
    if row.guest_pull:
        yield "`force_guest_pull`"
    if row.risk_accepted is not None:
        yield "`allow_host_disk_hotplug`" if row.risk_accepted else "without `allow_host_disk_hotplug`"
    if row.since:
        yield f"from {row.since}"
    if row.before:
        yield f"before {row.before}"


def rules(runtime: str) -> str:
    rows = []
    for row in matrix.TABLE:
        if row.runtime != runtime:
            continue
        snapshotter = f"other than {code(row.other_snapshotters_than)}" if row.other_snapshotters_than else code(row.snapshotters)
        when = "; ".join(conditions(row))
        rows.append([code(row.hypervisors), snapshotter, when, f"**{row.transport}**: {row.reason}", row.source])
    return table(["hypervisor", "snapshotter", "if", "then", "source"], rows)


def shares() -> str:
    rows = [[f"`{name}`", one.transport, one.reason] for name, one in matrix.SHARED_TABLE.items()]
    return table(["`shared_fs`", "`shared` means", "because"], rows)


def values() -> str:
    rows = [
        [one.runtime, one.name, code(one.sections), code(one.drivers), code(one.shared_fs), one.source]
        for one in options.HYPERVISORS
    ]
    return table(["runtime", "hypervisor", "`[hypervisor.…]`", "`block_device_driver`", "`shared_fs`", "source"], rows)


def without_effect() -> str:
    rows = []
    for row in options.UNREAD:
        shown = ["unset" if value is None else str(value).lower() for value in row.while_values]
        when = f"`{row.while_setting}` {' or '.join(shown)}" if row.while_setting else ""
        since = f"from {row.since}" if row.since else ""
        rows.append([code(row.settings), row.runtime, code(row.hypervisors), when or since, row.reason, row.source])
    return table(["setting", "runtime", "hypervisor", "if", "because", "source"], rows)


SECTIONS = {
    "transports": transports,
    "rules-go": lambda: rules(options.GO),
    "rules-rust": lambda: rules(options.RUST),
    "shares": shares,
    "values": values,
    "without-effect": without_effect,
}


def updated(page: str, sections: Mapping[str, Callable[[], str]] = SECTIONS, script: str = "kata_tables") -> str:
    """The page with every section between its markers as the code has it. Raises ValueError if markers are missing."""
    for name, make in sections.items():
        begin, end = f"<!-- begin {name}, written by tests/{script}.py -->\n", f"<!-- end {name} -->\n"
        before, found, rest = page.partition(begin)
        _old, found_end, after = rest.partition(end)
        if not found or not found_end:
            raise ValueError(f"the page has no markers for {name}")
        page = f"{before}{begin}\n{make()}\n\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
