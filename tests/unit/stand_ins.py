# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that tests pass to the code in place of Ansible's own."""

from __future__ import annotations

import subprocess
from typing import Any


class Module:
    """Runs commands as AnsibleModule does."""

    def run_command(self, args: list[str], **_options: Any) -> tuple[int, str, str]:
        done = subprocess.run(args, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def get_bin_path(self, arg: str, required: bool, opt_dirs: list[str]) -> str | None:
        return None


class Programs(Module):
    """Finds every program that is given as an absolute path."""

    def get_bin_path(self, arg: str, required: bool, opt_dirs: list[str]) -> str | None:
        return arg if arg.startswith("/") else None
