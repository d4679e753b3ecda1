# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A containerd of this machine's own, whose version changes over the same root, as in an upgrade. Needs root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import LINES
from nodes.node import LINES as LINE_OF_SUITE
from nodes.node import Done
from nodes.upstream import unpacked, unpacked_package

# By version; the packages and releases that the nodes of the tests have.
SUITES = {
    line.tested: suite for line in LINES for suite, number in LINE_OF_SUITE.items() if number == f"{line.major}.{line.minor}"
}
# A task of a daemon may take so many seconds.
LIMIT = 300
_CONFIG = """version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{ttrpc}"
"""


def programs(version: str) -> Path:
    """The directory with containerd, ctr and the shim of a version."""
    suite = SUITES[version]
    if suite[0].isdigit():
        return unpacked("containerd", version) / "bin"
    return unpacked_package("containerd", suite) / "usr/bin"


class PrivateDaemon:
    """``directory`` holds everything of it; its path is short, as sockets need it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root, self.state, self.log = directory / "root", directory / "state", directory / "log"
        self.socket = directory / "c.sock"
        self.version = ""
        self._process: subprocess.Popen[bytes] | None = None
        # As on a node, where the path of the programs stays and what is there changes.
        self.programs = directory / "bin"
        (directory / "config.toml").write_text(
            _CONFIG.format(root=self.root, state=self.state, socket=self.socket, ttrpc=f"{self.socket}.ttrpc")
        )

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}", "CONTAINERD_ADDRESS": str(self.socket)}

    def start(self, version: str) -> None:
        """Start a version. Raises AssertionError with its log if it doesn't answer."""
        self.stop()
        self.version = version
        new = self.directory / "bin.new"
        new.symlink_to(programs(version))
        new.rename(self.programs)
        log = self.log.open("w")
        argv = [str(self.programs / "containerd"), "--config", str(self.directory / "config.toml")]
        self._process = subprocess.Popen(argv, stdout=log, stderr=log, env=self.environment)
        log.close()
        deadline = time.monotonic() + LIMIT
        while self.ctr("version", check=False).returncode != 0:
            assert self._process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.1)

    def stop(self) -> None:
        """End the daemon, and leave its containers running."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(LIMIT)
            self._process = None

    def ctr(self, *arguments: str, check: bool = True) -> Done:
        """Call the ctr of the daemon's version."""
        done = subprocess.run(
            [str(self.programs / "ctr"), *arguments],
            env={**self.environment, "CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        assert not check or done.returncode == 0, (
            f"ctr {arguments} of {self.version}: {done.stderr}\n{self.log.read_text()[-2000:]}"
        )
        return done

    def clear(self) -> None:
        """End what still runs, and unmount what is mounted."""
        self.stop()
        for bundle in self.state.glob("io.containerd.runtime.v2.task/*/*"):
            command = ["runc", "--root", f"/run/containerd/runc/{bundle.parent.name}", "delete", "--force", bundle.name]
            subprocess.run(command, capture_output=True, check=False)
        for process in self._shims():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + LIMIT
        while self._shims() and time.monotonic() < deadline:
            time.sleep(0.1)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for path in sorted((one for one in mounts if one.startswith(f"{self.directory}/")), reverse=True):
            subprocess.run(["umount", "--lazy", path], check=False)
        shutil.rmtree(self.directory)

    def _shims(self) -> list[int]:
        """The shims of this daemon with their containers. Any of them may end meanwhile."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if b"containerd-shim" in words[0] and str(self.socket).encode() in words:
                    shim = path.parent.name
                    found.append(int(shim))
                    found += map(int, Path(f"/proc/{shim}/task/{shim}/children").read_text().split())
        return found


@contextmanager
def private_daemon() -> Iterator[PrivateDaemon]:
    """One without anything; removed after the block."""
    directory = Path(tempfile.mkdtemp(prefix="slipway-", dir="/var/tmp"))
    daemon = PrivateDaemon(directory)
    try:
        yield daemon
    finally:
        daemon.clear()
