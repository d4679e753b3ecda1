# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import STATE_DIRECTORY
from ansible_collections.slipway.node.plugins.module_utils.deprovision.host import read
from ansible_collections.slipway.node.plugins.module_utils.deprovision.places import Places
from ansible_collections.slipway.node.plugins.module_utils.deprovision.traces import (
    REMOVABLE,
    ThinPool,
    ToolboxTrace,
    Traces,
    left,
    own_scratch_files,
    parse_pool_unit,
    problems,
)
from ansible_collections.slipway.node.plugins.module_utils.node_spec.kata import INSTALL_ROOT
from ansible_collections.slipway.node.plugins.module_utils.node_spec.stages import KATA_PREFIX
from ansible_collections.slipway.node.plugins.module_utils.upgrade.restore_script import UNIT_NAME

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles" / "deprovision"
POOL = ThinPool("containerd", "pool", snapshots=3, present=True, group_present=True)
BOX = ToolboxTrace("/var/lib/toolbox/debug", "default", "overlayfs", 4096)
FULL = Traces(
    settings=("/etc/containerd/config.toml.slipway.json",),
    package="containerd",
    releases={"kata": "3.26.0", "runc": None},
    images={"k8s.io": 12, "default": 1},
    toolboxes=(BOX,),
    thin_pool=POOL,
    scratch_files=("/var/lib/scratch.ext4",),
)


def test_a_node_without_traces_has_nothing_to_take_back() -> None:
    assert not Traces().taken_back(REMOVABLE)
    assert not Traces(places=Places(registries=("/etc/containerd/certs.d",)), package="containerd").taken_back([])


@pytest.mark.parametrize("part", ["settings", "registries", "kata_handlers", "files", "caches", "restore"])
def test_what_the_collection_set_is_taken_back_without_being_named(part: str) -> None:
    changes: dict[str, Any] = {part: ("/etc/one",)}
    assert replace(Traces(), **changes).taken_back([])


@pytest.mark.parametrize(
    ("name", "traces"),
    [
        ("toolboxes", Traces(toolboxes=(BOX,))),
        ("kata", Traces(releases={"kata": "3.26.0"})),
        ("thin_pool", Traces(thin_pool=POOL)),
        ("scratch_files", Traces(scratch_files=("/var/lib/scratch",))),
        ("containerd", Traces(releases={"containerd": "2.3.7"})),
        ("containerd", Traces(package="containerd.io")),
    ],
)
def test_what_holds_data_or_programs_goes_only_if_it_is_named(name: str, traces: Traces) -> None:
    assert not traces.taken_back([one for one in REMOVABLE if one != name])
    assert traces.taken_back([name])


def test_a_run_says_all_that_it_leaves() -> None:
    said = list(left(FULL, []))
    assert [one.rpartition("[")[2].rstrip("]") for one in said] == [
        "images",
        "toolboxes",
        "kata",
        "thin_pool",
        "scratch_files",
        "containerd",
        "containerd",
    ]
    assert said[0] == "images: 1 in default, 12 in k8s.io [images]"
    assert said[1].startswith("the toolbox /var/lib/toolbox/debug with 4")
    assert list(left(FULL, REMOVABLE)) == []


@pytest.mark.parametrize(
    ("traces", "remove", "force", "words"),
    [
        (Traces(upgrading="an upgrade was interrupted"), [], [], "an upgrade was interrupted"),
        (replace(FULL, installed=False), [], [], "containerd isn't installed"),
        (Traces(containers=("k8s.io/a", "k8s.io/b")), ["containerd"], [], "containers run, k8s.io/a, k8s.io/b"),
        (Traces(kata_processes=(7,)), ["kata"], [], "Kata runs (processes 7)"),
        (Traces(thin_pool=POOL), ["thin_pool"], [], "containerd/pool holds snapshots (3)"),
        (Traces(thin_pool=replace(POOL, snapshots=None)), ["thin_pool", "images"], [], "can't be determined"),
        (Traces(unknown=("containerd doesn't answer",)), ["toolboxes"], [], "can't be read: containerd doesn't answer"),
    ],
)
def test_a_removal_that_would_cost_something_is_refused(traces: Traces, remove: list[str], force: list[str], words: str) -> None:
    (said,) = problems(traces, remove, force)
    assert words in said


@pytest.mark.parametrize(
    ("traces", "remove", "force"),
    [
        (FULL, [], []),
        (Traces(containers=("k8s.io/a",)), ["toolboxes"], []),
        (Traces(containers=("k8s.io/a",)), ["containerd"], ["containerd"]),
        (Traces(kata_processes=(7,)), [], []),
        (Traces(thin_pool=POOL), ["thin_pool", "images"], []),
        (Traces(thin_pool=replace(POOL, snapshots=0)), ["thin_pool"], []),
        (Traces(unknown=("containerd doesn't answer",)), ["kata"], []),
    ],
)
def test_a_removal_that_costs_nothing_begins(traces: Traces, remove: list[str], force: list[str]) -> None:
    assert list(problems(traces, remove, force)) == []


def test_the_notes_are_read_as_they_were_written() -> None:
    noted = Places(registries=("/etc/b", "/etc/a"), directories=("/etc/b",))
    assert Places.from_text(json.dumps(noted.to_dict())) == noted
    assert Places.from_text(None) == Places()
    assert noted.plus(Places(registries=("/etc/a", "/etc/c"))).registries == ("/etc/a", "/etc/b", "/etc/c")
    for text in ("[]", "{", '{"kata": "/etc"}', '{"kata": ["etc"]}'):
        with pytest.raises(ValueError):  # noqa: PT011
            Places.from_text(text)


def test_a_scratch_file_that_the_earlier_configuration_names_is_not_removed() -> None:
    files = ("/var/lib/ours", "/var/lib/theirs")
    assert own_scratch_files(files, "/var/lib/theirs", []) == ("/var/lib/ours",)
    assert own_scratch_files(files, "/var/lib/ours", ["/etc/containerd/config.toml.slipway.json"]) == files
    assert own_scratch_files(files, "", []) == files


@pytest.mark.parametrize("loop_file", ["", "/var/lib/pool.img"])
def test_the_unit_of_the_pool_names_it(loop_file: str) -> None:
    variables = yaml.safe_load((ROOT / "roles/node_spec/defaults/main.yml").read_text())
    template = jinja2.Environment(autoescape=False, trim_blocks=True).from_string(
        (ROOT / "roles/devmapper/templates/devmapper.service.j2").read_text()
    )
    text = template.render(**{**variables, "devmapper_volume_group": "vg-1", "devmapper_loop_file": loop_file})
    assert parse_pool_unit(text) == ("vg-1", "pool", loop_file)
    assert parse_pool_unit("[Service]\nExecStart=true\n") is None


def test_the_role_has_the_same_constants() -> None:
    constants = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    assert constants["__deprovision_state_directory"] == STATE_DIRECTORY
    assert constants["__deprovision_releases"] == KATA_PREFIX
    assert constants["__deprovision_kata_root"] == INSTALL_ROOT
    assert f"/etc/systemd/system/{constants['__deprovision_pool_unit']}" == read.POOL_UNIT
    assert constants["__deprovision_restore_unit"] == UNIT_NAME
    devmapper = yaml.safe_load((ROOT / "roles/devmapper/vars/main.yml").read_text())
    assert constants["__deprovision_pool_unit"] == devmapper["__devmapper_unit"]
    assert devmapper["__devmapper_profile"] == "slipway-{{ node_spec.thin_pool.name }}"
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert tuple(options["deprovision_remove"]["choices"]) == REMOVABLE
