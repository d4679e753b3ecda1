# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values

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


def test_a_secret_with_quotes_and_backslashes_does_not_reach_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_params, "register_secrets", None)
    logged: list[str] = []
    monkeypatch.setattr(
        AnsibleModule, "_log_invocation", lambda one: logged.append(str(remove_values(str(one.params), one.no_log_values)))
    )
    module = secret_params.SecretParamsModule.__new__(secret_params.SecretParamsModule)
    module.params = {"stages": [{"arguments": {"password": 'it\'s "1\\2"\n'}}]}
    module.no_log_values = set()
    module._log_invocation()
    assert "it" not in logged[0] and "2" not in logged[0] and "stages" in logged[0]
