# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings that the daemon has lost, or would lose, although a file makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import (
    SERVER_GRPC,
    SERVER_TTRPC,
    FileKey,
    file_keys,
    place,
)
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, agrees

_MISSING = object()
# What no file can take from another, and what a change of the files themselves changes.
_NEVER_LOST = ("version", "imports", "disabled_plugins", "required_plugins")


def own_places(wanted: Mapping[Path, Any], drop_in: Source | None, records: Iterable[Record], printed: int) -> set[Path]:
    """Return the places of the settings that a run makes, and that earlier ones made. An empty table makes none.

    ``wanted`` are leaves in the schema ``printed``; ``drop_in`` is the file of earlier runs, and ``records`` say what they and
    this one set in the root file.
    """
    before = file_keys([drop_in] if drop_in is not None else [], printed)
    recorded = (
        place(path, key.value, 2, printed)[0] for record in records for path, key in record.keys.items() if key.value != {}
    )
    own = {path for path, value in wanted.items() if value != {}}
    return {*own, *recorded, *(key.place for keys in before for key in keys if key.value != {})}


def lost_by_change(before: EffectiveConfig, after: EffectiveConfig, defaults: EffectiveConfig, own: Iterable[Path]) -> list[Path]:
    """List the settings of others that a change of the files takes from the daemon, in a stable order.

    ``own`` are the places of the settings that the change is about.
    """
    mine = set(own)
    if any(path[:2] == ("plugins", SERVER_GRPC) for path in mine):
        mine.add(("plugins", SERVER_TTRPC))  # which follows the other
    return [
        path
        for path, value in before.leaves.items()
        if path[0] not in _NEVER_LOST
        and not agrees(value, defaults.lookup(path))
        and not agrees(value, after.lookup(path))
        and not any(path[: len(one)] == one[: len(path)] for one in mine)
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
