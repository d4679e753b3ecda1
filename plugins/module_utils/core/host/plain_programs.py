# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of a node without Ansible."""

from __future__ import annotations

import os
import shutil
import subprocess

_SYSTEM_DIRECTORIES = ("/sbin", "/usr/sbin", "/usr/local/sbin")


class PlainPrograms:
    """Finds and runs programs as AnsibleModule does, for a ``Runner`` outside of a module."""

    def run_command(self, args: list[str], *, environ_update: dict[str, str], handle_exceptions: bool) -> tuple[int, str, str]:
        """Return exit code and both streams. Raises OSError if the program can't be run; ``handle_exceptions`` is ignored."""
        done = subprocess.run(
            args, env={**os.environ, **environ_update}, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        return done.returncode, _text(done.stdout), _text(done.stderr)

    def get_bin_path(self, arg: str, required: bool, opt_dirs: list[str]) -> str | None:
        """Return the path of a program in ``opt_dirs``, PATH or the system's directories; None if there is none."""
        places = (*opt_dirs, *os.environ.get("PATH", os.defpath).split(os.pathsep), *_SYSTEM_DIRECTORIES)
        return shutil.which(arg, path=os.pathsep.join(places))


def _text(output: bytes) -> str:
    return output.decode(errors="surrogateescape")
