# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine loses power during upgrades and ways back. It boots on one whole generation, and the next run finishes.

A kill of QEMU is the power cut: what the machine's kernel holds is lost. QEMU keeps the table of new clusters of a qcow2 disk
until the machine flushes, so that writes to them are also lost before a flush, as by a disk with a volatile cache.

CRASH_UPGRADES says how many cuts at random moments there are in each direction beside those at each step (2), CRASH_SEED from
which number on their seeds count.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from integration import test_upgrade
from integration import test_upgrade_packages as by_package
from integration.test_upgrade import FOREIGN_UNIT, MODULE, NAME, SETTINGS, STATE, files, staged, to
from integration.toolbox_module import box

from nodes import daemon, payload
from nodes.node import INVENTORY, SHARED, WORK, Node, ansible, nodes_of, run
from nodes.payload import command, run_module

CUTS = int(os.environ.get("CRASH_UPGRADES", "2"))
SEED = int(os.environ.get("CRASH_SEED", str(time.time_ns() % 1_000_000)))
SET = INVENTORY / "vm-upgrade.yml"
OLD = "1.7.24"
STEPS = ("keeping", "kept", "switching", "started")
# Written to the machine's console, which is a file here.
MARK, RESTORING = "slipway: cut the power", "slipway-restore"
UNIT, TOOLBOX = "upgrade-run", "/var/lib/toolbox/debug"
# Seconds within which the machine boots, or comes to a moment. QEMU emulates its processor.
LIMIT = 900


class Machine(Node):
    """A virtual machine of tests/vm."""

    @property
    def directory(self) -> Path:
        return WORK / "nodes" / self.name

    def put(self, source: Path, path: str) -> None:
        run(["scp", "-q", "-F", str(self.directory / "ssh_config"), *SHARED, str(source), f"{self.name}:{path}"])

    def kill(self) -> None:
        run(["tests/vm/machine", "kill", str(self.directory)])

    def boot(self) -> None:
        run(["tests/vm/machine", "start", str(self.directory), self.address, str(WORK / "ssh/id_ed25519.pub")])
        deadline = time.monotonic() + LIMIT
        while self.ssh("systemctl is-system-running --wait", check=False).returncode == 255:
            assert time.monotonic() < deadline, (self.directory / "console.log").read_text()[-2000:]
            time.sleep(0.5)

    def wait_for(self, text: str) -> None:
        """Wait until the console of this boot has a text."""
        console = self.directory / "console.log"
        deadline = time.monotonic() + LIMIT
        while text not in console.read_text(errors="replace"):
            assert time.monotonic() < deadline, f"the console has no {text!r}"
            time.sleep(0.005)

    def cut_during(self, argv: Sequence[str], until: str) -> None:
        """Cut the power while a command runs, as soon as a shell script ends."""
        script = f"{until}; echo '{MARK}' >/dev/console"
        start = f"systemd-run --quiet --collect --unit={UNIT} -- {shlex.join(argv)}"
        self.ssh(f"{start} && systemd-run --quiet --collect -- sh -c {shlex.quote(script)}", check=False)
        self.wait_for(MARK)
        self.kill()

    def journal(self) -> str:
        """The step of an interrupted upgrade, or nothing."""
        return self.ssh(f"sed -n s/^STEP=//p {STATE}/upgrading", check=False).stdout.strip()


class Cut(NamedTuple):
    """A cut, the version and the journal of the boot after it, and the seconds of the run that finished the change."""

    change: str
    moment: str
    version: str
    journal: str
    seconds: float


class Upgrades:
    """A machine that is upgraded and goes back again and again. ``generations``: its files by version, if nothing is cut."""

    def __init__(self, machine: Machine, image: str, new: str, options: dict[str, Any]) -> None:
        self.machine = machine
        self.image = image
        self.new = new
        self.options: dict[str, dict[str, Any]] = {new: options, OLD: {"state": "previous"}}
        self.generations = {OLD: self.files()}
        self.content = self.objects()
        self.seconds = {new: self.change(new)}
        self.generations[new] = self.files()
        self.seconds[OLD] = self.change(OLD)

    def files(self) -> set[str]:
        """The files of configuration, units and releases, and the packages."""
        assert by_package.is_whole(self.machine)
        return files(self.machine) | set(by_package.packages(self.machine).splitlines())

    def objects(self) -> str:
        """The objects in the daemon's databases, and the content of the toolbox."""
        names = "ctr images ls | awk '{print $1, $3}'; ctr containers ls -q; ctr leases ls -q"
        return self.machine.ssh(f"{names}; cat {TOOLBOX}/theirs; ctr snapshots ls | awk '{{print $1, $2}}' | sort").stdout

    def change(self, target: str) -> float:
        """Make a change without a cut, and take back an interrupted one before; return the seconds that it took."""
        made = self.found() == target and not self.machine.journal()
        began = time.monotonic()
        done = run_module(self.machine, MODULE, self.options[target])
        seconds = time.monotonic() - began
        assert not done.get("failed") and not (made and done["changed"]), done
        assert self.machine.journal() == ""
        self.check(target)
        return seconds

    def found(self) -> str:
        return by_package.version(self.machine)

    def check(self, expected: str) -> None:
        """The machine has everything of one version."""
        machine = self.machine
        log = machine.ssh("journalctl -b -n 80 -u containerd -u slipway-restore --output cat", check=False).stdout
        assert daemon.is_well(machine) and self.found() == expected, log
        if expected in self.generations:
            assert self.files() == self.generations[expected], self.files() ^ self.generations[expected]
        assert self.objects() == self.content

    def verify(self, *, interrupted: bool) -> None:
        """``node_verify`` finds no fault, except an interrupted upgrade, in which it starts no container."""
        given = {
            "images": [{"name": [self.image]}],
            "toolboxes": [{"path": TOOLBOX}],
            "integrity": "content",
            "probe": "container",
        }
        found = run_module(self.machine, "node_verify", {**given, "fail_on": []})
        assert not found.get("failed"), found
        bad = {one["id"]: one for one in found["checks"] if one["status"] == "fail"}
        assert bad.keys() == ({"interrupted_config_change"} if interrupted else set()), bad
        states = {one["id"]: one["status"] for one in found["checks"]}
        assert (states["image_integrity"], states["handler_starts"]) == ("ok", "unknown" if interrupted else "ok"), states

    def cut(self, target: str, moment: str, until: str) -> Cut:
        """Cut a change to a version; return what the machine booted with. Then make the change."""
        machine = self.machine
        if target == self.new:
            machine.ssh(f"ctr tasks ls -q | grep -q {NAME} || ctr tasks start --detach {NAME}")
        machine.cut_during(command(MODULE, self.options[target]), until)
        if "boot" in moment:
            run(["tests/vm/machine", "start", str(machine.directory), machine.address, str(WORK / "ssh/id_ed25519.pub")])
            machine.wait_for(RESTORING)
            machine.kill()
        machine.boot()
        before = OLD if target == self.new else self.new
        step, found = machine.journal(), self.found()
        # Without a journal, the change hasn't begun or is complete.
        possible = {"keeping": [before], "restored": [before], "committed": [target], "": [before, target]}
        assert found in possible.get(step, ()), (step, found)
        if moment.startswith(STEPS):
            assert found == before, (moment, step, found)
        self.check(found)
        self.verify(interrupted=step == "keeping")
        return Cut(f"{before} → {target}", moment, found, step or "none", self.change(target))


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A new machine with Debian's containerd 1.7.24."""
    playbook = ["ansible-playbook", "-i", str(SET)]
    ansible(*playbook, "tests/vm/create.yml")
    payload.forget()
    try:
        # Its address is that of the network which the checkout has by now.
        [node] = nodes_of(SET)
        yield Machine(**dataclasses.asdict(node))
    finally:
        ansible(*playbook, "tests/vm/destroy.yml")


@pytest.fixture(params=["archive", "package"])
def upgrades(request: pytest.FixtureRequest, machine: Machine) -> Upgrades:
    """Settings of the collection, files of others, an image, a toolbox, and a container. The new version is the parameter's."""
    image = (WORK / "vm/reference").read_text()
    daemon.write(machine, daemon.ROOT, test_upgrade.THEIRS)
    daemon.write(machine, FOREIGN_UNIT, "[Service]\nLimitNOFILE=54321")
    daemon.restart(machine)
    given: dict[str, dict[str, Any]] = {"containerd_config": SETTINGS, "containerd_image": {"name": [image], "plain_http": True}}
    done = [run_module(machine, module, options) for module, options in given.items()]
    done.append(box(machine, image, name=Path(TOOLBOX).name))
    assert not any(one.get("failed") for one in done), done
    machine.ssh(f"echo kept > {TOOLBOX}/theirs; ctr run --detach {image} {NAME} /bin/busybox sleep 1000000; sync")
    if request.param == "archive":
        return Upgrades(machine, image, "2.3.7", to(staged(machine, "2.3.7")))
    by_package.preferred(machine, "containerd runc", "n=sid")
    packages = {"packages": ["containerd", "runc"], "to_binary": by_package.unpacked(machine, "containerd")}
    return Upgrades(machine, image, by_package.NEW, {**SETTINGS, **packages})


def moments(seconds: float, seed: int) -> dict[str, str]:
    """Scripts by the moments at whose end the power goes."""
    reached = {step: f"until grep -qs STEP={step} {STATE}/upgrading; do sleep 0.01; done" for step in STEPS}
    delays = [random.Random(seed + number).uniform(0, seconds) for number in range(CUTS)]
    return {
        **{f"{delay:.1f} of {seconds:.1f} s": f"sleep {delay:.2f}" for delay in delays},
        **reached,
        "started, and again in the next boot": reached["started"],
        "its end": f"while systemctl is-active -q {UNIT}; do sleep 0.1; done",
    }


def test_a_machine_that_loses_power_boots_on_one_whole_generation(upgrades: Upgrades, capsys: pytest.CaptureFixture[str]) -> None:
    targets = (upgrades.new, OLD)
    both = [moments(upgrades.seconds[target], SEED + CUTS * at).items() for at, target in enumerate(targets)]
    for pair in zip(*both, strict=True):
        for target, (moment, until) in zip(targets, pair, strict=True):
            found = upgrades.cut(target, moment, until)
            with capsys.disabled():
                print(f"\nseed {SEED}: {found}", file=sys.stderr, flush=True)
