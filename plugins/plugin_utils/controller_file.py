# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that take a file from the controller. It is sent only to nodes that need it, and a long run shows that it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleFileNotFound
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.node.plugins.module_utils.core.controller_file import NEEDS_FILE, NOW
from ansible_collections.slipway.node.plugins.plugin_utils.payload import without_garbage_collection
from ansible_collections.slipway.node.plugins.plugin_utils.still_running import SECONDS, VARIABLE, still_running


class ControllerFileAction(ActionBase):
    """Runs the module. If it answers that it needs its file, sends the file and runs the module again.

    ``option`` is the module's option that names the file. As in ansible.builtin.copy, ``remote_src`` says that the file is on
    the node.
    """

    _supports_async = True
    option = ""

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result. Raises AnsibleActionFail if the controller lacks a file that is needed."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.async_val and self._may_be_sent():
            raise AnsibleActionFail(
                f"{self.option}: a task with async can't send a file from the controller: remove async, or copy the file to the "
                "node and set remote_src to true"
            )
        subject = f"{(task_vars or {}).get('inventory_hostname')}: {self._task.action}"
        with still_running(self._display.display, subject, self._seconds(task_vars)), without_garbage_collection():
            return {**result, **self._run_module(task_vars)}

    def _seconds(self, task_vars: Mapping[str, Any] | None) -> float:
        given = self._templar.template((task_vars or {}).get(VARIABLE, SECONDS))
        try:
            return float(given)
        except (TypeError, ValueError):
            raise AnsibleActionFail(f"{VARIABLE} has to be a number of seconds, or 0, not {given!r}") from None

    def _run_module(self, task_vars: Mapping[str, Any] | None) -> dict[str, Any]:
        wrap_async = self._task.async_val and not self._connection.has_native_async
        answer: dict[str, Any] = self._execute_module(task_vars=task_vars, wrap_async=wrap_async)
        needed = answer.pop(NEEDS_FILE, None)
        if needed is not None:
            path = self._find()
            if needed == NOW:
                answer = self._with_file(path, task_vars)
        return answer

    def _may_be_sent(self) -> bool:
        given = self._task.args.get(self.option)
        return bool(given) and "://" not in given and not boolean(self._task.args.get("remote_src", False), strict=False)

    def _find(self) -> str:
        """Return the file's path on the controller, decrypted if it is in a vault."""
        given = self._task.args[self.option]
        try:
            return str(self._loader.get_real_file(self._find_needle("files", given)))
        except AnsibleFileNotFound:
            # Without the cause, which Ansible would append.
            raise AnsibleActionFail(
                f"{self.option}: the controller has no file {given}: correct the path, or set remote_src to true if the file is "
                "on the node"
            ) from None

    def _with_file(self, path: str, task_vars: Mapping[str, Any] | None) -> dict[str, Any]:
        # Ansible removes the directory when the task ends.
        directory = self._connection._shell.tmpdir or self._make_tmp_path()
        remote = self._connection._shell.join_path(directory, "file")
        self._transfer_file(path, remote)
        self._loader.cleanup_tmp_file(path)
        self._fixup_perms2((directory, remote))
        arguments = {**self._task.args, self.option: remote, "remote_src": True}
        answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        return answer
