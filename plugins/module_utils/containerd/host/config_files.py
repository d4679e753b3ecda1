# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration files as the daemon finds them, and candidates of them for it to try."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from ansible_collections.slipway.node.plugins.module_utils.containerd import imports
from ansible_collections.slipway.node.plugins.module_utils.containerd.imports import BrokenImport
from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import file_problem
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text


def _expand(pattern: str) -> list[str]:
    """Return the paths that Go's filepath.Glob finds: its star takes a leading dot, which Python's doesn't."""
    if not imports.is_glob(pattern):
        return [pattern]
    found = ["/"]
    for part in filter(None, pattern.split("/")):
        if any(char in part for char in "*?["):
            found = [os.path.join(path, name) for path in found for name in _names(path) if imports.matches(part, name)]
        else:
            found = [path for path in (os.path.join(path, part) for path in found) if os.path.lexists(path)]
    return sorted(found)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def read_sources(root: str, planned: Mapping[str, str | None] | None = None) -> list[Source]:
    """Return the root file and everything that it imports, in the order in which the daemon reads them.

    Imports that aren't there or aren't files are left out; a file with bad TOML imports nothing. Breadth first, each
    file once: containerd cmd/containerd/server/config/config.go, LoadConfig. ``planned`` maps paths to contents that
    they are to have (None: no file).
    """
    planned = planned or {}
    sources: list[Source] = []
    waiting, seen = [root], set()
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        text = planned[path] if path in planned else None if path != root and file_problem(path) else read_text(path)
        if text is None:
            continue
        sources.append(Source(path, text))
        try:
            tree = toml.parse(text)
            waiting += [found for pattern in imports.patterns(tree, path) for found in _expand(pattern)]
        except ValueError:
            continue
    return sources


def import_directories(sources: list[Source]) -> list[str]:
    """Return the directories that globs of the files list. The removal of a file changes only the time of its directory."""
    directories = []
    for source in sources:
        try:
            found = imports.patterns(toml.parse(source.text), source.path)
        except ValueError:
            continue
        directories += [os.path.dirname(pattern) for pattern in found if imports.is_glob(pattern)]
    return sorted({path for path in directories if os.path.isdir(path)})


def broken_imports(sources: Iterable[Source], planned: Mapping[str, str | None] | None = None) -> list[BrokenImport]:
    """Return the imports with which the daemon doesn't start: of files that don't exist, and of what is no file.

    ``planned`` maps paths to contents that they are to have (None: no file). The daemon, and ``config dump`` as well, waits
    forever for a FIFO's writer; ``config dump`` of 2.x passes over a file that doesn't exist, also one that a link leads to.
    """
    planned = planned or {}
    broken = []
    for source in sources:
        try:
            found = imports.patterns(toml.parse(source.text), source.path)
        except ValueError:
            continue
        for pattern in found:
            glob = imports.is_glob(pattern)
            for path in _expand(pattern):
                going = planned.get(path, "") is None and not glob
                reason = "isn't there" if going else "" if path in planned else file_problem(path)
                if reason:
                    broken.append(BrokenImport(source.path, path, reason, by_glob=glob))
    return broken


def check_imports(root: str, planned: Mapping[str, str | None] | None = None) -> None:
    """Raise HostError for an import of the root file, or of a file that it imports, with which the daemon doesn't start."""
    for broken in broken_imports(read_sources(root, planned), planned):
        raise HostError(f"{broken.sentence()}: {broken.remedy()}")


@contextmanager
def candidate(root: str, texts: Mapping[str, str | None]) -> Iterator[dict[str, str]]:
    """Write the planned files to a private directory; yield the candidates' paths by the final ones.

    ``texts`` maps final paths to contents (None: no file, and none is yielded). Imports that lead to one of these
    files lead to its candidate, everything else to what is on disk; so other files with imports have candidates too.
    """
    texts = {**{source.path: source.text for source in read_sources(root) if _has_imports(source.text)}, **texts}
    directory = tempfile.mkdtemp(prefix="slipway-")
    try:
        numbered = enumerate(sorted(path for path, text in texts.items() if text is not None))
        places = {path: os.path.join(directory, f"{number}.toml") for number, path in numbered}
        stand_ins = {path: places.get(path) for path in texts}
        for path, place in places.items():
            text = texts[path] or ""
            with open(place, "w", encoding="utf-8") as stream:
                stream.write(_redirected(text, path, stand_ins))
        yield places
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _has_imports(text: str) -> bool:
    try:
        return "imports" in toml.parse(text)
    except ValueError:
        return False


def _redirected(text: str, path: str, stand_ins: Mapping[str, str | None]) -> str:
    if not _has_imports(text):
        return text
    tree = toml.parse(text)
    patterns = imports.patterns(tree, path)
    listing = {pattern: _expand(pattern) for pattern in patterns if imports.is_glob(pattern)}
    tree["imports"] = imports.candidate_imports(patterns, listing, stand_ins)
    # containerd 2.x reads no file with a byte order mark.
    return toml.BYTE_ORDER_MARK * text.startswith(toml.BYTE_ORDER_MARK) + toml.render(tree)
