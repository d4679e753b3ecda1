# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files as values: their content on disk, and their planned content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Keys whose values are never shown: registry credentials in CRI's tables, Kata's for Jaeger, and passwords in URLs.
_KEYS = r"\w*password|auth|authorization|identitytoken|registrytoken|secret|token"
# Texts and lists may have several lines.
_LONG_VALUE = r"\"\"\".*?\"\"\"|'''.*?'''|\[(?:\"(?:\\.|[^\"\\])*\"|'[^']*'|[^]\"'])*\]"
_SECRET_LINE = re.compile(rf"(?ims)^([^\S\n]*[\"']?(?:{_KEYS})[\"']?\s*=\s*)(?:{_LONG_VALUE}|[^\n]*$)")
_SECRET_INLINE = re.compile(rf"(?is)\b((?:{_KEYS})[\"']?\s*=\s*)(?:{_LONG_VALUE}|\"(?:\\.|[^\"\\])*\"|'[^']*')")
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s\"':]*):([^/\s\"]+)@")


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
    """Return the texts in a configuration that are never shown, wherever they lie in it.

    Everything under a secret's key is secret, numbers too. A table under ``auth`` has keys of its own.
    """
    if isinstance(tree, Mapping):
        found: set[str] = set()
        for key, value in tree.items():
            whole = is_secret(str(key)) and not (str(key).lower() == "auth" and isinstance(value, Mapping))
            found |= _texts(value) if whole else secret_values(value)
        return found
    return set().union(*map(secret_values, tree)) if isinstance(tree, (list, tuple)) else set()


def _texts(value: Any) -> set[str]:
    """Return every text and number in a value. Truth values are no secrets."""
    if isinstance(value, (Mapping, list, tuple)):
        return set().union(*map(_texts, value.values() if isinstance(value, Mapping) else value))
    return set() if value is None or value == "" or isinstance(value, bool) else {str(value)}


def holds_secrets(text: str) -> bool:
    """Return whether a file with this text should be readable by its owner alone."""
    return without_secrets(text) != text
