# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a program of Ansible takes of the controller: its own process, and its workers apart from it."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from nodes.node import CHECKOUT, WORK, Node

_POLL_SECONDS = 0.05
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, of CPU in the main process, and of CPU in its workers; the main process's peak memory in bytes.

    ``load`` is the machine's load average of the last minute.
    """

    wall: float
    main: float
    workers: float
    memory: int
    load: float

    @property
    def cpu(self) -> float:
        return self.main + self.workers


def measure(argv: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[Spent, str]:
    """Run a program of Ansible with the checkout's settings; return what it took, and its output. Fails if it does."""
    settings = {
        **os.environ,
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(WORK / "collections"),
        "PATH": f"{CHECKOUT}/.venv/bin:{os.environ['PATH']}",
        **(env or {}),
    }
    with tempfile.TemporaryFile("w+") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            argv, cwd=CHECKOUT, env=settings, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        memory = 0
        # Left as a zombie, whose times are still there.
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            memory = max(memory, _peak(process.pid))
            time.sleep(_POLL_SECONDS)
        wall = time.monotonic() - started
        own, systems, children, childrens = _times(process.pid)
        code = process.wait()
        output.seek(0)
        text = output.read()
    if code != 0:
        raise SystemExit(f"{' '.join(argv)} ended with {code}:\n{text[-20000:]}")
    return Spent(wall, own + systems, children + childrens, memory, os.getloadavg()[0]), text


def _times(pid: int) -> list[float]:
    """Seconds in user mode and in the kernel, of the process and of its children: proc(5), stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) / _TICK for field in fields[11:15]]


def _peak(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def node_cpu(node: Node) -> float:
    """Return the seconds of CPU that all processes of a node have taken since it was made: cgroup v1, or v2."""
    groups = Path(f"/proc/{node.pid}/cgroup").read_text()
    first = re.search(r":(?:[\w,]+,)?cpuacct(?:,[\w,]+)?:(/.*)", groups)
    if first:
        return int(Path(f"/sys/fs/cgroup/cpuacct{first[1]}/cpuacct.usage").read_text()) / 1e9
    second = re.search(r"^0::(/.*?)(?:/init\.scope)?$", groups, re.MULTILINE)
    if second is None:
        raise SystemExit(f"these cgroups are of neither version:\n{groups}")
    stat = Path(f"/sys/fs/cgroup{second[1]}/cpu.stat").read_text()
    return int(stat.split("usage_usec ")[1].split()[0]) / 1e6


def unchanged(text: str) -> bool:
    """Return whether a run says that it changed nothing: a playbook in its recap, a module in its result."""
    return "changed=0" in text and not re.search(r"changed=[1-9]", text) if "PLAY RECAP" in text else "CHANGED" not in text


def machine(runs: Iterable[Spent]) -> str:
    """Return where the runs were measured, and what else the machine did."""
    loads = [run.load for run in runs]
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, ansible-core"
        f" {version('ansible-core')}, load average {min(loads):.1f}-{max(loads):.1f}"
    )


def median(runs: Sequence[Spent], kind: str) -> float:
    """Of one of the figures."""
    return statistics.median(getattr(run, kind) for run in runs)
