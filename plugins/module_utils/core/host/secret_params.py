# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module that takes raw tables, and keeps the secrets in them to itself."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

try:
    # ansible-core 2.22 and later mask nothing but what is registered.
    from ansible.module_utils.secrets import register_secrets
except ImportError:
    register_secrets = None

from ansible_collections.slipway.node.plugins.module_utils.core.files import secret_values


class SecretParamsModule(AnsibleModule):
    """Treats secrets inside of dictionaries, whose keys no argument spec names, as values of ``no_log`` options."""

    def _log_invocation(self) -> None:
        # The only moment between the check of the parameters and their way into the node's log.
        secrets = self._secrets()
        self.no_log_values.update(secrets)
        if register_secrets is not None:
            register_secrets(secrets)
        super()._log_invocation()

    def _secrets(self) -> set[str]:
        """Return the values to hide."""
        return secret_values(self.params)
