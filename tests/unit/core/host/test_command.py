# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Programs, Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.plain_programs import PlainPrograms


class Module:
    """Runs programs as AnsibleModule does when it is told to leave exceptions alone."""

    def run_command(self, args: list[str], *, environ_update: dict[str, str], handle_exceptions: bool) -> tuple[int, str, str]:
        assert not handle_exceptions, "it would end the module, also in the middle of a change"
        done = subprocess.run(args, env=environ_update, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def get_bin_path(self, arg: str, required: bool, opt_dirs: list[str]) -> str | None:
        return None


both = pytest.mark.parametrize("programs", [Module(), PlainPrograms()], ids=["ansible", "plain"])


@both
def test_a_program_that_is_not_there_is_an_error_of_the_node(programs: Programs) -> None:
    with pytest.raises(HostError, match="cannot run /nowhere/ctr: No such file or directory"):
        Runner(programs).run("/nowhere/ctr", doing="ask")


@both
def test_a_program_that_fails_is_named_with_what_it_said(programs: Programs) -> None:
    with pytest.raises(HostError, match=r"cannot look \(.* exited with 3: why\)"):
        Runner(programs).run("/bin/sh", "-c", "echo why >&2; exit 3", doing="look")


def test_a_node_without_ansible_finds_its_programs_and_reads_what_they_print() -> None:
    runner = Runner(PlainPrograms())
    assert runner.find("sh") in ("/bin/sh", "/usr/bin/sh")
    assert runner.find("no-such-program") is None
    assert runner.run("/bin/sh", "-c", r"printf '%s \377' $LC_ALL", doing="ask") == "C \udcff"
