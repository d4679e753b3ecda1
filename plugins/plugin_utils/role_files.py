# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The defaults, options, files and templates of the collection's roles."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

_ROLES = Path(__file__).resolve().parents[2] / "roles"
# The roles that the playbook provision runs.
_NAMES = ("node_spec", "bootstrap", "devmapper", "kata", "containerd", "toolbox")
_FILES = {
    "kata_modules_shared": "kata/files/shared/slipway-kata.conf",
    "kata_modules_thin": "kata/files/thin/slipway-kata.conf",
    "unit": "containerd/templates/containerd.service.j2",
    "toolbox_defaults": "toolbox/templates/default.j2",
    "toolbox_command": "toolbox/templates/toolbox.j2",
}


def _load(path: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader) or {}  # noqa: S506


# Ansible imports its actions before it starts a process for each host, so all hosts share these.
DEFAULTS: Mapping[str, Any] = {
    name: value for role in _NAMES for name, value in _load(_ROLES / role / "defaults" / "main.yml").items()
}
ARGUMENT_SPECS: Mapping[str, Mapping[str, Any]] = {
    role: _load(_ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {}) for role in _NAMES
}
# The constants of the roles, and what they derive. The plan has its own.
CONSTANTS: Mapping[str, Any] = {
    name: value
    for role in _NAMES
    if (_ROLES / role / "vars" / "main.yml").exists()
    for name, value in _load(_ROLES / role / "vars" / "main.yml").items()
}
VARIABLES = frozenset(name for options in ARGUMENT_SPECS.values() for name in options)


class RoleFiles(Mapping[str, str]):
    """The contents of files and templates as the roles write them, each rendered when it is first used."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> str:
        """Return the content. The settings are those of ansible.builtin.template."""
        path = _ROLES / _FILES[name]
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".j2":
            return text
        # The result is a file for a shell or for systemd, as of Ansible's own templates.
        environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, autoescape=False)  # noqa: S701
        environment.filters["quote"] = shlex.quote
        return environment.from_string(text).render(self._variables)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(_FILES)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(_FILES)
