# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe starts a container, reports the runtime's message if it doesn't start, and removes everything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nodes import cri, daemon
from nodes.fixtures import EVERY_TEST
from nodes.images import busybox
from nodes.node import Node
from nodes.registry import Registry

NAME = "slipway-probe"
RUNC = "/usr/sbin/runc"
RUNC_TYPE = "io.containerd.runc.v2"
LOCK = "/run/slipway-containerd.lock"
# Where the program that kills is found instead of the real one.
KILLING = "/run/killing"


@pytest.fixture
def well(node: Node) -> Iterator[Node]:
    """Each version, on which containers start before and after the test."""
    yield from kept_well(node)


def kept_well(node: Node) -> Iterator[Node]:
    daemon.install(node)
    heal(node)
    if not daemon.is_well(node):
        daemon.reset(node)
    yield node
    heal(node)


@pytest.fixture(params=EVERY_TEST)
def modern_well(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Iterator[Node]:
    """1.7.24 and 2.3.7 in turn, in the same way."""
    yield from kept_well(nodes[request.param])


@pytest.fixture
def own_config(modern_well: Node) -> Iterator[Node]:
    """The same, for a test that writes the daemon's configuration or stops it."""
    yield modern_well
    daemon.reset(modern_well)


def heal(node: Node) -> None:
    shim = node.program("containerd-shim-runc-v2")
    node.ssh(
        f"rm -rf {KILLING} /run/killed /run/other-runc; "
        f"for program in {RUNC} {shim}; do [ ! -e $program.kept ] || mv -f $program.kept $program; done"
    )


def probe(node: Node, kind: str = "container", **options: Any) -> dict[str, Any]:
    return node.module("node_verify", {"probe": kind, "only": ["handler_starts"], "fail_on": [], **options})


def finding(node: Node, kind: str = "container", **options: Any) -> dict[str, Any]:
    result = probe(node, kind, **options)
    assert not result.get("failed"), result
    (check,) = result["checks"]
    print(check)
    return dict(check)


def left(node: Node) -> str:
    """What is there of a probe: processes, mounts, directories, cgroups, and what containerd knows."""
    return node.ssh(
        f"pgrep -af '[n]amespace {NAME}'; grep {NAME} /proc/mounts; "
        f"find /run /var/lib/containerd /sys/fs/cgroup -name '*{NAME}*' 2>/dev/null; "
        f"ctr namespaces ls -q | grep -x {NAME}; "
        f"for kind in tasks containers images leases content snapshots; do ctr -n {NAME} $kind ls | grep -v '^[A-Z]'; done",
        check=False,
    ).stdout


def handler(node: Node, name: str, table: str, options: str = "") -> None:
    """Declare a handler beside the default one, and start the daemon with it."""
    version, plugin = (2, daemon.CRI) if node.line < (2,) else (3, daemon.RUNTIME)
    handlers = f"plugins.'{plugin}'.containerd.runtimes"
    default = f'[{handlers}.runc]\nruntime_type = "{RUNC_TYPE}"'
    daemon.write(
        node,
        daemon.ROOT,
        f"version = {version}\n{default}\n[{handlers}.{name}]\n{table}\n[{handlers}.{name}.options]\n{options}",
    )
    daemon.restart(node)


@pytest.mark.smoke
def test_a_container_starts_and_nothing_is_left(well: Node) -> None:
    check = finding(well)
    assert (check["status"], check["found"]) == ("ok", {"runc": "started"})
    assert left(well) == ""


KEEP_RUNC = f"mv {RUNC} {RUNC}.kept"
FAULTS = {
    "runc is missing": (KEEP_RUNC, ('exec: "runc": executable file not found in $PATH',)),
    "runc isn't executable": (f"{KEEP_RUNC}; cp {RUNC}.kept {RUNC}; chmod -x {RUNC}", ('exec: "runc"',)),
    "runc is empty": (f"{KEEP_RUNC}; install -m 755 /dev/null {RUNC}", ("runc: exec format error",)),
    "runc fails": (
        f"{KEEP_RUNC}; printf '#!/bin/sh\\necho broken >&2; exit 1' >{RUNC}; chmod +x {RUNC}",
        ("runc did not terminate successfully: exit status 1",),
    ),
    "runc does nothing": (f"{KEEP_RUNC}; cp /bin/true {RUNC}", ("OCI runtime",)),
    "the shim is missing": ("mv SHIM SHIM.kept", ("containerd-shim-runc-v2",)),
    "the shim is empty": ("mv SHIM SHIM.kept; install -m 755 /dev/null SHIM", ("exec format error",)),
}


@pytest.mark.two_versions
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_in_the_runtimes_words(well: Node, fault: str) -> None:
    command, words = FAULTS[fault]
    well.ssh(command.replace("SHIM", well.program("containerd-shim-runc-v2")))
    check = finding(well)
    assert check["status"] == "fail"
    assert check["found"]["runc"].startswith("failed: ")
    assert all(word in check["found"]["runc"] for word in words), check["found"]
    assert left(well) == ""


# A handler's table and options, and the finding.
RUNC_V2 = f'runtime_type = "{RUNC_TYPE}"'
OPTIONS = {
    "another program": (RUNC_V2, 'BinaryName = "/nonexistent/runc"', "fail", "/nonexistent/runc: no such file or directory"),
    "a type that isn't installed": ('runtime_type = "io.containerd.nosuch.v1"', "", "fail", "containerd-shim-nosuch-v1"),
    "a shim that is missing": (f'{RUNC_V2}\nruntime_path = "/nonexistent/shim"', "", "fail", "stat /nonexistent/shim"),
    "a root that can't be created": (RUNC_V2, 'Root = "/proc/runc"', "fail", "runc create failed: mkdir /proc/runc"),
    "another root": (RUNC_V2, 'Root = "/run/other-runc"', "ok", "started"),
    "systemd's cgroups": (RUNC_V2, "SystemdCgroup = true", "ok", "started"),
    "a shim by its path": (f'{RUNC_V2}\nruntime_path = "SHIM"', "", "ok", "started"),
    "what ctr can't pass": (f'{RUNC_V2}\nruntime_path = "SHIM"', "SystemdCgroup = true", "unknown", "ctr can't start"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_handler_is_started_with_its_options(own_config: Node, case: str) -> None:
    table, options, status, words = OPTIONS[case]
    handler(own_config, "other", table.replace("SHIM", own_config.program("containerd-shim-runc-v2")), options)
    check = finding(own_config)
    assert check["status"] == status
    assert words in check["found"]["other"]
    assert check["found"]["runc"] == "started"
    assert left(own_config) == ""


def test_it_is_unknown_if_the_daemon_is_stopped(own_config: Node) -> None:
    own_config.ssh("systemctl stop containerd")
    assert finding(own_config)["status"] == "unknown"


# The commands of ctr before which processes are killed.
MOMENTS = ("images import", "run", "images rm", "leases create", "leases rm", "namespaces rm")
# In a script that ctr or runc is replaced with: the module, and the process that it started for the probe.
PROCESSES = """work=$(awk '/^PPid/ { print $2 }' /proc/$ctr/status)
module=$(awk '/^PPid/ { print $2 }' /proc/$work/status)"""


def kill(node: Node, moment: str, victims: str) -> dict[str, Any]:
    """Run a probe whose processes are killed once, before a command of ctr, and wait for what is left of them."""
    script = f"""#!/bin/sh
ctr=$$
{PROCESSES}
case " $* " in *" {moment} "*) [ -e /run/killed ] || {{ touch /run/killed; kill -9 {victims}; }};; esac
exec {node.program("ctr")} "$@"
"""
    node.ssh(f"rm -f /run/killed; mkdir -p {KILLING}; ln -sf {node.program('containerd')} {KILLING}/containerd")
    daemon.write(node, f"{KILLING}/ctr", script)
    node.ssh(f"chmod +x {KILLING}/ctr")
    result = probe(node, binary=f"{KILLING}/containerd")
    wait(node)
    return result


def wait(node: Node) -> None:
    """Wait until no process has the lock of runs that change containerd."""
    node.ssh(f"flock {LOCK} true")


def killed(node: Node) -> bool:
    return node.exec("test", "-e", "/run/killed", check=False).returncode == 0


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_module_that_is_killed_leaves_nothing(modern_well: Node, moment: str) -> None:
    assert kill(modern_well, moment, "$module").get("failed")
    assert killed(modern_well)
    assert left(modern_well) == ""


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_probe_that_is_killed_with_its_module_is_removed_by_the_next(modern_well: Node, moment: str) -> None:
    assert kill(modern_well, moment, "$module $work $$").get("failed")
    assert killed(modern_well)
    assert finding(modern_well)["status"] == "ok"
    assert left(modern_well) == ""


def test_a_probe_that_is_killed_alone_is_reported(modern_well: Node) -> None:
    check = kill(modern_well, "run", "$work $$")["checks"][0]
    assert (check["status"], "its process ended" in check["found"]) == ("unknown", True)
    assert finding(modern_well)["status"] == "ok"
    assert left(modern_well) == ""


@pytest.mark.parametrize("command", ["create", "start", "delete"])
def test_a_container_that_was_left_halfway_is_removed_by_the_next_probe(well: Node, command: str) -> None:
    """The module, the process of the probe and ctr are killed while runc works."""
    script = f"""#!/bin/sh
ctr=$(pgrep -xo ctr)
{PROCESSES}
case " $* " in *" {command} "*) [ -e /run/killed ] || {{ touch /run/killed; kill -9 $module $work $ctr; sleep 1; }};; esac
exec {RUNC}.kept "$@"
"""
    well.ssh(KEEP_RUNC)
    daemon.write(well, RUNC, script)
    well.ssh(f"chmod +x {RUNC}")
    assert probe(well).get("failed")
    assert killed(well)
    # runc ends by itself; meanwhile, the script that waits before it has its name.
    well.ssh("timeout 60 sh -c \"while pgrep -x 'runc|runc.kept'; do sleep 0.1; done\"")
    assert left(well) != ""
    assert finding(well)["status"] == "ok"
    assert left(well) == ""


SETTING = {"settings": {"max_concurrent_downloads": 5}, "probe": "changed"}
NO_RUNC = 'exec: "runc": executable file not found in $PATH'


def test_a_change_after_which_no_container_starts_is_rolled_back(own_config: Node) -> None:
    before = daemon.read(own_config, daemon.ROOT)
    own_config.ssh(KEEP_RUNC)
    for _run in range(2):
        refused = own_config.module("containerd_config", SETTING)
        assert refused["failed"] and refused["rolled_back"], refused
        assert NO_RUNC in refused["msg"]
        assert daemon.read(own_config, daemon.ROOT) == before
        assert daemon.is_well(own_config)
    heal(own_config)
    done = own_config.module("containerd_config", SETTING)
    assert done["changed"] and not done.get("failed"), done
    assert not own_config.module("containerd_config", SETTING)["changed"]
    assert left(own_config) == ""


def test_a_restart_without_a_change_of_files_fails_until_a_container_starts(own_config: Node) -> None:
    own_config.ssh(f"{KEEP_RUNC}; systemctl stop containerd")
    for _run in range(2):
        refused = own_config.module("containerd_config", {"probe": "changed"})
        assert refused["failed"] and NO_RUNC in refused["msg"], refused
    heal(own_config)
    assert not own_config.module("containerd_config", {"probe": "changed"}).get("failed")
    assert not own_config.module("containerd_config", {"probe": "changed"})["changed"]


def test_provision_fails_until_a_container_starts(own_config: Node) -> None:
    settings = {"containerd_max_concurrent_downloads": 6}
    own_config.ssh(KEEP_RUNC)
    for _run in range(2):
        played = own_config.play("slipway.node.provision", settings)
        assert played["stats"][own_config.name]["failures"] == 1, played["stats"]
        assert NO_RUNC in str(played)
    heal(own_config)
    for changes in (True, False):
        stats = own_config.play("slipway.node.provision", settings)["stats"][own_config.name]
        assert (stats["failures"], stats["changed"] > 0) == (0, changes), stats


def test_a_change_of_other_programs_is_probed_if_asked(modern_well: Node) -> None:
    done = modern_well.module("containerd_config", {"probe": "always"})
    assert not done.get("failed"), done
    assert not done["changed"]
    modern_well.ssh(KEEP_RUNC)
    refused = modern_well.module("containerd_config", {"probe": "always"})
    assert refused["failed"] and NO_RUNC in refused["msg"], refused
    # Until a container starts, each run that may start one does.
    assert modern_well.module("containerd_config", {"probe": "changed"})["failed"]
    heal(modern_well)
    assert not modern_well.module("containerd_config", {"probe": "changed"}).get("failed")


CRICTL = "/usr/local/bin/crictl"


@pytest.fixture
def pod_node(own_config: Node, source: Registry) -> Iterator[Node]:
    """Both with crictl and a sandbox image that runs."""
    cri.install(own_config)
    own_config.ssh(f"cp {cri.PROGRAM} {CRICTL}")
    image = source.push([busybox()], command=["/bin/busybox", "sleep", "100000"])
    own_config.ssh(f"ctr -n k8s.io images pull --plain-http {image}")
    # A container on a machine can't lower the score of its processes.
    plugin = daemon.CRI if own_config.line < (2,) else daemon.RUNTIME
    extra = {"plugins": {plugin: {"restrict_oom_score_adj": True}}}
    done = own_config.module("containerd_config", {"settings": {"sandbox_image": image, "extra_config": extra}})
    assert not done.get("failed"), done
    yield own_config
    own_config.ssh(f"rm -f {CRICTL}; ctr -n k8s.io images ls -q | xargs -r ctr -n k8s.io images rm --sync")


def pods(node: Node) -> str:
    return node.ssh("ctr -n k8s.io containers ls -q").stdout + cri.crictl(node, "pods", "-q").stdout


def test_a_pod_starts_and_nothing_is_left(pod_node: Node) -> None:
    check = finding(pod_node, "pod")
    assert (check["status"], check["found"]) == ("ok", {"runc": "started"})
    assert pods(pod_node) == ""


def test_a_pod_that_does_not_start_is_reported_in_the_runtimes_words(pod_node: Node) -> None:
    pod_node.ssh(KEEP_RUNC)
    check = finding(pod_node, "pod")
    assert check["status"] == "fail"
    assert NO_RUNC in check["found"]["runc"]
    assert pods(pod_node) == ""


def test_a_pod_whose_module_is_killed_is_taken_away(pod_node: Node) -> None:
    pod_node.ssh(f"mv {CRICTL} {CRICTL}.kept")
    script = f"""#!/bin/sh
ctr=$$
{PROCESSES}
case " $* " in *" runp "*) kill -9 $module;; esac
exec {CRICTL}.kept "$@"
"""
    daemon.write(pod_node, CRICTL, script)
    pod_node.ssh(f"chmod +x {CRICTL}")
    assert probe(pod_node, "pod").get("failed")
    wait(pod_node)
    assert pods(pod_node) == ""


def test_a_pod_is_unknown_without_crictl_or_image(pod_node: Node) -> None:
    pod_node.ssh("ctr -n k8s.io images ls -q | xargs -r ctr -n k8s.io images rm --sync")
    check = finding(pod_node, "pod")
    assert (check["status"], "isn't on the node" in check["found"]) == ("unknown", True)
    pod_node.ssh(f"rm -f {CRICTL}")
    check = finding(pod_node, "pod")
    assert (check["status"], "there is no program crictl" in check["found"]) == ("unknown", True)
