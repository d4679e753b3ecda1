# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files as values: what is on disk, and what is to be there instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Keys whose values are never shown: registry credentials in CRI's tables, Kata's for Jaeger, and passwords in URLs.
_SECRET_LINE = re.compile(r"(?im)^(\s*[\"']?(?:\w*password|auth|identitytoken|registrytoken|secret|token)[\"']?\s*=\s*).*$")
_SECRET_INLINE = re.compile(r"(?i)\b((?:password|auth|identitytoken|registrytoken)\s*=\s*)(\"[^\"]*\"|'[^']*')")
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s\"':]*):([^/@\s\"']+)@")


@dataclass(frozen=True)
class Source:
    """A configuration file as the daemon would read it."""

    path: str
    text: str


@dataclass(frozen=True)
class FileChange:
    """One file's content before and after; None stands for no file. ``mode`` is for a file that is made."""

    path: str
    before: str | None
    after: str | None
    mode: int = 0o644

    @property
    def changed(self) -> bool:
        return self.before != self.after

    @property
    def brings_secrets(self) -> bool:
        """Whether the file is to be its owner's alone, and what it held before needn't be."""
        return self.mode & 0o077 == 0 and not holds_secrets(self.before or "")

    def diff(self) -> dict[str, str]:
        """Return the diff for Ansible's diff mode, without secrets."""
        return {
            "before_header": self.path,
            "after_header": self.path,
            "before": without_secrets(self.before or ""),
            "after": without_secrets(self.after or ""),
        }


def without_secrets(text: str) -> str:
    """Return the text with credentials blotted out, for people and logs."""
    text = _SECRET_LINE.sub(r"\1********", text)
    text = _SECRET_INLINE.sub(r'\1"********"', text)
    return _URL_PASSWORD.sub(r"\1:********@", text)


def is_secret(key: str) -> bool:
    """Return whether a key's value is never shown."""
    return _SECRET_LINE.match(f"{key} = 0") is not None


def secret_values(tree: Any) -> set[str]:
    """Return the texts in a configuration that are never shown, wherever they lie in it."""
    if isinstance(tree, Mapping):
        own = {value for key, value in tree.items() if isinstance(value, str) and value and is_secret(str(key))}
        return own.union(*map(secret_values, tree.values()))
    return set().union(*map(secret_values, tree)) if isinstance(tree, (list, tuple)) else set()


def holds_secrets(text: str) -> bool:
    """Return whether a file with this text should be readable by its owner alone."""
    return without_secrets(text) != text
