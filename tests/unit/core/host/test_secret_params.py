# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.core.host import secret_params


def test_secrets_are_known_to_every_ansible_before_the_node_logs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to ansible-core 2.21 the module's own values are masked; later, nothing but what is registered."""
    events: list[object] = []
    monkeypatch.setattr(secret_params, "register_secrets", lambda values: events.append(set(values)))
    monkeypatch.setattr(AnsibleModule, "_log_invocation", lambda module: events.append("logged"))
    module = secret_params.SecretParamsModule.__new__(secret_params.SecretParamsModule)
    module.params = {"extra_config": {"x": {"password": ["hunter2"]}}}
    module.no_log_values = set()
    module._log_invocation()
    assert events == [{"hunter2"}, "logged"]
    assert module.no_log_values == {"hunter2"}
