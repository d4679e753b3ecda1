# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disposable node for tests."""

from __future__ import annotations

import ipaddress
import json
import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nodes.documented import check_documented

CHECKOUT = Path(__file__).parents[2]
WORK = CHECKOUT / ".work"
INVENTORY = CHECKOUT / "tests/nodes/inventory"
# Nodes belong to root.
PODMAN = ["podman"] if os.geteuid() == 0 else ["sudo", "-n", "podman"]

# No command of a test takes so many seconds.
LIMIT = 900

# One connection for all commands: logging in takes longer than most of them. Paths of sockets are short.
SHARED = ["-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", "ControlPath=/tmp/slipway-%C"]

# containerd's line by the suite of a node.
LINES = {"bookworm": "1.6", "trixie": "1.7", "sid": "2.1", "2.2": "2.2", "2.3": "2.3", "2.4": "2.4"}

Done = subprocess.CompletedProcess[str]


def run(argv: list[str], *, check: bool = True, env: dict[str, str] | None = None) -> Done:
    """Run a command in the checkout.

    Raises AssertionError with its output if ``check`` and it fails, TimeoutExpired if it hangs.
    """
    done = subprocess.run(
        argv,
        cwd=CHECKOUT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert not check or done.returncode == 0, f"{argv} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def ansible(*argv: str, check: bool = True, env: dict[str, str] | None = None) -> Done:
    """Run one of Ansible's programs with the checkout's settings and the installed collection."""
    return run(list(argv), check=check, env={**ansible_settings(), **(env or {})})


def ansible_settings() -> dict[str, str]:
    """The environment of Ansible's programs, beside the caller's own."""
    return {
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(WORK / "collections"),
        "PATH": f"{CHECKOUT}/.venv/bin:{os.environ['PATH']}",
    }


def ansible_json(*argv: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run one of Ansible's programs and return what the json callback says; failures of tasks are part of that."""
    callback = {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    done = ansible(*argv, check=False, env={**callback, **(env or {})})
    start = done.stdout.find("{")
    assert start >= 0, f"{argv} ended with {done.returncode} and without a result:\n{done.stdout}\n{done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout[start:])
    return result


@dataclass(frozen=True)
class Node:
    """One node of an inventory file under tests/nodes/inventory.

    ``suite`` is Debian's, with the containerd that it packages, or the line of a release of upstream's on Debian 13.
    """

    name: str
    suite: str
    address: str
    container: str
    inventory: Path

    @property
    def line(self) -> tuple[int, ...]:
        """The line of its containerd, such as (2, 3)."""
        return tuple(int(part) for part in LINES[self.suite].split("."))

    @property
    def upstream(self) -> bool:
        """Whether its containerd is a release of upstream's, and not the distribution's package."""
        return self.suite == LINES[self.suite]

    def program(self, name: str) -> str:
        """The path of one of containerd's programs."""
        return f"/usr/local/bin/{name}" if self.upstream else f"/usr/bin/{name}"

    def ssh(self, command: str, *, check: bool = True) -> Done:
        """Run a shell command on the node over ssh."""
        config = WORK / "nodes" / self.name / "ssh_config"
        return run(["ssh", "-F", str(config), *SHARED, self.name, command], check=check)

    def exec(self, *argv: str, check: bool = True) -> Done:
        """Run a command on the node, given as a list. Over ssh: podman loses the container's cgroup at a daemon-reload."""
        return self.ssh(shlex.join(argv), check=check)

    def put(self, source: Path, path: str) -> None:
        """Copy a file to the node."""
        run([*PODMAN, "cp", str(source), f"{self.container}:{path}"])

    def answers(self) -> bool:
        """Whether the node is there and lets us in."""
        return (WORK / "nodes" / self.name / "ssh_config").exists() and self.ssh("true", check=False).returncode == 0

    def reboot(self) -> None:
        """The container is stopped and started again, with everything that was mounted in it."""
        run([*PODMAN, "restart", "--time", "30", self.container])
        deadline = time.monotonic() + 300
        while self.ssh("systemctl is-system-running --wait", check=False).returncode == 255:
            assert time.monotonic() < deadline
            time.sleep(0.3)

    @property
    def pid(self) -> int:
        """Process id, on this machine, of the node's init."""
        return int(run([*PODMAN, "inspect", "--format", "{{.State.Pid}}", self.container]).stdout)

    def module(
        self,
        name: str,
        args: dict[str, Any],
        *,
        check: bool = False,
        diff: bool = True,
        python: str | None = None,
        become_user: str | None = None,
    ) -> dict[str, Any]:
        """Run a module of the collection on the node; returns its result, also if it failed (``failed``, ``msg``).

        ``python`` is the program on the node that runs the module, by default the one that Ansible finds.
        """
        flags = ["--check"] * check + ["--diff"] * diff
        if become_user is not None:
            flags += ["--become", "--become-method", "su", "--become-user", become_user]
        if python is not None:
            flags += ["--extra-vars", json.dumps({"ansible_python_interpreter": python})]
        argv = ["ansible", self.name, "-i", str(self.inventory), "-m", f"slipway.node.{name}"]
        # Ansible takes an empty dictionary for a text.
        argv += ["-a", json.dumps(args)] if args else []
        result = ansible_json(*argv, *flags)
        found: dict[str, Any] = result["plays"][0]["tasks"][0]["hosts"][self.name]
        # The callback adds it.
        found.pop("action", None)
        check_documented(name, found)
        return found

    def play(self, playbook: str | Path, extra_vars: dict[str, Any] | None = None, *, check: bool = False) -> dict[str, Any]:
        """Run a playbook, by path or by name, on the node alone; returns ``plays`` and ``stats`` (``stats[node.name]``)."""
        argv = ["ansible-playbook", "-i", str(self.inventory), "--limit", f"{self.name},localhost", str(playbook)]
        flags = ["--check", "--diff"] * check
        return ansible_json(*argv, "--extra-vars", json.dumps(extra_vars or {}), *flags)


def nodes_of(inventory: Path) -> list[Node]:
    """The nodes of an inventory file; their addresses are those of this checkout's network, if it has one yet."""
    record = WORK / "network"
    network = ipaddress.ip_network(record.read_text().strip() if record.exists() else "127.0.0.0/24")
    groups = yaml.safe_load(inventory.read_text())["all"]["children"]["nodes"]["children"]
    hosts = {name: facts for group in groups.values() for name, facts in group["hosts"].items()}
    return [
        Node(
            name=name,
            suite=facts.get("node_line") or facts["node_suite"],
            address=str(network[facts["node_number"]]),
            container=f"slipway-{str(network).split('.')[2]}-{name}",
            inventory=inventory,
        )
        for name, facts in hosts.items()
    ]
