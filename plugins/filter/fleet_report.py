# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: The content of fleet.json and fleet.html
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Prepares the report that the role P(slipway.node.verify#role) writes for the hosts of a play.
positional: _input, hosts
options:
  _input:
    description: The variables of all hosts (C(hostvars)).
    type: dict
    required: true
  hosts:
    description: Names of the hosts that were to be read.
    type: list
    elements: str
    required: true
  script:
    description: The script of the page.
    type: str
    required: true
  style:
    description: The style sheet of the page.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write the data
  ansible.builtin.copy:
    content: "{{ (hostvars | slipway.node.fleet_report(ansible_play_hosts_all, script='', style='')).json }}"
    dest: fleet.json
    mode: "0644"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - C(json), the result of P(slipway.node.fleet#filter) as JSON, with each group and each node on a line of its own.
    - C(page), the variables of the template of the page.
  type: dict
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def fleet_report(variables: Mapping[str, Mapping[str, Any]], hosts: Sequence[str], script: str, style: str) -> dict[str, Any]:
    """Return ``json``, the text of fleet.json, and ``page``, the variables of the page's template."""
    # Ansible loads every filter of the collection in each worker: only the one that needs the checks imports them.
    from ansible_collections.slipway.node.plugins.plugin_utils.fleet import read_fleet, to_json  # noqa: PLC0415
    from ansible_collections.slipway.node.plugins.plugin_utils.fleet_page import page_of  # noqa: PLC0415

    fleet = read_fleet(variables, hosts, time.time())
    return {"json": to_json(fleet), "page": page_of(fleet, script, style)}


class FilterModule:
    """The filter fleet_report."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"fleet_report": fleet_report}
