# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings that the daemon has lost, or would lose, although a file makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import FileKey, file_keys, place
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, agrees

_MISSING = object()
# What no file can take from another, and what a change of the files themselves changes.
_NEVER_LOST = ("version", "imports", "disabled_plugins", "required_plugins")


def lost_by_change(
    others: Sequence[Source], before: EffectiveConfig, after: EffectiveConfig, wanted: Mapping[Path, Any], record: Record
) -> list[FileKey]:
    """List the keys of other files that a change takes from the daemon, though it has them now.

    ``wanted`` are the settings of the change, as leaves in the schema that the daemon prints; ``record`` says what earlier ones
    set in the root file. An empty table is no setting.
    """
    printed = before.schema
    own = {path for path, value in wanted.items() if value != {}}
    own |= {place(path, key.value, 2, printed)[0] for path, key in record.keys.items() if key.value != {}}
    return [
        key
        for keys in file_keys(others, printed)
        for key in keys
        if key.place[0] not in _NEVER_LOST
        and agrees(key.value, before.lookup(key.place))
        and not agrees(key.value, after.lookup(key.place))
        and not any(key.place[: len(one)] == one[: len(key.place)] for one in own)
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
