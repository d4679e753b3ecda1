# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.imports import BrokenImport
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path as Place
from ansible_collections.slipway.node.plugins.module_utils.core.tree import merge, nest
from ansible_collections.slipway.node.plugins.module_utils.upgrade import report as rules
from ansible_collections.slipway.node.plugins.module_utils.upgrade.deprecations import Deprecation
from ansible_collections.slipway.node.plugins.module_utils.upgrade.meanings import MEANINGS
from ansible_collections.slipway.node.plugins.module_utils.upgrade.report import report
from ansible_collections.slipway.node.plugins.module_utils.upgrade.state import Entry, Room, UpgradeState, summarize

Recorded = Callable[[str, str], str]
ROOT = "/etc/containerd/config.toml"
V2, IMAGES, RUNTIME = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
LOCAL_PULL: dict[Place, Any] = {("plugins", IMAGES, "use_local_image_pull"): True}
SETTINGS: dict[Place, Any] = {
    ("plugins", IMAGES, "pinned_images", "sandbox"): "same",
    ("plugins", RUNTIME, "cni", "bin_dirs"): ["/usr/lib/cni"],
}


def state(
    recorded: Recorded,
    now: str,
    then: str,
    before: dict[Place, Any] | None = None,
    after: dict[Place, Any] | None = None,
    **values: Any,
) -> UpgradeState:
    """A node with the defaults of both versions and these changes of them."""
    old, new = (tomllib.loads(recorded(version, "default.toml")) for version in (now, then))
    return replace(
        UpgradeState(
            ROOT,
            Version.parse(now),
            Version.parse(then),
            before=EffectiveConfig(merge(old, nest(before or {}))),
            after=EffectiveConfig(merge(new, nest(after or {}))),
            default_before=EffectiveConfig(old),
            default_after=EffectiveConfig(new),
        ),
        **values,
    )


def found(entries: list[Entry], kind: str) -> list[tuple[str, str, Any, Any]]:
    return [(one.status, one.what, one.now, one.then) for one in entries if one.kind == kind]


def kinds(entries: list[Entry]) -> set[tuple[str, str]]:
    return {(one.status, one.kind) for one in entries if one.status != "info"}


@pytest.mark.parametrize("then", ["2.1.9", "2.2.9", "2.3.7", "2.4.2"])
def test_what_changes_by_the_defaults_of_the_version_alone(recorded: Recorded, then: str) -> None:
    entries = report(state(recorded, "1.7.24", then))
    assert kinds(entries) == {("warn", "sandbox_image")} | ({("warn", "cni")} if then != "2.1.9" else set())
    assert {one.what for one in entries if one.kind == "default"} == {
        f'plugins."{RUNTIME}".enable_unprivileged_{key}' for key in ("icmp", "ports")
    }
    assert [one.then for one in entries if one.kind in ("cdi", "nri")] == [True, True]


def test_nothing_is_reported_of_the_same_version(recorded: Recorded) -> None:
    assert report(state(recorded, "2.3.7", "2.3.7")) == []


def test_the_worst_comes_first(recorded: Recorded) -> None:
    entries = report(state(recorded, "1.7.24", "2.3.7", held=None, missing_programs=("/x/ctr",)))
    order = [one.status for one in entries]
    assert order == sorted(order, key=["fail", "warn", "unknown", "info"].index)
    assert summarize(entries) == {name: order.count(name) for name in ("fail", "warn", "unknown", "info")}


@pytest.mark.parametrize(
    ("before", "after", "kind", "entry"),
    [
        (
            {("plugins", V2, "containerd", "runtimes", "kata", "runtime_type"): "io.containerd.kata.v2"},
            {},
            "handler",
            ("fail", "the type of the runtime handler kata", "io.containerd.kata.v2", None),
        ),
        (
            {("plugins", V2, "containerd", "runtimes", "runc", "options", "SystemdCgroup"): True},
            {},
            "cgroup_driver",
            ("fail", "the cgroup driver of the handler runc", "systemd", "cgroupfs"),
        ),
        (
            {("plugins", V2, "containerd", "runtimes", "runc", "snapshotter"): "native"},
            {},
            "handler_snapshotter",
            ("fail", "the snapshotter of containers with the handler runc", "native", "the default snapshotter"),
        ),
        ({("metrics", "address"): "127.0.0.1:1"}, {}, "socket", ("fail", "the socket metrics", "127.0.0.1:1", None)),
        (
            {("grpc", "address"): "/run/a.sock"},
            {},
            "socket",
            ("fail", "the socket grpc", "/run/a.sock", "/run/containerd/containerd.sock"),
        ),
        (
            {("proxy_plugins", "lazy"): {"type": "snapshot", "address": "/run/lazy"}},
            {},
            "proxy_plugin",
            ("fail", "the proxy plugin lazy", ["snapshot", "/run/lazy"], None),
        ),
        (
            {("plugins", V2, "enable_cdi"): True},
            {("plugins", RUNTIME, "enable_cdi"): False},
            "cdi",
            ("warn", "devices by the Container Device Interface", True, False),
        ),
        (
            {("plugins", V2, "stream_server_port"): "10010"},
            {},
            "stream_server",
            ("fail", "stream_server_port of CRI's stream server", "10010", "0"),
        ),
        (
            {("root",): "/srv/containerd"},
            {},
            "directory",
            ("fail", "the directory root", "/srv/containerd", "/var/lib/containerd"),
        ),
        (
            {("disabled_plugins",): []},
            {("disabled_plugins",): [V2]},
            "cri",
            ("fail", "the CRI plugin", True, False),
        ),
    ],
)
def test_each_meaning(
    recorded: Recorded, before: dict[Place, Any], after: dict[Place, Any], kind: str, entry: tuple[str, str, Any, Any]
) -> None:
    assert entry in found(report(state(recorded, "1.7.24", "2.3.7", before, after)), kind)


def test_a_change_that_the_inventory_asks_for_is_no_loss(recorded: Recorded) -> None:
    cgroup: Place = ("plugins", RUNTIME, "containerd", "runtimes", "runc", "options", "SystemdCgroup")
    wanted = {cgroup: True, **SETTINGS}
    entries = report(state(recorded, "1.7.24", "2.3.7", None, wanted, wanted=wanted, own=frozenset(wanted)))
    assert found(entries, "cgroup_driver") == [("info", "the cgroup driver of the handler runc", "cgroupfs", "systemd")]
    assert kinds(entries) == set()
    unasked = report(state(recorded, "1.7.24", "2.3.7", None, wanted, wanted=SETTINGS, own=frozenset(SETTINGS)))
    assert kinds(unasked) == {("fail", "cgroup_driver")}


def test_a_default_that_the_inventory_names_is_no_loss(recorded: Recorded) -> None:
    snapshotter: Place = ("plugins", IMAGES, "snapshotter")
    before: dict[Place, Any] = {("plugins", V2, "containerd", "snapshotter"): "native"}
    wanted: dict[Place, Any] = {snapshotter: "overlayfs"}
    change = ("the default snapshotter", "native", "overlayfs")
    entries = report(state(recorded, "1.7.24", "2.3.7", before, wanted, wanted=wanted, own=frozenset(wanted)))
    assert found(entries, "snapshotter") == [("info", *change)]
    assert found(report(state(recorded, "1.7.24", "2.3.7", before)), "snapshotter") == [("fail", *change)]


@pytest.mark.parametrize("own", [True, False])
def test_a_key_that_the_inventory_sets_otherwise_is_no_loss(recorded: Recorded, own: bool) -> None:
    sandbox: Place = ("plugins", IMAGES, "pinned_images", "sandbox")
    text = f"""version = 2
[plugins."{V2}"]
sandbox_image = "theirs"
"""
    before: dict[Place, Any] = {("plugins", V2, "sandbox_image"): "theirs"}
    wanted: dict[Place, Any] = {sandbox: "ours"} if own else {}
    values = {"others": (Source(ROOT, text),), "wanted": wanted, "own": frozenset(wanted)}
    entries = report(state(recorded, "1.7.24", "2.3.7", before, {sandbox: "ours"}, **values))
    assert [one.what for one in entries if one.kind == "lost_key"] == ([] if own else [f'plugins."{V2}".sandbox_image'])


@pytest.mark.parametrize("path", ["/etc/containerd/certs.d", "/etc/docker/certs.d"])
def test_new_directories_of_registries_matter_if_they_hold_files(recorded: Recorded, path: str) -> None:
    empty = report(state(recorded, "1.7.24", "2.3.7", None, LOCAL_PULL))
    assert [one[0] for one in found(empty, "registries")] == ["info"]
    filled = report(state(recorded, "1.7.24", "2.3.7", None, LOCAL_PULL, directories={path: ("_default",)}))
    assert [one[0] for one in found(filled, "registries")] == ["warn"]


@pytest.mark.parametrize(("names", "status"), [((), "info"), (("10-device-injector",), "warn")])
def test_nri_starts_the_plugins_that_lie_there(recorded: Recorded, names: tuple[str, ...], status: str) -> None:
    entries = report(state(recorded, "1.7.24", "2.3.7", directories={"/opt/nri/plugins": names}))
    assert [one[0] for one in found(entries, "nri")] == [status]


def test_the_sandbox_image_matters_if_the_node_lacks_it(recorded: Recorded) -> None:
    entries = report(state(recorded, "1.7.24", "2.3.7", sandbox_present=True))
    assert [one[0] for one in found(entries, "sandbox_image")] == ["info"]


def test_image_verifiers_that_are_asked_no_longer(recorded: Recorded) -> None:
    verifiers = ("/opt/containerd/image-verifier/bin/deny",)
    assert found(report(state(recorded, "2.1.9", "2.3.7", None, LOCAL_PULL)), "image_verifiers") == []
    entries = report(state(recorded, "2.1.9", "2.3.7", None, LOCAL_PULL, verifiers=verifiers))
    assert [one[0] for one in found(entries, "image_verifiers")] == ["fail"]
    entries = report(state(recorded, "1.7.24", "2.3.7", verifiers=verifiers))
    assert [one[0] for one in found(entries, "image_verifiers")] == ["warn"]


def test_a_secret_is_not_shown(recorded: Recorded) -> None:
    text = f"""version = 2
[plugins."{V2}".registry.configs."r.example".auth]
password = "hunter2"
[plugins."io.containerd.tracing.processor.v1.otlp"]
endpoint = "http://me:hunter2@collector"
"""
    before = {
        ("plugins", V2, "registry", "configs", "r.example", "auth", "password"): "hunter2",
        ("plugins", "io.containerd.tracing.processor.v1.otlp", "endpoint"): "http://me:hunter2@collector",
    }
    entries = report(state(recorded, "1.7.24", "2.3.7", before, others=(Source(ROOT, text),)))
    assert len(found(entries, "lost_key")) == 2
    assert ("fail", f'plugins."{V2}".registry.configs."r.example".auth.password', "a secret", None) in found(entries, "lost_key")
    assert "hunter2" not in str(entries)


def test_refused_files_are_reported_with_what_doesnt_depend_on_them(recorded: Recorded) -> None:
    refused = state(recorded, "2.3.7", "1.7.24", refused="config.toml: version 4 is too new", missing_programs=("/x/ctr",))
    entries = report(replace(refused, after=None))
    assert kinds(entries) == {("fail", "refused"), ("fail", "program")}
    assert found(entries, "refused") == [("fail", "the configuration", None, "config.toml: version 4 is too new")]
    today = report(replace(refused, before=None, refused="", refused_now="bad TOML"))
    assert ("fail", "the configuration today", "bad TOML", None) in found(today, "refused")


def test_a_broken_import_is_reported_once(recorded: Recorded) -> None:
    broken = BrokenImport(ROOT, "/etc/missing.toml", "isn't there")
    words = "would not start"
    entries = report(
        replace(
            state(recorded, "1.7.24", "2.3.7", broken_imports=(broken,), refused=words, refused_now=words),
            before=None,
            after=None,
        )
    )
    assert kinds(entries) == {("fail", "broken_import")}


def test_what_the_node_lacks(recorded: Recorded) -> None:
    lacking = state(
        recorded,
        "2.3.7",
        "2.3.7",
        network_problems=("the CNI plugin bridge isn't in /opt/cni/bin",),
        moved_snapshots="snapshotters.native.root_path: /a holds snapshots: move them",
        held={"aufs": ("k8s.io: 2 layers, 1 other snapshots",)},
        deprecations=(
            Deprecation("cri-api-v1alpha2", "CRI API v1alpha2 is deprecated and removed in containerd v2.0."),
            Deprecation("cgroup-v1", "The support for cgroup v1 is deprecated since containerd v2.2"),
            Deprecation("cri-registry-mirrors", "The `mirrors` property … will be removed in containerd v2.1."),
        ),
        cgroup_v1=True,
        missing_programs=("/x/ctr",),
        room=(Room(("/usr/bin",), 10, 4), Room(("/var/lib/slipway-node", "/var/lib/containerd"), 10, 10)),
        unread=("/etc/containerd/conf.d/a.toml",),
    )
    entries = report(lacking)
    assert kinds(entries) == {
        ("fail", "cni"),
        ("fail", "snapshots"),
        ("fail", "snapshotter_gone"),
        ("fail", "deprecation"),
        ("warn", "deprecation"),
        ("warn", "cgroup"),
        ("fail", "program"),
        ("fail", "room"),
    }
    assert [one.what for one in entries if one.kind == "deprecation"] == ["cri-api-v1alpha2", "cri-registry-mirrors"]
    assert [one.remedy for one in entries if one.kind == "room"] == ["free 6 bytes there"]
    assert [one.source for one in entries if one.kind == "unread_file"] == ["/etc/containerd/conf.d/a.toml"]


def test_snapshots_are_reported_once(recorded: Recorded) -> None:
    moved = "snapshotters.blockfile.root_path: /a holds snapshots: move them"
    gone = report(state(recorded, "2.3.7", "2.3.7", moved_snapshots=moved, held={"blockfile": ("default: 1 layers",)}))
    assert kinds(gone) == {("fail", "snapshotter_gone")}


def test_what_cant_be_read_is_unknown(recorded: Recorded) -> None:
    silent = state(recorded, "2.3.7", "2.3.7", held=None, deprecations=None, trouble={"held": "no answer"})
    assert found(report(silent), "unknown") == [
        ("unknown", "snapshots of snapshotters that the new version lacks", None, "no answer"),
        ("unknown", "deprecated features in use", None, "it can't be read"),
    ]


def test_the_page_explains_every_kind() -> None:
    code = Path(rules.__file__).read_text()
    used = {row.kind for row in MEANINGS} | set(re.findall(r'Entry\(\s*"([a-z_]+)"', code))
    page = (Path(__file__).parents[3] / "docs/upgrade.md").read_text()
    table = page.partition("| kind |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))) == used
