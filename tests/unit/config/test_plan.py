# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.config import tables
from ansible_collections.slipway.node.plugins.module_utils.config.plan import (
    HEADER,
    ConfigPlan,
    CurrentConfig,
    disabled_in,
    plan_config,
)
from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd import names
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.tree import flatten, lookup

ROOT = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/60-slipway.toml"
CRI = ("plugins", names.CRI_V2)
IMAGES = names.CRI_IMAGES
VERSIONS = ("1.6.20", "1.7.24", "1.7.26", "2.0.0", "2.1.9", "2.2.9", "2.3.7", "2.4.2")


def found(version: str, root: str | None, drop_in: str | None = None, record: Record | None = None) -> CurrentConfig:
    return CurrentConfig(Version.parse(version), "amd64", ROOT, DROP_IN, root, drop_in, record or Record())


def applied(before: CurrentConfig, plan: ConfigPlan) -> CurrentConfig:
    """The node after the plan; the record goes through its text, as it does on a node."""
    texts = {change.path: change.after for change in plan.files}
    record = Record.from_text(plan.record.to_text())
    return replace(before, root_text=texts[ROOT], drop_in_text=texts[DROP_IN], record=record)


def configured(before: CurrentConfig, wanted: Settings | None, *, enable_cri: bool = False) -> CurrentConfig:
    """The node after a run; None stands for state absent."""
    present = wanted is not None
    return applied(before, plan_config(before, wanted or Settings(), present=present, enable_cri=enable_cri))


def content(text: str | None) -> dict[str, Any] | None:
    return None if text is None else tomllib.loads(text)


def comments(text: str | None) -> list[str]:
    return [line.strip() for line in (text or "").splitlines() if line.strip().startswith("#")]


def parameters(**options: Any) -> Settings:
    return Settings.from_params(options)


# Generated nodes: few names, so that what an admin wrote and what is asked for collide often.

SCALARS = st.one_of(st.booleans(), st.integers(0, 3), st.sampled_from(["", "x", 'quote " \\ \n\x7f']), st.just([1, 2]))
TABLES = st.dictionaries(
    st.sampled_from(["a", "b", "c d"]),
    st.recursive(SCALARS, lambda inner: st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2), max_leaves=3),
    max_size=2,
)


@st.composite
def wishes(draw: st.DrawFn, version: str) -> Settings:
    known = Version.parse(version)
    handlers = draw(st.lists(st.sampled_from(["runc", "kata", "crun"]), unique=True, max_size=2))
    snapshotter = st.sampled_from([None, "native", "devmapper"])
    options: dict[str, Any] = {
        "image_pull_sync_fs": draw(st.sampled_from([None, False] + [True] * known.at_least("1.7.14", "2.0.0"))),
        "snapshotter": draw(snapshotter),
        "snapshotters": draw(
            st.dictionaries(st.sampled_from(["native", "overlayfs"]), st.sampled_from([{}, {"root_path": "/srv/x"}]), max_size=1)
        ),
        "runtimes": [
            {"name": name, "snapshotter": draw(snapshotter) if known.at_least("1.7.0") else None, "options": draw(TABLES)}
            for name in handlers
        ],
        "systemd_cgroup": draw(st.sampled_from([None, True, False])),
        "sandbox_image": draw(st.sampled_from([None, "registry.example/pause:1", "registry.example/pause:2"])),
        "root": draw(st.sampled_from([None, "/srv/containerd"])),
        "extra_config": {table: draw(TABLES) for table in draw(st.lists(st.sampled_from(["debug", "timeouts"]), max_size=1))}
        | {
            "plugins": {
                name: draw(TABLES) for name in draw(st.lists(st.sampled_from(["io.containerd.gc.v1.scheduler"]), max_size=1))
            }
        },
    }
    return Settings.from_params(options)


@st.composite
def roots(draw: st.DrawFn, version: str) -> str | None:
    """A root file as an admin may have left it: comments, own keys, and keys that are also asked for."""
    known = Version.parse(version)
    number = 2 if known.major == 1 else draw(st.sampled_from([2, 3]))
    written = draw(st.sampled_from([number, number, None]))
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from([None, ""]))
    tree = tables.tables(draw(wishes(version)), known, number, "amd64")
    if written is not None:
        tree["version"] = written
    if draw(st.booleans()):
        tree["disabled_plugins"] = draw(st.sampled_from([["cri"], [names.CRI_V2], ["io.containerd.x.v1.y", "cri"]]))
    if draw(st.booleans()):
        tree["imports"] = draw(st.sampled_from([["/etc/containerd/conf.d/*.toml"], ["other.toml"], []]))
    lines = toml.render(tree).splitlines()
    for number in range(draw(st.integers(0, 2))):
        lines.insert(draw(st.integers(0, len(lines))), f"# the admin's comment {number}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Case:
    start: CurrentConfig
    first: Settings
    second: Settings
    enable_cri: bool


@st.composite
def cases(draw: st.DrawFn) -> Case:
    version = draw(st.sampled_from(VERSIONS))
    return Case(found(version, draw(roots(version))), draw(wishes(version)), draw(wishes(version)), draw(st.booleans()))


generated = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))


def first_run(case: Case) -> CurrentConfig:
    try:
        return configured(case.start, case.first, enable_cri=case.enable_cri)
    except ValueError as error:  # a key of the admin's stands where a table is asked for
        assert str(error).startswith((ROOT, "extra_config"))  # noqa: PT017
        reject()


@given(cases())
@generated
def test_a_plan_applied_twice_is_empty(case: Case) -> None:
    once = first_run(case)
    again = plan_config(once, case.first, enable_cri=case.enable_cri)
    assert again.changes == ()
    assert again.record == once.record


@given(cases())
@generated
def test_absent_restores_what_was_there(case: Case) -> None:
    gone = configured(first_run(case), None)
    assert gone.root_text == case.start.root_text
    assert gone.drop_in_text is None
    assert gone.record == Record()


@given(cases(), st.sampled_from(["# a comment\n", "\n"]))
@generated
def test_absent_restores_the_values_of_a_file_that_was_changed_since(case: Case, text: str) -> None:
    node = first_run(case)
    gone = configured(replace(node, root_text=text + (node.root_text or "")), None)
    assert (content(gone.root_text) or {}) == (content(case.start.root_text) or {})
    assert set(comments(case.start.root_text)) <= set(comments(gone.root_text))
    assert gone.drop_in_text is None
    # A file of ours in which others have written is kept.
    assert gone.record in (Record(), Record(created=True))


@given(cases())
@generated
def test_other_settings_are_as_if_they_had_been_the_first(case: Case) -> None:
    node = first_run(case)
    fresh = first_run(replace(case, first=case.second, enable_cri=False))
    changed = configured(node, case.second)
    assert changed.root_text == fresh.root_text
    assert changed.drop_in_text == fresh.drop_in_text
    assert changed.record == fresh.record
    gone = configured(changed, None)
    assert gone.root_text == case.start.root_text
    assert gone.record == Record()


@given(cases())
@generated
def test_every_setting_is_in_the_files_and_every_comment_stays(case: Case) -> None:
    node = first_run(case)
    number = plan_config(case.start, case.first).schema
    tree = content(node.root_text if node.version.major == 1 else node.drop_in_text) or {}
    for path, value in flatten(tables.tables(case.first, node.version, number, "amd64")).items():
        assert lookup(tree, path) is not None
        if value != {}:
            assert lookup(tree, path) == value
    assert set(comments(case.start.root_text)) <= set(comments(node.root_text))


def interrupted(before: CurrentConfig, plan: ConfigPlan, written: int) -> CurrentConfig:
    """The node where a run was killed after so many of its files had been written."""
    if not plan.changes and plan.record == before.record:
        return before
    texts = {ROOT: before.root_text, DROP_IN: before.drop_in_text}
    pending = {change.path: change.before for change in plan.changes} | dict(before.record.pending)
    texts |= {change.path: change.after for change in plan.changes[:written]}
    record = before.record.begun(plan.record, pending)
    return replace(before, root_text=texts[ROOT], drop_in_text=texts[DROP_IN], record=Record.from_text(record.to_text()))


@given(cases(), st.integers(0, 2), st.integers(0, 2), st.sampled_from(["first", "second", "absent"]))
@generated
def test_a_run_after_killed_ones_ends_where_it_would_have_ended(case: Case, written: int, written_later: int, last: str) -> None:
    node = first_run(case)
    first_run(replace(case, first=case.second))
    node = interrupted(node, plan_config(node, case.second), written)
    node = interrupted(node, plan_config(node, case.first), written_later)
    wanted = {"first": case.first, "second": case.second, "absent": None}[last]
    ended = configured(node, wanted)
    assert not ended.record.pending
    assert ended.root_text == configured(case.start, wanted).root_text
    assert ended.drop_in_text == configured(case.start, wanted).drop_in_text
    assert configured(ended, None).root_text == case.start.root_text


ADMIN = """\
# The node's containerd, see the wiki
version = 2   # schema

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    # mirrored
    sandbox_image = 'registry.example/pause:1'
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
"""
SANDBOX = (*CRI, "sandbox_image")


def test_1x_is_edited_in_place_and_remembers_what_was_there() -> None:
    node = configured(found("1.7.24", ADMIN), parameters(sandbox_image="registry.example/pause:2"))
    assert node.root_text == ADMIN.replace("'registry.example/pause:1'", '"registry.example/pause:2"')
    assert node.drop_in_text is None
    assert node.record.keys[SANDBOX].before == "registry.example/pause:1"
    assert configured(node, None).root_text == ADMIN
    theirs = replace(node, root_text=f"# later\n{node.root_text}")
    returned = ADMIN.replace("'registry.example/pause:1'", '"registry.example/pause:1"')
    assert configured(theirs, None).root_text == f"# later\n{returned}"


def test_2x_gets_a_drop_in_in_the_schema_of_the_root_file() -> None:
    plan = plan_config(found("2.1.9", ADMIN), parameters(sandbox_image="registry.example/pause:2"))
    assert [change.path for change in plan.changes] == [DROP_IN, ROOT]
    assert plan.schema == 2
    node = applied(found("2.1.9", ADMIN), plan)
    assert (node.drop_in_text or "").startswith(f"# {HEADER}\n")
    assert content(node.drop_in_text) == {"version": 2, "plugins": {CRI[1]: {"sandbox_image": "registry.example/pause:2"}}}
    assert content(node.root_text) == {**(content(ADMIN) or {}), "imports": [DROP_IN]}
    gone = plan_config(node, Settings(), present=False)
    # A daemon that starts in between must find what the root file imports.
    assert [change.path for change in gone.changes] == [ROOT, DROP_IN]
    assert content(applied(node, gone).root_text) == content(ADMIN)


@pytest.mark.parametrize(
    ("version", "root", "schema_number"),
    [
        ("1.6.20", None, 2),
        ("1.7.24", "", 2),
        ("1.7.24", "version = 1\nroot = '/srv'\n", 2),
        ("1.7.24", "version = 2\n", 2),
        ("2.1.9", None, 3),
        ("2.1.9", "root = '/srv'\n", 3),
        ("2.1.9", "version = 2\n", 2),
        ("2.2.3", "version = 3\n", 3),
        ("2.3.4", None, 4),
        ("2.3.4", "version = 2\n", 2),
        ("2.3.4", "version = 3\n", 3),
        ("2.3.4", "version = 4\n", 4),
    ],
)
def test_every_file_says_its_version_and_all_say_the_same(version: str, root: str | None, schema_number: int) -> None:
    plan = plan_config(found(version, root), parameters(sandbox_image="x"))
    assert plan.schema == schema_number
    node = applied(found(version, root), plan)
    texts = [text for text in (node.root_text, node.drop_in_text) if text is not None]
    assert len(texts) == (1 if version < "2" else 2)
    assert {tomllib.loads(text)["version"] for text in texts} == {schema_number}
    assert configured(node, None).root_text == root


@pytest.mark.parametrize(
    ("version", "root", "message"),
    [
        ("1.7.24", "a = \n", rf"{ROOT} is not valid TOML: .*line 1.* Repair it by hand, or move it away"),
        ("1.7.24", "version = 3\n", rf"{ROOT} is written in schema 3, and containerd 1\.7\.24 reads up to 2"),
        ("2.1.9", "version = 4\n", r"schema 4, and containerd 2\.1\.9 reads up to 3"),
        ("2.3.4", "version = 5\n", r"schema 5, and containerd 2\.3\.4 reads up to 4"),
        ("2.1.9", 'version = "2"\n', "schema '2'"),
        ("2.1.9", "version = 1\n", r"schema 1: replace it with the output of 'containerd config migrate' first"),
        ("1.7.24", "[plugins.cri]\na = 1\n", r"schema 1 \(plugins\.cri\): rewrite it in schema 2"),
        ("1.7.24", 'disabled_plugins = ["aufs"]\n', "names 'aufs' in disabled_plugins without a version key"),
        ("1.7.24", 'version = 2\ndisabled_plugins = "cri"\n', "disabled_plugins has to be a list of names"),
        ("1.7.24", "version = 2\nimports = 5\n", "imports has to be a list of paths"),
        ("2.1.9", 'version = 2\nimports = "/a.toml"\n', "imports has to be a list of paths"),
        ("1.7.24", "version = 2\nplugins = 5\n", rf"{ROOT}: plugins is not a table there"),
        ("1.7.24", "plugins = 5\n", "plugins is not a table there"),
        ("1.7.24", f'version = 2\n[plugins."{CRI[1]}".sandbox_image]\na = 1\n', "sandbox_image is a table there"),
    ],
)
def test_refuses_a_root_file_that_it_cannot_work_with(version: str, root: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_config(found(version, root), parameters(sandbox_image="x"), enable_cri=True)


@pytest.mark.parametrize(
    ("version", "root", "written"),
    [
        ("1.7.24", "oom_score = 1\n", 2),
        ("2.2.9", f'[plugins."{IMAGES}"]\nsnapshotter = "native"\n', 3),
        # 2.3 migrates a file without a version from schema 1 on, so it may say something in any schema.
        ("2.3.7", "oom_score = 1\n", 4),
        ("2.3.7", f'[plugins."{CRI[1]}"]\nsandbox_image = "x"\n', 2),
        ("2.3.7", f'[plugins."{IMAGES}"]\nsnapshotter = "native"\n', 2),
        ("2.4.2", '[metrics]\naddress = "x"\n', 2),
        ("2.4.2", '[debug]\nlevel = "info"\n', 4),
    ],
)
def test_a_file_without_a_version_keeps_what_it_says(version: str, root: str, written: int) -> None:
    node = configured(found(version, root), parameters(sandbox_image="x"))
    assert (content(node.root_text) or {})["version"] == written
    assert (content(node.drop_in_text) or {"version": written})["version"] == written
    assert configured(node, parameters(sandbox_image="x")) == node
    assert content(configured(node, None).root_text) == tomllib.loads(root)


def test_required_plugins_get_their_full_names_with_the_version() -> None:
    node = configured(found("2.3.7", 'required_plugins = ["cri"]\n'), parameters(sandbox_image="x"))
    assert (content(node.root_text) or {})["required_plugins"] == [CRI[1]]


@pytest.mark.parametrize("version", ["2.1.9", "2.3.7"])
@pytest.mark.parametrize("handlers", [True, False])
def test_a_root_file_of_schema_2_has_handlers_beside_its_snapshotter(version: str, handlers: bool) -> None:
    table = f'[plugins."{CRI[1]}".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v1"\n' if handlers else ""
    root = f'version = 2\n[plugins."{CRI[1]}".containerd]\nsnapshotter = "native"\n{table}'
    node = configured(found(version, root), parameters(max_concurrent_downloads=5))
    runc = {"runc": {"runtime_type": "io.containerd.runc.v1"}} if handlers else {}
    assert lookup(content(node.root_text) or {}, (*CRI, "containerd", "runtimes")) == runc
    assert configured(node, parameters(max_concurrent_downloads=5)) == node
    assert content(configured(node, None).root_text) == tomllib.loads(root)


@pytest.mark.parametrize("newer", ["2.1.9", "2.3.7"])
def test_an_upgrade_from_1_x_leaves_the_admins_snapshotter_in_effect(newer: str) -> None:
    root = f'version = 2\n[plugins."{CRI[1]}".containerd]\nsnapshotter = "native"\n'
    wanted = parameters(systemd_cgroup=True)
    old = configured(found("1.7.24", root), wanted)
    upgraded = configured(replace(old, version=Version.parse(newer)), wanted)
    table = lookup(content(upgraded.root_text) or {}, (*CRI, "containerd"))
    assert table == {"snapshotter": "native", "runtimes": {}}
    assert configured(upgraded, wanted) == upgraded


@pytest.mark.parametrize("version", VERSIONS)
def test_no_settings_leave_a_node_as_it_is(version: str) -> None:
    for root in (None, "", 'disabled_plugins = ["cri"]\n', ADMIN):
        plan = plan_config(found(version, root), Settings())
        assert plan.changes == ()
        assert plan.record == Record()


@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.1.9"])
@pytest.mark.parametrize("root", ['disabled_plugins = ["cri"]\n', f'version = 2\ndisabled_plugins = ["{CRI[1]}"]\n'])
def test_cri_is_enabled_and_stays_enabled_and_is_given_back(version: str, root: str) -> None:
    wanted = parameters(sandbox_image="x")
    node = configured(found(version, root), wanted, enable_cri=True)
    assert (content(node.root_text) or {})["disabled_plugins"] == []
    assert configured(node, wanted, enable_cri=True) == node
    off = configured(node, wanted)
    assert (content(off.root_text) or {})["disabled_plugins"] in (["cri"], [CRI[1]])
    assert content(configured(node, None).root_text) == tomllib.loads(root)


def test_other_disabled_plugins_stay_disabled() -> None:
    root = f'version = 2\ndisabled_plugins = ["io.containerd.snapshotter.v1.aufs", "{CRI[1]}"]\n'
    node = configured(found("1.7.24", root), Settings(), enable_cri=True)
    assert (content(node.root_text) or {})["disabled_plugins"] == ["io.containerd.snapshotter.v1.aufs"]


@pytest.mark.parametrize("table", [{"overlayfs": {}}, {"overlayfs": None}])
def test_an_empty_table_takes_nothing_from_the_admins(table: dict[str, Any]) -> None:
    root = 'version = 2\n[plugins."io.containerd.snapshotter.v1.overlayfs"]\nroot_path = "/srv/o"\n'
    start = found("1.7.24", root)
    assert configured(start, parameters(snapshotters=table)) == start


def test_an_imports_glob_that_covers_the_drop_in_is_enough() -> None:
    root = "version = 3\nimports = ['/etc/containerd/conf.d/*.toml']\n"
    node = configured(found("2.2.3", root), parameters(root="/srv"))
    assert node.root_text == root
    assert node.drop_in_text is not None
    assert configured(node, None) == found("2.2.3", root)


def test_an_admins_later_change_to_a_key_of_ours_survives() -> None:
    wanted = parameters(sandbox_image="ours", max_concurrent_downloads=5)
    node = configured(found("1.7.24", ADMIN), wanted)
    theirs = replace(node, root_text=(node.root_text or "").replace('"ours"', '"theirs"'))
    gone = configured(theirs, None)
    assert lookup(content(gone.root_text) or {}, SANDBOX) == "theirs"
    assert lookup(content(gone.root_text) or {}, (*CRI, "max_concurrent_downloads")) is None
    assert gone.record == Record()
    # Asked for again, the setting wins.
    assert lookup(content(configured(theirs, wanted).root_text) or {}, SANDBOX) == "ours"


def test_what_an_admin_adds_to_a_file_of_ours_survives() -> None:
    node = configured(found("1.7.24", None), parameters(runtimes=[{"name": "kata"}]))
    added = replace(node, root_text=f"{node.root_text}\n# about debugging\n[debug]\nlevel = 'info'\n")
    gone = configured(added, None)
    assert lookup(content(gone.root_text) or {}, ("debug", "level")) == "info"
    assert "# about debugging" in comments(gone.root_text)
    assert gone.record.keys == {}
    commented = replace(node, root_text=f"{node.root_text}# mine\n")
    assert "# mine" in comments(configured(commented, None).root_text)


def test_a_handler_dropped_from_the_inventory_is_gone_and_runc_stays() -> None:
    node = configured(found("1.7.24", ADMIN), parameters(runtimes=[{"name": "kata"}], systemd_cgroup=True))
    handlers = (*CRI, "containerd", "runtimes")
    assert set(lookup(content(node.root_text) or {}, handlers)) == {"kata", "runc"}
    fewer = configured(node, parameters(systemd_cgroup=True))
    assert lookup(content(fewer.root_text) or {}, handlers) == {
        "runc": {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}
    }


def test_an_admins_runc_is_not_restated() -> None:
    root = f'version = 2\n[plugins."{CRI[1]}".containerd.runtimes.runc]\nruntime_type = "io.containerd.own.v2"\n'
    for version in ("1.7.24", "2.1.9"):
        node = configured(found(version, root), parameters(runtimes=[{"name": "kata"}]))
        path = (*CRI, "containerd", "runtimes", "runc", "runtime_type")
        assert lookup(content(node.root_text) or {}, path) == "io.containerd.own.v2"
        assert lookup(content(node.drop_in_text) or {}, path) is None


@pytest.mark.parametrize("root", [None, ADMIN, 'disabled_plugins = ["cri"]\n'])
def test_settings_move_into_the_drop_in_when_containerd_is_upgraded(root: str | None) -> None:
    wanted = parameters(image_pull_sync_fs=True, runtimes=[{"name": "kata"}])
    old = configured(found("1.7.24", root), wanted)
    new = configured(replace(old, version=Version.parse("2.1.9")), wanted)
    assert not lookup(content(new.root_text) or {}, (*CRI, "containerd"))
    assert lookup(content(new.drop_in_text) or {}, (*CRI, "containerd", "runtimes", "kata"))
    assert lookup(content(new.drop_in_text) or {}, ("version",)) == lookup(content(new.root_text) or {}, ("version",)) == 2
    assert configured(new, wanted) == new
    gone = configured(new, None)
    assert (content(gone.root_text), gone.drop_in_text, gone.record) == (content(root), None, Record())


def test_files_with_credentials_are_for_their_owner_alone() -> None:
    registry = {"configs": {"r": {"auth": {"password": "secret"}}}}
    extra = {"plugins": {names.CRI_IMAGES: {"registry": registry}}}
    plan = plan_config(found("2.1.9", None), parameters(extra_config=extra))
    modes: Mapping[str, FileChange] = {change.path: change for change in plan.files}
    assert (modes[DROP_IN].mode, modes[ROOT].mode) == (0o600, 0o644)
    assert "secret" not in modes[DROP_IN].diff()["after"]


def test_the_file_that_disables_cri_is_found() -> None:
    trees: dict[str, dict[str, Any]] = {"/a": {}, "/b": {"disabled_plugins": ["x", "cri"]}, "/c": {"disabled_plugins": ["cri"]}}
    assert disabled_in(trees) == "/b"
    assert disabled_in({"/a": {}}) is None


@pytest.mark.parametrize("written", [0, 1])
@pytest.mark.parametrize("written_later", [0, 1])
@pytest.mark.parametrize("root", [None, ADMIN])
def test_a_value_left_by_a_killed_change_is_known_as_ours(root: str | None, written: int, written_later: int) -> None:
    node = configured(found("1.7.24", root), parameters(sandbox_image="first"))
    node = interrupted(node, plan_config(node, parameters(sandbox_image="second")), written)
    node = interrupted(node, plan_config(node, parameters(sandbox_image="third")), written_later)
    assert lookup(content(node.root_text) or {}, SANDBOX) == ("third" if written_later else "second" if written else "first")
    gone = configured(node, None)
    assert content(gone.root_text) == content(root)
    assert gone.record == Record()


def test_a_date_in_the_place_of_a_setting_is_refused() -> None:
    root = f'version = 2\n[plugins."{names.CRI_V2}"]\nsandbox_image = 2024-01-01\n'
    with pytest.raises(ValueError, match="sandbox_image is 2024-01-01 there"):
        plan_config(found("1.7.24", root), parameters(sandbox_image="registry.example/pause:1"))


@pytest.mark.parametrize("version", ["1.7.24", "2.1.9", "2.4.2"])
@pytest.mark.parametrize("wanted", [None, Settings()], ids=["absent", "nothing to set"])
def test_a_foreign_file_at_the_drop_in_is_left_alone_where_nothing_is_written(version: str, wanted: Settings | None) -> None:
    node = found(version, ADMIN, "version = 2\n# theirs\n")
    assert configured(node, wanted) == node


def test_a_foreign_file_at_the_drop_in_is_left_alone_on_1x() -> None:
    node = found("1.7.24", ADMIN, "# theirs\n")
    assert configured(node, parameters(max_concurrent_downloads=4)).drop_in_text == "# theirs\n"


@pytest.mark.parametrize("text", ["", "# theirs\n"])
def test_a_foreign_file_at_the_drop_in_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=f"drop_in_file: {DROP_IN} was not written by slipway.node"):
        plan_config(found("2.1.9", ADMIN, text), parameters(max_concurrent_downloads=4))
