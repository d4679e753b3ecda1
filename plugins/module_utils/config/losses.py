# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of files that the daemon has lost, or would lose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import FileKey, file_keys, place
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, agrees

_MISSING = object()
# What no file can take from another, and what a change of the files themselves changes.
_NEVER_LOST = ("version", "imports", "disabled_plugins", "required_plugins")


def keys_in_both(sources: Sequence[Source], before: int, after: int) -> Iterator[tuple[FileKey, FileKey]]:
    """Yield the keys of files twice: as a daemon that prints schema ``before`` reads them, and one that prints ``after``."""
    for earlier, later in zip(file_keys(sources, before), file_keys(sources, after)):
        yield from ((one, other) for one, other in zip(earlier, later) if one.place[0] not in _NEVER_LOST)


def own_places(wanted: Mapping[Path, Any], record: Record, printed: int) -> frozenset[Path]:
    """Return the places of the collection's own settings in a daemon that prints this schema. An empty table is no setting.

    ``wanted`` are settings as leaves in that schema; ``record`` says what earlier runs set in the root file.
    """
    own = {path for path, value in wanted.items() if value != {}}
    return frozenset(own | {place(path, key.value, 2, printed)[0] for path, key in record.keys.items() if key.value != {}})


def is_own(path: Path, own: Iterable[Path]) -> bool:
    """Return whether one of the collection's own settings is at a path, above it or below it."""
    return any(path[: len(one)] == one[: len(path)] for one in own)


def lost_by_change(
    others: Sequence[Source], before: EffectiveConfig, after: EffectiveConfig, wanted: Mapping[Path, Any], record: Record
) -> list[FileKey]:
    """List the keys of other files that a change takes from the daemon, though it has them now.

    ``before`` and ``after`` may be of different schemas. ``wanted`` are the settings of the change, as leaves in the schema of
    ``after``; ``record`` says what earlier ones set in the root file. An empty table is no setting.
    """
    own = own_places(wanted, record, after.schema)
    return [
        key
        for key, later in keys_in_both(others, before.schema, after.schema)
        if agrees(key.value, before.lookup(key.place))
        and not agrees(later.value, after.lookup(later.place))
        and not is_own(later.place, own)
    ]


def lost_keys(sources: Sequence[Source], config: EffectiveConfig, defaults: EffectiveConfig) -> list[FileKey]:
    """List the keys of the files that the daemon knows but has at their default, though no later file sets them."""
    files = file_keys(sources, config.schema)
    lost = []
    for number, keys in enumerate(files):
        later = {key.place for others in files[number + 1 :] for key in others}
        lost += [key for key in keys if key.place not in later and _is_lost(key, config, defaults)]
    return lost


def _is_lost(key: FileKey, config: EffectiveConfig, defaults: EffectiveConfig) -> bool:
    found = config.lookup(key.place, _MISSING)
    known = found is not _MISSING and key.place[0] not in _NEVER_LOST and key.value not in ("", [], {})
    return known and not agrees(key.value, found) and agrees(found, defaults.lookup(key.place, _MISSING))
