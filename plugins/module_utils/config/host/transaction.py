# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files changed as one: all of them and proven, or none.

What was there before is written beside the root file first, so that a run which is killed halfway
leaves the next one what it needs to go back.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ansible_collections.slipway.node.plugins.module_utils.config.host.record import record_path
from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import (
    naming,
    remove_empty_dir,
    remove_file,
    write_file,
)
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text


class Transaction:
    """Begin, write, then commit or roll back.

    ``changes`` are all files that are written. ``stages`` are the records of what is written before them, in this order.
    ``probes``: a container has to be seen to start before the commit; the record remembers that until then.
    """

    def __init__(
        self,
        config_file: str,
        found: Record,
        wanted: Record,
        changes: Iterable[FileChange],
        *,
        stages: Sequence[Record] = (),
        proven: bool = False,
        probes: bool = False,
    ) -> None:
        self._path = record_path(config_file)
        self._found = found
        self._wanted = wanted
        self._probes = probes
        self._records = (*stages, wanted)
        self._changes = list(changes)
        kept = [change.path for change in self._changes if change.after is not None]
        self._new_directories = missing_directories([self._path, *kept])
        # An earlier run that was cut short knew the last proven state; this one's "before" may not be it,
        # unless the daemon was healthy with it since (``proven``): then it was repaired by hand.
        self._originals = {change.path: change.before for change in self._changes} | ({} if proven else dict(found.pending))
        self._modes = {path: _stat_mode(path) for path in self._originals}

    def begin(self) -> None:
        """Write the previous files and the coming changes to the record, before anything is changed."""
        record = self._found
        for one in self._records:
            record = record.begun(one, self._originals)
        self._remember(replace(record, unstarted=record.unstarted or self._probes))

    def write(self, changes: Iterable[FileChange] | None = None) -> None:
        """Write the files, or those of a stage before them."""
        for change in self._changes if changes is None else changes:
            known = _stat_mode(change.path)
            if known is not None:
                # A secret that comes into a file which others can read closes it.
                known &= 0o700 if change.brings_secrets else known
            _put(change.path, change.after, change.mode if known is None else known)

    def commit(self) -> None:
        self._remember(self._wanted)
        self._remove_directories((self._found.directories | self._new_directories) - self._wanted.directories)

    def roll_back(self) -> bool:
        """Put everything back; False if there was nothing to put back.

        Raises HostError if something couldn't be put back; the rest is, and the record keeps what was there.
        """
        if not self._originals:
            return False
        trouble = []
        for path, text in sorted(self._originals.items(), key=lambda item: item[1] is None):
            try:
                known = self._modes[path]
                if (read_text(path), _stat_mode(path)) != (text, known):
                    _put(path, text, 0o600 if known is None else known)
            except HostError as error:
                trouble.append(error)
        if trouble:
            raise trouble[0]
        self._remember(replace(self._found, pending={}))
        self._remove_directories(self._found.directories | self._new_directories)
        return True

    def _remove_directories(self, directories: Iterable[str]) -> None:
        """Remove those that hold nothing."""
        for path in sorted(directories, reverse=True):
            remove_empty_dir(path)

    def _remember(self, record: Record) -> None:
        _put(self._path, record.to_text(), 0o600)


def missing_directories(paths: Iterable[str]) -> frozenset[str]:
    """Return the directories that don't exist yet and that files at these paths need."""
    return frozenset(directory for path in paths for directory in directories_of(path) if not os.path.isdir(directory))


def directories_of(path: str) -> Iterator[str]:
    """Yield the directories above a path, without the root directory."""
    while os.path.dirname(path) not in ("/", path):
        path = os.path.dirname(path)
        yield path


def _put(path: str, text: str | None, mode: int) -> None:
    if text is None:
        remove_file(path)
    else:
        write_file(path, text.encode(), mode)


def _stat_mode(path: str) -> int | None:
    """Return the permission bits (0o7777) of the file that path leads to, None if there is none."""
    with naming("read", path):
        try:
            return stat.S_IMODE(os.stat(path).st_mode)
        except FileNotFoundError:
            return None
