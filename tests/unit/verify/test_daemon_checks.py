# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Daemon, Plugin
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.imports import BrokenImport
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import LATE
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.core.process import Process
from ansible_collections.slipway.node.plugins.module_utils.core.shutdown import Shutdown
from ansible_collections.slipway.node.plugins.module_utils.core.tree import merge, nest
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import UnitStatus
from ansible_collections.slipway.node.plugins.module_utils.images.expected import ExpectedImage, FoundImage, JudgedImage
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.stranded import StrandedImage
from ansible_collections.slipway.node.plugins.module_utils.store.layer_limit import Overlay, headroom
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import ExpectedToolbox, Risk, Toolboxes, ToolboxState
from ansible_collections.slipway.node.plugins.module_utils.verify import (
    handler_checks,
    kata_checks,
    pod_checks,
    probe_checks,
    registry_checks,
    surroundings_checks,
    thin_pool_checks,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import CHECKS as ALL
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import (
    STATUSES,
    UNDETERMINED,
    checks_in,
    report,
    run_checks,
    summarize,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    DAEMON_UNREACHABLE,
    Expectation,
    Finding,
    NodeState,
    check,
    ok,
    unknown,
)

# These have tests of their own.
OTHERS = (handler_checks, kata_checks, pod_checks, probe_checks, registry_checks, surroundings_checks, thin_pool_checks)
CHECKS = [name for name in ALL if not any(name in checks_in(file) for file in OTHERS)]
V2 = "io.containerd.grpc.v1.cri"
METADATA = "io.containerd.metadata.v1.bolt"
ROOT = "/etc/containerd/config.toml"
PROXY = {"HTTPS_PROXY": "http://proxy.example:3128"}
ALPINE = "docker.io/library/alpine:3.22"
BOX = ExpectedToolbox("/var/lib/toolbox/debug")
EXPECTED = Expectation(
    Settings.from_params({"image_pull_sync_fs": True, "snapshotter": "overlayfs"}),
    PROXY,
    (ExpectedImage(ALPINE, "k8s.io"),),
    toolboxes=(BOX,),
)
IMAGE = FoundImage(ALPINE, "k8s.io")
DISK = Mount(1, "/", "ext4", "/dev/vda", ("rw",))
OVERLAY = Overlay("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs", 4096, ("index=off",))
RISK = Risk("default", "overlayfs", "/box", "/mnt", "", "soon gone", certain=True)
PULL = Pull("this boot", "k8s.io", "overlayfs", (ALPINE,), ())

UNIT = UnitStatus(True, "active", "running", 7, 0, "process", "enabled", ("/a.service",), False, "success")
PROCESS = Process(7, 1000.0, ("/usr/bin/containerd",), "/usr/bin/containerd")
CRI = Plugin("io.containerd.grpc.v1", "cri", "ok")
OVERLAYFS = Plugin("io.containerd.snapshotter.v1", "overlayfs", "ok")
DAEMON = Daemon(UNIT, PROCESS, (CRI, OVERLAYFS), (), "/usr/bin/containerd")
TEXT = f'version = 2\n[plugins."{V2}"]\nimage_pull_with_sync_fs = true\n'


@pytest.fixture
def passing(recorded: Callable[[str, str], str]) -> NodeState:
    """A node with containerd 1.7.24 on which every check but those of other pull paths is ok."""
    dump = tomllib.loads(recorded("1.7.24", "default.toml"))
    dump["plugins"][V2]["image_pull_with_sync_fs"] = True
    return NodeState(
        config_file=ROOT,
        unit="containerd.service",
        now=2000.0,
        version=Version.parse("1.7.24"),
        daemon=DAEMON,
        sources=(Source(ROOT, TEXT),),
        config=EffectiveConfig(dump),
        defaults=EffectiveConfig(tomllib.loads(recorded("1.7.24", "default.toml"))),
        environment=PROXY,
        images=(IMAGE,),
        headroom=headroom(OVERLAY, 1),
        pulls=(),
        boot="this boot",
        mounts={"/var/lib/containerd": DISK},
        shutdown=Shutdown(True, "Journal stopped"),
        uuid_problem="",
        toolboxes=Toolboxes((ToolboxState(BOX),)),
        missing_requirements={},
        stranded=(),
        unread_hosts_dirs=(),
        verifiers=(),
        lost_databases=(),
    )


def noon(day: str) -> float:
    return datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp()


def finding(name: str, state: NodeState, expectation: Expectation = EXPECTED) -> Finding | None:
    found = run_checks(state, expectation, only=[name])
    return found[0] if found else None


def changed(config: EffectiveConfig | None, *path: str, value: Any) -> EffectiveConfig:
    """The configuration with one value changed."""
    return EffectiveConfig(merge(config.dump if config is not None else {}, nest({path: value})))


def discarding(config: EffectiveConfig | None, snapshotter: str) -> EffectiveConfig:
    """The configuration with layers given up that are unpacked, and another snapshotter for runc."""
    config = changed(config, "plugins", V2, "containerd", "discard_unpacked_layers", value=True)
    return changed(config, "plugins", V2, "containerd", "runtimes", "runc", "snapshotter", value=snapshotter)


def with_unit(state: NodeState, **changes: Any) -> NodeState:
    return replace(state, daemon=replace(DAEMON, unit=replace(UNIT, **changes)))


def with_toolboxes(state: NodeState, **changes: Any) -> NodeState:
    return replace(state, toolboxes=replace(state.toolboxes or Toolboxes(), **changes))


def with_transfer_service(state: NodeState, verifiers: tuple[str, ...]) -> NodeState:
    """The node with a containerd whose CRI pulls through it, and image verifiers."""
    return replace(state, version=Version.parse("2.3.7"), config=EffectiveConfig({"version": 4}), verifiers=verifiers)


def with_mount(state: NodeState, **changes: Any) -> NodeState:
    """The node with its snapshots on another file system."""
    return replace(state, mounts={"/var/lib/containerd": DISK, "/snapshots": replace(DISK, **changes)})


def test_all_is_well(passing: NodeState) -> None:
    findings = run_checks(passing, EXPECTED, only=CHECKS)
    assert [one.id for one in findings] == CHECKS
    # Upstream supports 1.7 no longer.
    assert {one.id: one.status for one in findings if one.status != "ok"} == {"containerd_version": "warn"}
    assert all(one.remedy for one in findings if one.status != "ok")
    assert not any(one.remedy for one in findings if one.status == "ok")


UNASKED = {"config_settings", "http_proxy", "images_present", "toolboxes"}


def test_pins_are_only_counted_where_no_toolboxes_are_listed(passing: NodeState) -> None:
    pinned = with_toolboxes(passing, pinned=3, unlisted={"/old": 4096})
    found = {one.id: one for one in run_checks(pinned, Expectation(), only=CHECKS)}
    assert (found["unlisted_snapshots"].status, found["unlisted_snapshots"].found) == ("ok", "3 pinned")


def test_nothing_expected_compares_nothing(passing: NodeState) -> None:
    assert {one.id for one in run_checks(passing, Expectation(), only=CHECKS)} == set(CHECKS) - UNASKED


Change = Callable[[NodeState], NodeState]

# Changes of a node that passes all checks, and the status and words of the check that reports them.
FAULTS: list[tuple[str, str, Change, str]] = [
    ("containerd_version", "fail", lambda one: replace(one, version=None), "not installed"),
    ("containerd_version", "fail", lambda one: replace(one, version=Version.parse("1.5.13")), "1.5.13"),
    (
        "containerd_version",
        "warn",
        lambda one: replace(one, version=Version.parse("2.9.0")),
        "was not tested with",
    ),
    (
        "containerd_version",
        "warn",
        lambda one: replace(one, version=Version.parse("2.1.9")),
        "2.1.9, a line whose upstream support ended in 2026-07",
    ),
    ("containerd_version", "warn", lambda one: replace(one, version=Version.parse("2.2.1")), "may lose deleted files"),
    ("containerd_version", "ok", lambda one: replace(one, version=Version.parse("2.3.7")), "2.3.7"),
    ("daemon_running", "fail", lambda one: with_unit(one, active="failed", pid=0), "the unit is failed"),
    ("daemon_running", "fail", lambda one: replace(one, daemon=replace(DAEMON, plugins=None)), "doesn't answer"),
    ("daemon_stable", "warn", lambda one: with_unit(one, restarts=3), "3 crashes, none recently"),
    ("daemon_stable", "fail", lambda one: replace(with_unit(one, restarts=3), now=1100.0), "the last one within 600 seconds"),
    ("daemon_stable", "unknown", lambda one: replace(one, daemon=replace(DAEMON, process=None)), "doesn't run"),
    ("unit_enabled", "fail", lambda one: with_unit(one, enabled="disabled"), "disabled"),
    ("unit_enabled", "ok", lambda one: with_unit(one, enabled="static"), "static"),
    ("unit_enabled", "fail", lambda one: replace(one, starts_at_boot=False), "no unit of the default target starts it"),
    ("unit_enabled", "unknown", lambda one: with_unit(one, loaded=False), "there is no unit containerd.service"),
    ("unit_enabled", "fail", lambda one: replace(one, boot_complaints=("it is part of an ordering cycle",)), "an ordering cycle"),
    ("unit_enabled", "unknown", lambda one: replace(one, trouble={"boot_complaints": "no answer"}), "no answer"),
    ("kill_mode", "fail", lambda one: with_unit(one, kill_mode="control-group"), "control-group"),
    ("kill_mode", "fail", lambda one: with_unit(one, kill_mode="mixed"), "mixed"),
    ("kill_mode", "unknown", lambda one: with_unit(one, loaded=False), "there is no unit"),
    ("config_loads", "fail", lambda one: replace(one, config=None, trouble={"config": "bad TOML"}), "bad TOML"),
    ("config_loads", "unknown", lambda one: replace(one, config=None, trouble={"config": f"{LATE} 1 seconds"}), LATE),
    ("containerd_version", "unknown", lambda one: replace(one, version=None, trouble={"version": f"{LATE} 1 seconds"}), LATE),
    (
        "config_loads",
        "fail",
        lambda one: replace(one, config=changed(one.config, "plugins", V2, "containerd", "default_runtime_name", value="kata")),
        "'kata' is not declared",
    ),
    ("config_loads", "unknown", lambda one: replace(one, version=None, trouble={"version": "no such file"}), "no such file"),
    (
        "config_file",
        "fail",
        lambda one: replace(one, daemon=replace(DAEMON, process=replace(PROCESS, arguments=("x", "-c", "/other.toml")))),
        "/other.toml",
    ),
    ("config_file", "unknown", lambda one: replace(one, daemon=replace(DAEMON, process=None)), "doesn't run"),
    ("restart_pending", "fail", lambda one: replace(one, daemon=replace(DAEMON, newer=(ROOT,))), f"changed since: {ROOT}"),
    ("restart_pending", "unknown", lambda one: replace(one, daemon=replace(DAEMON, process=None)), "doesn't run"),
    ("restart_pending", "unknown", lambda one: replace(one, daemon=replace(DAEMON, undated=(ROOT,))), "still to come"),
    (
        "daemon_binary",
        "fail",
        lambda one: replace(one, daemon=replace(DAEMON, process=replace(PROCESS, executable=None))),
        "has been replaced",
    ),
    ("daemon_binary", "unknown", lambda one: replace(one, daemon=replace(DAEMON, binary=None)), "not read"),
    (
        "daemon_databases",
        "fail",
        lambda one: replace(one, lost_databases=("/a/meta.db",)),
        "another mount: /a/meta.db. A restart loses",
    ),
    ("daemon_databases", "unknown", lambda one: replace(one, lost_databases=None), "not read"),
    ("interrupted_config_change", "fail", lambda one: replace(one, pending=(ROOT,)), f"not verified: {ROOT}"),
    ("interrupted_config_change", "fail", lambda one: replace(one, interrupted_upgrade=True), "an upgrade was interrupted"),
    ("interrupted_config_change", "unknown", lambda one: replace(one, trouble={"record": "it is damaged"}), "it is damaged"),
    (
        "config_schema",
        "warn",
        lambda one: replace(one, sources=(Source(ROOT, f"{TEXT}max_concurrent_downloads = 7\n"),)),
        "max_concurrent_downloads",
    ),
    ("config_schema", "unknown", lambda one: replace(one, defaults=None), "not read"),
    ("config_schema", "unknown", lambda one: replace(one, sources=(Source(ROOT, "= 1"),)), ROOT),
    ("config_schema", "unknown", lambda one: replace(one, sources=(), trouble={"sources": "not UTF-8"}), "not UTF-8"),
    (
        "unknown_keys",
        "warn",
        lambda one: replace(one, sources=(Source(ROOT, f'{TEXT}[plugins."{V2}".cni]\ncolour = 1\n'),)),
        "cni.colour",
    ),
    (
        "dropped_keys",
        "warn",
        lambda one: replace(one, sources=(Source(ROOT, f"{TEXT}disable_cgroup = true\n"),)),
        "from containerd 2.0 on",
    ),
    ("unknown_keys", "unknown", lambda one: replace(one, defaults=None), "not read"),
    ("unknown_keys", "unknown", lambda one: replace(one, sources=(), trouble={"sources": "not UTF-8"}), "not UTF-8"),
    ("cri_plugin", "fail", lambda one: replace(one, daemon=replace(DAEMON, plugins=(OVERLAYFS,))), "isn't loaded"),
    (
        "cri_plugin",
        "fail",
        lambda one: replace(one, daemon=replace(DAEMON, plugins=(replace(CRI, status="error"), OVERLAYFS))),
        "in state error",
    ),
    ("cri_plugin", "fail", lambda one: replace(one, config=changed(one.config, "disabled_plugins", value=["cri"])), "disabled"),
    ("cri_plugin", "unknown", lambda one: replace(one, daemon=replace(DAEMON, plugins=None)), "doesn't answer"),
    ("snapshotters", "fail", lambda one: replace(one, daemon=replace(DAEMON, plugins=(CRI,))), "not loaded"),
    (
        "snapshotters",
        "fail",
        lambda one: replace(one, daemon=replace(DAEMON, plugins=(CRI, replace(OVERLAYFS, status="skip")))),
        "skip",
    ),
    ("snapshotters", "unknown", lambda one: replace(one, daemon=replace(DAEMON, plugins=None)), "doesn't answer"),
    (
        "snapshotters",
        "fail",
        lambda one: replace(
            one,
            daemon=replace(DAEMON, plugins=(CRI, replace(OVERLAYFS, status="skip"))),
            plugin_reasons={"overlayfs": "no such file system"},
        ),
        "skip: no such file system",
    ),
    (
        "snapshotter_requirements",
        "fail",
        lambda one: replace(one, missing_requirements={"erofs": "no mkfs.erofs"}),
        "no mkfs.erofs",
    ),
    ("snapshotter_requirements", "unknown", lambda one: replace(one, missing_requirements=None), "not read"),
    (
        "images_unpacked",
        "warn",
        lambda one: replace(one, stranded=(StrandedImage(ALPINE, ("native",)),)),
        "unpacked for native alone",
    ),
    ("images_unpacked", "unknown", lambda one: replace(one, stranded=None, trouble={"stranded": "no ctr"}), "no ctr"),
    (
        "discarded_layers",
        "fail",
        lambda one: replace(one, config=discarding(one.config, "native")),
        "discard_unpacked_layers is true",
    ),
    ("discarded_layers", "ok", lambda one: replace(one, config=discarding(one.config, "")), "no second snapshotter"),
    (
        "config_settings",
        "fail",
        lambda one: replace(one, config=changed(one.config, "plugins", V2, "image_pull_with_sync_fs", value=False)),
        "image_pull_with_sync_fs': False",
    ),
    ("config_settings", "fail", lambda one: replace(one, version=Version.parse("1.6.20")), "needs containerd 1.7.14"),
    ("config_settings", "unknown", lambda one: replace(one, config=None), "can't be loaded"),
    ("config_settings", "unknown", lambda one: replace(one, version=None), "not read"),
    (
        "http_proxy",
        "fail",
        lambda one: replace(
            one,
            environment={"HTTPS_PROXY": "http://other"},
            unit_files=(
                Source("/etc/systemd/system/containerd.service.d/60-slipway.conf", "[Service]\n"),
                Source(
                    "/etc/systemd/system/containerd.service.d/http-proxy.conf",
                    "[Service]\nEnvironment=HTTPS_PROXY=http://other\n",
                ),
            ),
        ),
        "HTTPS_PROXY is set by /etc/systemd/system/containerd.service.d/http-proxy.conf",
    ),
    ("http_proxy", "fail", lambda one: replace(one, environment={}), "HTTPS_PROXY"),
    (
        "http_proxy",
        "fail",
        lambda one: replace(one, environment={**(one.environment or {}), "http_proxy": "http://u:never#shown@proxy:1"}),
        "http_proxy is no URL",
    ),
    ("http_proxy", "unknown", lambda one: replace(one, environment=None), "can't be read"),
    (
        "durability_cri",
        "fail",
        lambda one: replace(one, config=changed(one.config, "plugins", V2, "image_pull_with_sync_fs", value=False)),
        "not_durable",
    ),
    (
        "durability_cri",
        "unknown",
        lambda one: replace(one, config=changed(one.config, "plugins", V2, "containerd", "snapshotter", value="devmapper")),
        "unknown",
    ),
    (
        "durability_cri",
        "fail",
        lambda one: replace(one, config=changed(one.config, "plugins", METADATA, "no_sync", value=True)),
        "no_sync of io.containerd.metadata.v1.bolt is on",
    ),
    ("registry_directories", "fail", lambda one: replace(one, unread_hosts_dirs=("/a", "/b")), "transfer service: /a, /b"),
    ("registry_directories", "unknown", lambda one: replace(one, unread_hosts_dirs=None), "not read"),
    (
        "image_verifiers",
        "fail",
        lambda one: replace(one, verifiers=("/v/deny",)),
        "CRI of containerd 1.7.24 pulls without the transfer service, which asks the image verifiers (/v/deny)",
    ),
    ("image_verifiers", "ok", lambda one: with_transfer_service(one, ("/v/deny",)), "['/v/deny']"),
    (
        "image_verifiers",
        "unknown",
        lambda one: replace(one, verifiers=None, trouble={"verifiers": "not a directory"}),
        "not a dir",
    ),
    ("images_present", "fail", lambda one: replace(one, images=(replace(IMAGE, problem="not there"),)), "not there"),
    ("images_present", "unknown", lambda one: replace(one, images=(replace(IMAGE, trouble="no answer"),)), "no answer"),
    ("images_present", "warn", lambda one: replace(one, images=(replace(IMAGE, synced=False),)), "possibly not on disk"),
    ("images_present", "unknown", lambda one: replace(one, images=(replace(IMAGE, durability="unknown"),)), "can't be flushed"),
    ("images_present", "unknown", lambda one: replace(one, images=None, trouble={"images": "no ctr"}), "no ctr"),
    (
        "layer_headroom",
        "fail",
        lambda one: replace(one, headroom=headroom(replace(OVERLAY, root="/" + "x" * 1800), 1)),
        "have to fit in a page",
    ),
    ("layer_headroom", "unknown", lambda one: replace(one, headroom=None, trouble={"overlay": "no ctr"}), "no ctr"),
    ("interrupted_pulls", "warn", lambda one: replace(one, pulls=(PULL,)), f"active or was killed: {ALPINE}"),
    ("interrupted_pulls", "fail", lambda one: replace(one, pulls=(PULL, replace(PULL, boot="earlier"))), "may be lost"),
    ("interrupted_pulls", "unknown", lambda one: replace(one, pulls=None, trouble={"pulls": "it is no JSON"}), "no JSON"),
    ("interrupted_pulls", "unknown", lambda one: replace(one, boot=None, trouble={"boot": "no such file"}), "no such file"),
    ("storage_filesystem", "fail", lambda one: with_mount(one, options=("rw", "nobarrier")), "nobarrier"),
    ("storage_filesystem", "warn", lambda one: with_mount(one, options=("rw", "data=writeback")), "that a program doesn't sync"),
    ("storage_filesystem", "warn", lambda one: with_mount(one, type="tmpfs"), "in memory"),
    ("storage_filesystem", "unknown", lambda one: with_mount(one, type="overlay"), "below"),
    ("storage_filesystem", "unknown", lambda one: replace(one, mounts=None, trouble={"mounts": "no ctr"}), "no ctr"),
    ("storage_filesystem", "unknown", lambda one: replace(one, trouble={"mounts": "no such directory"}), "no such directory"),
    ("image_integrity", "ok", lambda one: replace(one, judged=(JudgedImage("a", "b"),), compared="metadata"), "1 compared"),
    ("image_integrity", "fail", lambda one: replace(one, judged=(JudgedImage("a", "b", "gone"),)), "'a in b': 'gone'"),
    ("image_integrity", "unknown", lambda one: replace(one, judged=(JudgedImage("a", "b", "", "odd"),)), "'a in b': 'odd'"),
    ("image_integrity", "fail", lambda one: replace(one, judged=(JudgedImage("a", "b", "gone", "", "erofs"),)), "a in b (erofs)"),
    ("image_integrity", "unknown", lambda one: replace(one, compared="metadata", trouble={"judged": "no ctr"}), "no ctr"),
    ("image_integrity", "unknown", lambda one: replace(one, shutdown=None, trouble={"shutdown": "no uptime"}), "no uptime"),
    ("toolboxes", "fail", lambda one: with_toolboxes(one, expected=(ToolboxState(BOX, "it isn't pinned"),)), "isn't pinned"),
    ("toolboxes", "unknown", lambda one: with_toolboxes(one, expected=(ToolboxState(BOX, "", "no answer"),)), "no answer"),
    (
        "toolboxes",
        "unknown",
        lambda one: with_toolboxes(one, expected=(ToolboxState(BOX, "not there"),), trouble="can't list them"),
        "can't list them",
    ),
    ("toolboxes", "unknown", lambda one: replace(one, toolboxes=None, trouble={"toolboxes": "no ctr"}), "no ctr"),
    ("unlisted_snapshots", "warn", lambda one: with_toolboxes(one, unlisted={"/old": 4096}), "'/old': '4096 bytes'"),
    ("unlisted_snapshots", "warn", lambda one: with_toolboxes(one, unlisted={"/old": None}), "size unknown"),
    ("unlisted_snapshots", "unknown", lambda one: with_toolboxes(one, trouble="can't list them"), "can't list them"),
    ("unlisted_snapshots", "unknown", lambda one: replace(one, toolboxes=None, trouble={"toolboxes": "no ctr"}), "no ctr"),
    (
        "snapshots_at_risk",
        "fail",
        lambda one: with_toolboxes(one, at_risk=(RISK,)),
        "/box in default (overlayfs)': 'mounted at /mnt: s",
    ),
    ("snapshots_at_risk", "fail", lambda one: with_toolboxes(one, lost=("/mnt/a",)), "'/mnt/a': 'its snapshot has been deleted"),
    ("snapshots_at_risk", "unknown", lambda one: with_toolboxes(one, at_risk=(replace(RISK, certain=False),)), "/box in default"),
    ("snapshots_at_risk", "unknown", lambda one: with_toolboxes(one, trouble="can't list them"), "can't list them"),
    ("snapshots_at_risk", "unknown", lambda one: replace(one, toolboxes=None, trouble={"daemon": "no socket"}), "no socket"),
    ("daemon_uuid", "fail", lambda one: replace(one, uuid_problem="uuid is empty"), "is empty"),
    ("daemon_uuid", "unknown", lambda one: replace(one, uuid_problem=None, trouble={"uuid_problem": "no ctr"}), "no ctr"),
    *(
        (name, "unknown", lambda one: replace(one, config=None, trouble={"config": "bad TOML"}), "bad TOML")
        for name in (
            *("unknown_keys", "cri_plugin", "snapshotters", "snapshotter_requirements", "images_unpacked", "discarded_layers"),
            *("durability_cri", "durability_ctr", "durability_transfer"),
        )
    ),
    (
        "daemon_running",
        "fail",
        lambda one: replace(one, daemon=None, trouble={"daemon": "no systemctl"}),
        "no systemctl",
    ),
    *(
        (name, "unknown", lambda one: replace(one, daemon=None, trouble={"daemon": "no systemctl"}), "no systemctl")
        for name in (
            "daemon_stable",
            "unit_enabled",
            "kill_mode",
            "config_file",
            "restart_pending",
            "daemon_binary",
            "daemon_databases",
            "cri_plugin",
            "snapshotters",
        )
    ),
]


@pytest.mark.parametrize(("name", "status", "change", "found"), FAULTS, ids=[f"{one[0]}-{one[1]}" for one in FAULTS])
def test_each_fault_is_found(passing: NodeState, name: str, status: str, change: Change, found: str) -> None:
    result = finding(name, change(passing))
    assert result is not None
    assert result.status == status
    assert found in str(result.found)
    assert bool(result.remedy) is (status != "ok")
    assert result.to_dict()["id"] == name


def test_every_check_can_be_other_than_ok() -> None:
    assert {one[0] for one in FAULTS if one[1] != "ok"} == set(CHECKS)


def test_a_node_that_nothing_is_known_of_is_not_ok() -> None:
    state = NodeState(ROOT, "containerd.service", 0.0, trouble={"record": "no permission", "sources": "no permission"})
    assert "ok" not in {one.status for one in run_checks(state, EXPECTED, only=CHECKS)}
    for name in CHECKS:
        assert finding(name, state) is not None


def test_a_daemon_that_does_not_answer_is_to_be_started(passing: NodeState) -> None:
    trouble = dict.fromkeys(("stranded", "overlay", "pulls", "mounts", "judged", "uuid_problem", "toolboxes"), DAEMON_UNREACHABLE)
    unread: dict[str, Any] = dict.fromkeys(
        ("stranded", "headroom", "pulls", "mounts", "shutdown", "uuid_problem", "toolboxes"), None
    )
    state = replace(passing, daemon=replace(DAEMON, process=None, plugins=None), trouble=trouble, **unread)
    remedies = {one.remedy for one in run_checks(state, EXPECTED, only=CHECKS) if one.status == "unknown"}
    assert remedies == {"start the daemon"}


# What only the daemon can be asked for.
ASKED = ("sandbox", "stranded", "overlay", "pulls", "mounts", "images", "judged", "uuid_problem", "toolboxes")
NOTHING: dict[str, Any] = dict.fromkeys(
    ("images", "stranded", "headroom", "pulls", "mounts", "shutdown", "uuid_problem", "toolboxes"), None
)


def stopped(state: NodeState, **changes: Any) -> NodeState:
    unit = replace(UNIT, **{"active": "inactive", "pid": 0, **changes})
    daemon = replace(DAEMON, unit=unit, process=None, plugins=None)
    trouble = dict.fromkeys((*ASKED, "programs"), DAEMON_UNREACHABLE)
    return replace(state, daemon=daemon, environment=None, trouble=trouble, **NOTHING)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("daemon_running", stopped),
        ("daemon_running", lambda one: stopped(one, active="failed", restarts=5)),
        ("daemon_running", lambda one: stopped(one, loaded=False)),
        (
            "daemon_running",
            lambda one: replace(
                one, daemon=replace(DAEMON, plugins=None), trouble=dict.fromkeys(ASKED, DAEMON_UNREACHABLE), **NOTHING
            ),
        ),
        (
            "daemon_running",
            lambda one: replace(
                one, daemon=None, trouble=dict.fromkeys((*ASKED, "daemon"), "there is no program ctr"), **NOTHING
            ),
        ),
        (
            "containerd_version",
            lambda one: replace(
                stopped(one, loaded=False),
                version=None,
                config=None,
                defaults=None,
                trouble={"version": "not installed", **dict.fromkeys(ASKED, "not installed")},
            ),
        ),
        (
            "config_loads",
            lambda one: replace(
                one, config=None, daemon=None, trouble=dict.fromkeys((*ASKED, "config", "daemon", "sources"), "a FIFO"), **NOTHING
            ),
        ),
    ],
)
def test_one_cause_is_one_finding(passing: NodeState, name: str, change: Change) -> None:
    findings = report(run_checks(change(passing), EXPECTED, only=CHECKS))
    assert [one.id for one in findings if one.status == "fail"] == [name]
    (rest,) = [one for one in findings if one.status == "unknown"]
    assert (rest.id, rest.remedy) == (UNDETERMINED, f"correct {name} first")
    ((said, ids),) = rest.found.items()
    assert said == f"{len(ids.split(', '))} checks because of {name}"
    assert {"daemon_uuid", "toolboxes", "snapshots_at_risk"} <= set(ids.split(", "))


def test_checks_with_the_same_reason_are_one_finding() -> None:
    several = [replace(unknown("", "no answer", "wait", "no answer"), id=name) for name in ("a", "b")]
    (found,) = report(several)
    assert (found.status, found.found, found.remedy) == ("unknown", {"2 checks because of no answer": "a, b"}, "wait")


def test_the_one_check_that_is_asked_for_says_why_it_is_unknown(passing: NodeState) -> None:
    (found,) = report(run_checks(stopped(passing), EXPECTED, only=["daemon_uuid"]))
    assert (found.id, found.found) == ("daemon_uuid", DAEMON_UNREACHABLE)


def test_the_worst_findings_come_first(passing: NodeState) -> None:
    state = replace(passing, pending=(ROOT,), version=Version.parse("2.2.1"), uuid_problem=None)
    statuses = [one.status for one in report(run_checks(state, EXPECTED))]
    assert statuses == sorted(statuses, key=STATUSES.index)
    assert set(statuses) == set(STATUSES)


def test_a_file_that_the_daemon_could_not_load_is_to_be_repaired(passing: NodeState) -> None:
    broken = "cannot load the configuration (containerd config dump exited with 1: unexpected token)"
    trouble = dict.fromkeys(("config", "stranded", "pulls", "mounts", "judged", "uuid_problem", "toolboxes"), broken)
    unread: dict[str, Any] = dict.fromkeys(
        ("config", "stranded", "headroom", "pulls", "mounts", "shutdown", "uuid_problem"), None
    )
    found = run_checks(replace(passing, trouble=trouble, toolboxes=None, **unread), EXPECTED)
    assert {one.remedy.partition(" or ")[0].partition(",")[0] for one in found if one.found == broken} == {f"repair {ROOT}"}
    assert not [one for one in found if "run this as root" in one.remedy]


@pytest.mark.parametrize("certain", [True, False])
def test_what_keeps_a_snapshot_is_said_for_any_namespace_and_snapshotter(passing: NodeState, certain: bool) -> None:
    found = finding("snapshots_at_risk", with_toolboxes(passing, at_risk=(replace(RISK, certain=certain),)))
    assert found is not None and "ctr -n NAMESPACE snapshots --snapshotter SNAPSHOTTER label KEY" in found.remedy


@pytest.mark.parametrize(
    ("day", "version", "status"),
    [
        ("2026-11-30", "2.2.9", "ok"),
        ("2026-12-01", "2.2.9", "warn"),
        ("2027-04-30", "2.4.2", "ok"),
        ("2027-05-01", "2.4.2", "warn"),
        ("2028-04-30", "2.3.7", "ok"),
        ("2028-05-01", "2.3.7", "warn"),
    ],
)
def test_a_line_is_supported_until_the_end_of_its_last_month(passing: NodeState, day: str, version: str, status: str) -> None:
    found = finding("containerd_version", replace(passing, version=Version.parse(version), now=noon(day)))
    assert found is not None and found.status == status


def test_a_clock_that_was_set_back_extends_no_support(passing: NodeState) -> None:
    found = finding("containerd_version", replace(passing, now=noon("2020-01-01")))
    assert found is not None and found.found == "1.7.24, a line whose upstream support ended in 2026-09"


@pytest.mark.parametrize(
    ("day", "remedy"),
    [
        ("2026-12-24", "upgrade to containerd 2.3 (LTS), which upstream supports until 2028-04"),
        ("2028-05-01", "upgrade slipway.node, which knows no line that upstream still supports, and containerd"),
    ],
)
def test_the_remedy_names_the_line_that_upstream_supports_longest(passing: NodeState, day: str, remedy: str) -> None:
    found = finding("containerd_version", replace(passing, now=noon(day)))
    assert found is not None and found.remedy == remedy


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        ("1.6.20", "list the images in containerd_images"),
        ("1.7.24", "set image_pull_sync_fs to true"),
        ("2.3.7", "set image_pull"),
    ],
)
def test_no_remedy_names_an_option_that_the_version_lacks(passing: NodeState, version: str, remedy: str) -> None:
    config = changed(passing.config, "plugins", V2, "image_pull_with_sync_fs", value=False)
    found = finding("durability_cri", replace(passing, version=Version.parse(version), config=config), Expectation())
    assert found is not None and found.remedy.startswith(remedy)


@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.1.9", "2.3.7"])
def test_a_pull_path_whose_durability_is_not_asked_for_is_information(passing: NodeState, version: str) -> None:
    config = changed(passing.config, "plugins", V2, "image_pull_with_sync_fs", value=False)
    state = replace(passing, version=Version.parse(version), config=config)
    expectation = Expectation(Settings.from_params({"image_pull_sync_fs": False}))
    for name in ("durability_cri", "durability_ctr", "durability_transfer"):
        found = finding(name, state, expectation)
        assert found is None or (found.status, found.found[:12]) == ("ok", "not_durable:"), found


def test_pulls_of_ctr_are_to_be_flushed_where_the_version_can(passing: NodeState) -> None:
    found = finding("durability_ctr", replace(passing, version=Version.parse("2.3.7")))
    assert found is not None and (found.status, found.remedy) == ("fail", CONFIGURE)


def test_a_disabled_cri_is_well_where_nothing_of_it_is_asked_for(passing: NodeState) -> None:
    state = replace(passing, config=changed(passing.config, "disabled_plugins", value=["cri"]))
    found = finding("cri_plugin", state, Expectation())
    assert found is not None
    assert found.status == "ok"
    assert finding("durability_cri", state) is None


def test_verifiers_that_need_not_be_asked_only_warn(passing: NodeState) -> None:
    state = replace(passing, verifiers=("/v/deny",))
    found = finding("image_verifiers", state, Expectation(Settings.from_params({"allow_unverified_pulls": True})))
    assert found is not None
    assert found.status == "warn"


def test_no_remedy_of_a_node_with_verifiers_goes_around_them(passing: NodeState) -> None:
    state = with_transfer_service(passing, ("/v/deny",))
    found = finding("durability_cri", state, Expectation())
    assert found is not None
    assert found.status == "warn"
    assert found.remedy.startswith("list the images in containerd_images")


def test_where_the_metadata_is_not_flushed_that_is_to_be_changed(passing: NodeState) -> None:
    state = replace(passing, config=changed(passing.config, "plugins", METADATA, "no_sync", value=True))
    for name in ("durability_cri", "durability_ctr", "durability_transfer"):
        found = finding(name, state)
        assert found is not None
        assert found.remedy == f'remove plugins."{METADATA}".no_sync'


def test_a_pull_path_that_is_not_asked_for_only_warns(passing: NodeState) -> None:
    state = replace(passing, config=changed(passing.config, "plugins", V2, "image_pull_with_sync_fs", value=False))
    found = finding("durability_cri", state, Expectation())
    assert found is not None
    assert found.status == "warn"


@pytest.mark.parametrize(
    ("snapshotter", "status", "words"),
    [("overlayfs", "ok", "durable: "), ("native", "warn", "for native not_durable"), ("devmapper", "unknown", "for devmapper")],
)
def test_what_a_handler_has_unpacked_for_itself_is_judged_too(
    passing: NodeState, snapshotter: str, status: str, words: str
) -> None:
    path = ("plugins", V2, "containerd", "runtimes", "runc", "snapshotter")
    found = finding("durability_cri", replace(passing, config=changed(passing.config, *path, value=snapshotter)))
    assert found is not None
    assert (found.status, str(found.found).startswith(words)) == (status, True), found


def test_only_and_skip_choose(passing: NodeState) -> None:
    assert [one.id for one in run_checks(passing, EXPECTED, only=["cri_plugin", "containerd_version"])] == [
        "containerd_version",
        "cri_plugin",
    ]
    assert [one.id for one in run_checks(passing, EXPECTED, only=["cri_plugin", "containerd_version"], skip=["cri_plugin"])] == [
        "containerd_version"
    ]
    assert "cri_plugin" not in {one.id for one in run_checks(passing, EXPECTED, skip=["cri_plugin"])}


@pytest.mark.parametrize("option", ["only", "skip"])
def test_refuses_an_id_that_no_check_has(passing: NodeState, option: str) -> None:
    names: dict[str, list[str]] = {option: ["cri_plugin", "nosuch"]}
    with pytest.raises(ValueError, match=f"{option} names no check 'nosuch': choose from containerd_version, "):
        run_checks(passing, EXPECTED, **names)


def test_the_summary_counts_and_names_the_worst() -> None:
    findings = [Finding(status, "", "") for status in ("ok", "warn", "ok", "unknown")]
    assert summarize(findings) == {"ok": 2, "warn": 1, "unknown": 1, "fail": 0, "worst": "unknown"}
    assert summarize([*findings, Finding("fail", "", "")])["worst"] == "fail"
    assert summarize([])["worst"] == "unknown"
    assert STATUSES[-1] == "ok"


def test_a_check_is_named_once() -> None:
    def some_check(state: NodeState, expectation: Expectation) -> Finding | None:
        return ok("this", state.config_file)

    found = check(some_check).run(NodeState(ROOT, "containerd.service", 0.0), EXPECTED)
    assert found == Finding("ok", "this", ROOT, id="some_check")


@pytest.mark.parametrize("enabled", ["masked", "masked-runtime", "enabled-runtime"])
def test_a_unit_that_is_not_started_at_boot_fails(passing: NodeState, enabled: str) -> None:
    unit = replace(UNIT, enabled=enabled, loaded=not enabled.startswith("masked"))
    found = finding("unit_enabled", replace(passing, daemon=replace(DAEMON, unit=unit)))
    assert found is not None
    assert (found.status, found.found) == ("fail", enabled)


BROKEN = BrokenImport(ROOT, "/etc/containerd/conf.d/50.toml", "is a FIFO", by_glob=True)


def test_an_import_that_is_no_file_fails(passing: NodeState) -> None:
    found = finding("config_loads", replace(passing, broken_imports=(BROKEN,)))
    assert found is not None
    assert (found.status, found.found) == ("fail", BROKEN.sentence())
    assert found.remedy == "remove or repair /etc/containerd/conf.d/50.toml by hand"


def test_no_remedy_starts_a_run_before_an_import_is_repaired(passing: NodeState) -> None:
    daemon = replace(DAEMON, newer=("/etc/containerd/conf.d",))
    state = replace(passing, broken_imports=(BROKEN,), config=None, daemon=daemon, trouble={"config": BROKEN.sentence()})
    findings = run_checks(state, EXPECTED, only=CHECKS)
    assert any("playbook" in one.remedy for one in findings)
    for one in findings:
        assert "playbook" not in one.remedy or one.remedy.startswith(BROKEN.remedy()), one


def test_headroom_that_does_not_last_warns(passing: NodeState) -> None:
    found = {layers: finding("layer_headroom", passing, replace(EXPECTED, min_layers=layers)) for layers in (354, 355, 500)}
    assert [one.status for one in found.values() if one is not None] == ["ok", "warn", "warn"]
    assert "for 500 now, for 354 once snapshot ids have 7 digits" in str(found[355])


def test_headroom_of_other_snapshotters_is_not_judged(passing: NodeState) -> None:
    state = replace(
        passing, headroom=None, config=changed(passing.config, "plugins", V2, "containerd", "snapshotter", value="native")
    )
    assert finding("layer_headroom", state) is None
    by_handler = changed(state.config, "plugins", V2, "containerd", "runtimes", "runc", "snapshotter", value="overlayfs")
    judged = finding("layer_headroom", replace(state, config=by_handler, headroom=passing.headroom))
    assert judged is not None and judged.status == "ok"


@pytest.mark.parametrize("layers", [-1, 501])
def test_refuses_a_number_of_layers_that_no_node_can_have(layers: int) -> None:
    with pytest.raises(ValueError, match="min_layers has to be between 0 and 500"):
        Expectation(min_layers=layers)


def test_everything_that_is_wrong_with_an_image_is_said_once(passing: NodeState) -> None:
    wrong = [replace(IMAGE, problem=problem) for problem in ("not unpacked for overlayfs", "not there", "not there")]
    other = FoundImage("docker.io/library/busybox:1", "default", trouble="no answer")
    found = finding("images_present", replace(passing, images=(*wrong, other)))
    assert found is not None
    assert found.status == "fail"
    assert found.found == {f"{ALPINE} in k8s.io": "not unpacked for overlayfs; not there"}


def test_a_proxy_that_go_can_not_read_is_found_without_one_in_the_inventory(passing: NodeState) -> None:
    for environment, status in (({"HTTPS_PROXY": "http://proxy:port"}, ["fail"]), ({"HTTPS_PROXY": "proxy:1"}, []), (None, [])):
        found = run_checks(replace(passing, environment=environment), Expectation(), only=["http_proxy"])
        assert [one.status for one in found] == status


def test_the_worst_file_system_counts(passing: NodeState) -> None:
    state = replace(
        passing,
        mounts={
            "/warned": replace(DISK, type="tmpfs"),
            "/failed": replace(DISK, options=("rw", "nobarrier")),
            "/unknown": replace(DISK, type="zfs"),
        },
    )
    found = finding("storage_filesystem", state)
    assert found is not None
    assert (found.status, list(found.found)) == ("fail", ["/failed"])


def entry(*names: str, **options: str) -> dict[str, Any]:
    return {"name": list(names), "namespace": "default", "snapshotter": None, "platform": None, **options}


def test_expected_images_are_spelled_out_and_named_once() -> None:
    entries = [entry("alpine:3.22", ALPINE), entry("alpine:3.22", namespace="k8s.io"), entry("a.example/b", snapshotter="native")]
    assert ExpectedImage.several(entries) == (
        ExpectedImage(ALPINE, "default"),
        ExpectedImage(ALPINE, "k8s.io"),
        ExpectedImage("a.example/b:latest", "default", "native"),
    )


@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        (entry("UPPER/case:1:2"), "images.name"),
        (entry("a", namespace="-x"), "images.namespace"),
        (entry("a", snapshotter="a/b"), "images.snapshotter"),
        (entry("a", platform="a\nb"), "images.platform"),
    ],
)
def test_a_wrong_expected_image_is_refused_by_its_option(wrong: dict[str, Any], option: str) -> None:
    with pytest.raises(ValueError, match=rf"^{option}"):
        ExpectedImage.several([wrong])


def test_a_setting_that_another_file_overrides_is_removed_there_first(passing: NodeState) -> None:
    key = f'[plugins."{V2}"]\nimage_pull_with_sync_fs = false\n'
    broken = replace(passing, config=changed(passing.config, "plugins", V2, "image_pull_with_sync_fs", value=False))
    for sources, remedy in (
        ((Source(ROOT, key), Source("/etc/containerd/conf.d/99.toml", key)), "from /etc/containerd/conf.d/99.toml, then run the"),
        ((Source(ROOT, key),), "run the playbook"),
    ):
        found = finding("config_settings", replace(broken, sources=sources))
        assert found is not None and remedy in found.remedy
        assert "remove" not in found.remedy.partition(" from ")[2]


def test_a_remedy_begins_with_what_a_run_would_refuse(passing: NodeState) -> None:
    assert passing.daemon is not None
    stopped = replace(passing.daemon, process=None, plugins=None)
    masked = replace(stopped, unit=replace(stopped.unit, active="inactive", pid=0, enabled="masked"))
    for state, words in (
        (replace(passing, daemon=masked), f"run 'systemctl unmask {passing.unit}', then read 'journalctl"),
        (replace(passing, daemon=stopped, config=None, trouble={"config": "no TOML"}), f"repair {ROOT}, then read 'journalctl"),
    ):
        found = finding("daemon_running", state)
        assert found is not None and found.remedy.startswith(words)


def test_another_program_in_the_daemons_place_is_one_finding(passing: NodeState) -> None:
    """It prints no version, and the running process has the file that was there before."""
    daemon = replace(DAEMON, process=replace(PROCESS, executable=""))
    state = replace(passing, daemon=daemon, version=None, trouble={"version": "no containerd version in 'true 9.7'"})
    found = report(run_checks(state, EXPECTED, only=["containerd_version", "daemon_binary"]))
    assert [(one.id, one.status) for one in found] == [("containerd_version", "fail"), ("undetermined", "unknown")]
