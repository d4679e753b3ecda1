# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_entries
short_description: The entries of the report on an upgrade, with those that stop it
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Compares RV(slipway.node.containerd_upgrade_info#module:entries) with the losses that the inventory accepts.
positional: _input, accept
options:
  _input:
    description: The entries of M(slipway.node.containerd_upgrade_info).
    type: list
    elements: dict
    required: true
  accept:
    description: Kinds of entries, and mappings with C(kind) and C(what) of single entries.
    type: list
    elements: raw
    default: []
"""

EXAMPLES = r"""
- name: Print what stops the upgrade
  ansible.builtin.debug:
    msg: "{{ upgrade.entries | slipway.node.upgrade_entries(['sandbox_image']) | selectattr('refused') | map(attribute='line') }}"
"""

RETURN = r"""
_value:
  description:
    - The entries, each with three more keys. C(refused) is whether it fails and is not accepted. C(accepted) is whether it fails
      and is accepted. C(line) is the entry for people and logs.
    - Remedies name the variables of the inventory in place of the settings of M(slipway.node.containerd_config).
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def upgrade_entries(entries: Sequence[Mapping[str, Any]], accept: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Return the entries with ``refused``, ``accepted`` and ``line``. Raises AnsibleFilterError for a wrong ``accept``."""
    # Ansible loads every filter of the collection in each worker: only the one that needs the checks imports them.
    from ansible_collections.slipway.node.plugins.plugin_utils.upgrade_fleet import judge  # noqa: PLC0415

    try:
        return judge(entries, accept)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter upgrade_entries."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"upgrade_entries": upgrade_entries}
