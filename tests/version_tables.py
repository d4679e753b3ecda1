#!/usr/bin/env python3
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of containerd's lines in the documentation, from the code that decides. Run it to bring the pages up to date."""

from __future__ import annotations

import tomllib
from collections.abc import Callable

from kata_tables import ROOT, table, updated

from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.config.tables import require_version
from ansible_collections.slipway.node.plugins.module_utils.containerd import durability
from ansible_collections.slipway.node.plugins.module_utils.containerd.dropped_keys import KEYS, NOTHING
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import LINES, Line, Version, schema_support
from ansible_collections.slipway.node.plugins.module_utils.core.tree import dotted
from ansible_collections.slipway.node.plugins.module_utils.upgrade.databases import adopts, bundle_of, measured_lines, opens
from ansible_collections.slipway.node.plugins.module_utils.upgrade.report import report
from ansible_collections.slipway.node.plugins.module_utils.upgrade.state import UpgradeState

SCRIPT = "version_tables"
RECORDED = ROOT / "tests/unit/recorded"
# More than any line has had.
_PATCHES = 100


def lines() -> str:
    rows = []
    for line in LINES:
        tested = f"{line.tested}{f' ({line.distribution})' if line.distribution else ''}" if line.tested else "no"
        rows.append([str(line), f"{line.end_of_life:%B %Y}", tested])
    return table(["containerd", "upstream's support ends", "tested"], rows)


def since(line: Line, has: Callable[[Version], bool]) -> str:
    """``yes``, ``no``, or the first release of a line that has something."""
    first = next((patch for patch in range(_PATCHES) if has(Version(*line.number, patch))), None)
    return "no" if first is None else f"from {Version(*line.number, first)}" if first else "yes"


def takes(**params: object) -> Callable[[Version], bool]:
    """Whether a version takes a setting."""
    settings = Settings.from_params(params)

    def has(version: Version) -> bool:
        try:
            require_version(settings, version)
        except ValueError:
            return False
        return True

    return has


CAPABILITIES: dict[str, Callable[[Version], bool]] = {
    "`image_pull_sync_fs`": takes(image_pull_sync_fs=True),
    "transfer service": lambda version: "transfer" in durability.paths(version),
    "`runtimes[].snapshotter`": takes(runtimes=[{"name": "kata", "snapshotter": "overlayfs"}]),
    "blockfile": takes(snapshotter="blockfile"),
    "erofs": takes(snapshotter="erofs"),
}


def capabilities() -> str:
    rows = []
    for line in LINES:
        newest = schema_support(Version(*line.number, 0)).newest
        rows.append([str(line), f"1 to {newest}", *(since(line, has) for has in CAPABILITIES.values())])
    return table(["containerd", "schemas", *CAPABILITIES], rows)


def dropped() -> str:
    """The keys that a release ignores, and what takes their place."""
    rows = []
    for key in KEYS:
        instead = "nothing" if key.instead == NOTHING else f"{key.instead[0].upper()}{key.instead[1:]}"
        schemas = ", ".join(map(str, key.schemas))
        rows.append([f"`{dotted(key.path)}`", schemas, key.gone.removesuffix(".0"), instead.replace("{value!r}", "…")])
    return table(["key", "in files of schema", "ignored from", "instead"], rows)


def configuration(line: Line) -> EffectiveConfig:
    """What the tested release of a line has without any file."""
    return EffectiveConfig(tomllib.loads((RECORDED / line.tested / "default.toml").read_text()))


def defaults() -> str:
    """What changes from one tested release to the next one on a node without configuration files."""
    rows = []
    tested = [line for line in LINES if line.tested]
    for old, new in zip(tested, tested[1:]):
        before, after = configuration(old), configuration(new)
        versions = (Version.parse(old.tested), Version.parse(new.tested))
        state = UpgradeState("", *versions, before=before, after=after, default_before=before, default_after=after)
        names = [f"{line.tested}{f' ({line.distribution})' if line.distribution else ''}" for line in (old, new)]
        rows += [[" → ".join(names), _code(one.what), _code(one.now), _code(one.then)] for one in report(state)]
    return table(["upgrade", "setting", "now", "then"], rows)


def databases() -> str:
    """Whether a version opens what another one wrote, and keeps the containers running that the other one started."""
    measured = [Version.parse(line.tested) for line in measured_lines()]
    rows = []
    for writer in measured:
        cells = []
        for reader in measured:
            opened = "opens" if opens(reader, writer) else "copies"
            cells.append("" if reader == writer else opened if adopts(reader, bundle_of(writer)) else f"{opened}, containers end")
        rows.append([str(writer), *cells])
    return table(["written by", *map(str, measured)], rows)


def _code(value: object) -> str:
    """A value as the page has it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = ", ".join(value) if isinstance(value, list) else str(value)
    return f"`{shown}`" if shown.startswith(("/", "plugins.")) or ":" in shown else shown or "none"


PAGES = {
    ROOT / "README.md": {"lines": lines},
    ROOT / "docs/upgrade.md": {"defaults": defaults, "dropped": dropped, "databases": databases},
    ROOT / "docs/configuration.md": {"capabilities": capabilities},
}


if __name__ == "__main__":
    for path, sections in PAGES.items():
        path.write_text(updated(path.read_text(), sections, SCRIPT))
