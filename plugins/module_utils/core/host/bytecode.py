# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compiles each file of a module's payload once, and keeps the compiled code until the next boot.

Each module imports this file first, for its effect. Ansible sends a module as a ZIP file. zipimport compiles every file of it
twice, once to find the file's name (Lib/zipimport.py, get_filename), and keeps no compiled code. On a node with nothing to
change, that is half of a module's CPU time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import stat
import sys
import time
import zipimport
from contextlib import suppress
from types import CodeType

# A directory of root's own, which other users can't create, and which is empty after a boot.
DIRECTORY = "/run/slipway-bytecode"
# Seconds after which code is removed: that of other releases of the collection is not used any more.
UNUSED = 30 * 86400
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_TEMPORARY = ".tmp"


class BytecodeCache:
    """Compiled code in a directory, by the digest of its source. What can't be read or written is compiled.

    No code is taken from a directory or a file that others than root and this user could have written.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._trusted = self._swept = False
        with suppress(OSError):
            status = os.lstat(directory)
            self._trusted = stat.S_ISDIR(status.st_mode) and _is_private(status)

    def code(self, source: bytes, path: str) -> CodeType:
        """Return the code of a file. Raises SyntaxError as compile does."""
        key = hashlib.sha256(b"%b%d" % (importlib.util.MAGIC_NUMBER, sys.flags.optimize) + source).hexdigest()
        found = self._read(key)
        if found is None:
            found = compile(source, path, "exec", dont_inherit=True)
            with suppress(OSError):
                self._write(key, marshal.dumps(found))
        return found

    def _read(self, key: str) -> CodeType | None:
        if not self._trusted:
            return None
        try:
            descriptor = os.open(os.path.join(self._directory, key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb", buffering=0) as stream:
                status = os.fstat(descriptor)
                if not (stat.S_ISREG(status.st_mode) and _is_private(status)):
                    return None
                content = stream.read()
        except OSError:
            return None
        checksum, dumped = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
        # Nobody else can write the file, and it is whole.
        return marshal.loads(dumped) if hashlib.sha256(dumped).digest() == checksum else None  # noqa: S302

    def _write(self, key: str, dumped: bytes) -> None:
        if not self._trusted:
            os.mkdir(self._directory, 0o700)
            self._trusted = True
        if not self._swept:
            self._swept = True
            self._remove_unused()
        temporary = os.path.join(self._directory, f"{key}.{os.getpid()}{_TEMPORARY}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as stream:
                stream.write(hashlib.sha256(dumped).digest() + dumped)
            os.rename(temporary, os.path.join(self._directory, key))
        except OSError:
            os.unlink(temporary)
            raise

    def _remove_unused(self) -> None:
        oldest = time.time() - UNUSED
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry.path)


class PayloadImporter(zipimport.zipimporter):
    """Imports from the ZIP file of one module. Other paths are left to the next hook."""

    cache: BytecodeCache
    payload: str

    def __init__(self, path: str) -> None:
        if not f"{path}{os.sep}".startswith(f"{self.payload}{os.sep}"):
            raise ImportError(f"{path} is no part of the payload")
        super().__init__(path)

    def get_filename(self, fullname: str) -> str:
        """Return the path of a module in the ZIP file, without compiling it."""
        end = f"{os.sep}__init__.py" if self.is_package(fullname) else ".py"
        return f"{self.archive}{os.sep}{self.prefix}{fullname.rpartition('.')[2]}{end}"

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of a module."""
        path = self.get_filename(fullname)
        return self.cache.code(self.get_data(path), path)


def _is_private(status: os.stat_result) -> bool:
    """Return whether nobody but this user can read or write a file or a directory."""
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077


def install(payload: str, directory: str) -> None:
    """Import what is still to be imported from a ZIP file in this way."""
    PayloadImporter.payload = payload
    PayloadImporter.cache = BytecodeCache(directory)
    sys.path_hooks.insert(0, PayloadImporter)
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimport.zipimporter):
            del sys.path_importer_cache[path]


_loader = globals().get("__loader__")
# Python 3.9 loads from ZIP files in another way.
if sys.version_info >= (3, 10) and isinstance(_loader, zipimport.zipimporter) and os.geteuid() == 0:
    install(_loader.archive, DIRECTORY)
