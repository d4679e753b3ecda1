# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the action on the controller. tests/integration/test_node_plan.py runs it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from unit.node_spec.test_stages import ROLES, templates

from ansible_collections.slipway.node.plugins.action.node_plan import ActionModule
from ansible_collections.slipway.node.plugins.plugin_utils.fact_uses import lacks_facts
from ansible_collections.slipway.node.plugins.plugin_utils.role_files import ARGUMENT_SPECS, DEFAULTS, VARIABLES, RoleFiles

PLANNED = {"changed": False, "parts": [], "stage": None, "reason": "", "ansible_facts": {"discovered_interpreter_python": "/x"}}
ALL = ["containerd", "images", "toolboxes"]


def acted(answer: dict[str, Any], args: dict[str, Any] | None = None, **variables: Any) -> tuple[dict[str, Any], list[Any]]:
    """The result of the action for these variables if the module answers this, and what the module was given."""
    task = SimpleNamespace(args=args or {}, async_val=0, environment=None, check_mode=False, action="slipway.node.node_plan")
    task.get_search_path = list
    loader = DataLoader()
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
    action = ActionModule(task, connection, SimpleNamespace(), loader, Templar(loader=loader, variables=variables), None)
    given: list[Any] = []

    def execute(*, module_args: Mapping[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        given.append((module_args, task_vars))
        return dict(answer)

    action._execute_module = execute
    action._remove_tmp_path = lambda *_: None
    return action.run(task_vars=variables), given


def test_an_inventory_without_variables_has_the_stages_of_the_defaults() -> None:
    result, [(arguments, variables)] = acted(PLANNED)
    assert result["parts"] == [] and result["ansible_facts"]
    assert [stage["stage"] for stage in arguments["stages"]] == ["requirements", "packages", "settings"]
    assert variables["ansible_python_interpreter"] == "auto_silent"


def test_the_interpreter_of_the_inventory_is_kept() -> None:
    _, [(_, variables)] = acted(PLANNED, ansible_python_interpreter="/opt/python")
    assert variables["ansible_python_interpreter"] == "/opt/python"


def test_the_interpreter_of_the_configuration_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants.config, "get_config_value", lambda name: "/opt/python" if name == "INTERPRETER_PYTHON" else "")
    _, [(_, variables)] = acted(PLANNED)
    assert "ansible_python_interpreter" not in variables


def test_parts_that_are_masked_because_they_contain_a_password_are_all_entered() -> None:
    masked = {
        **PLANNED,
        "changed": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER",
        "parts": ["********s", "toolboxes"],
        "stage": "********s",
    }
    result, _ = acted(masked)
    assert (result["parts"], result["changed"]) == (ALL, False)
    assert acted({**PLANNED, "parts": ["images", "toolboxes"]})[0]["parts"] == ["images", "toolboxes"]


def test_stages_that_are_given_are_passed_on() -> None:
    stages = [{"part": "images", "stage": "a", "module": "files", "arguments": {}}]
    _, [(arguments, _)] = acted(PLANNED, {"stages": stages})
    assert arguments == {"stages": stages}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"containerd_images": [{"name": "a b"}]}, "containerd_images[0]"),
        ({"containerd_install_method": "magic"}, "containerd_install_method"),
        ({"containerd_images_throttle": "many"}, "containerd_images_throttle"),
        ({"containerd_images": [{"name": "a", "archive": "/nosuch.tar"}]}, "/nosuch.tar"),
        (
            {"containerd_images": [{"name": "a", "archive": "/nosuch.tar"}], "containerd_images_integrity": "metadata"},
            "/nosuch.tar",
        ),
        ({"containerd_snapshotters": "overlayfs"}, "containerd_snapshotters"),
        ({"containerd_blockfile_scratch_size": None}, "containerd_blockfile_scratch_size"),
        ({"containerd_runc_releases": None, "containerd_install_method": "archive"}, "containerd_runc_releases"),
    ],
)
def test_refused_variables_enter_the_roles_which_report_them(variables: dict[str, Any], said: str) -> None:
    result, given = acted(PLANNED, **variables)
    assert (result["parts"], result["stage"], given) == (ALL, "inventory", [])
    assert said in result["reason"] and not result.get("failed")


FACT = "{{ ['containerd.io'] if ansible_facts['os_family'] | default('') == 'Debian' else [] }}"


@pytest.mark.parametrize(
    ("variables", "lacking"),
    [
        ({"containerd_packages": FACT}, True),
        ({"containerd_packages": "{{ names }}", "names": [FACT]}, True),
        ({"containerd_images": [{"name": "a:{{ ansible_architecture | default('x') }}"}]}, True),
        ({"containerd_packages": FACT, "ansible_facts": {"os_family": "Debian"}}, True),
        ({"containerd_packages": FACT, "ansible_facts": {"os_family": "Debian", "architecture": "x86_64"}}, False),
        ({"containerd_packages": "{{ names }}", "names": "{{ containerd_packages }}"}, False),
        ({"containerd_unit": "{{ ansible_host }}", "ansible_host": "a", "other": FACT}, False),
        ({"containerd_sandbox_image": "ansible_facts"}, False),
        ({"containerd_packages": "{{ lookup('ansible.builtin.template', 'packages.j2') }}"}, True),
        ({"containerd_packages": "{{ query( 'vars', 'packages_' ~ site) }}"}, True),
        ({"containerd_packages": "{{ vars['packages_' ~ site] }}"}, True),
        ({"containerd_config_file": "{{ playbook_dir }}/vars/config.toml", "playbook_dir": "/srv"}, False),
    ],
)
def test_variables_that_change_with_the_facts_are_not_planned_without_them(variables: dict[str, Any], lacking: bool) -> None:
    assert lacks_facts(VARIABLES, variables) is lacking
    if lacking:
        result, given = acted(PLANNED, **variables)
        assert (result["parts"], given) == (ALL, []) and "facts" in result["reason"]


def test_the_variables_of_other_hosts_are_not_read() -> None:
    class HostVars(dict[str, Any]):
        def values(self) -> Any:
            raise AssertionError("every variable of every host would be templated")

    variables: dict[str, Any] = {
        "containerd_sandbox_image": "{{ hostvars['mirror'].image }}",
        "hostvars": HostVars(mirror={"image": "a/pause:1"}),
    }
    assert not lacks_facts(VARIABLES, variables)
    assert acted(PLANNED, **variables)[1]


@pytest.mark.parametrize(
    "variables",
    [
        {"containerd_version": "{{ versions[node_spec_architecture] | default('2.3.7') }}", "versions": {}},
        {"node_spec_architecture": "amd64"},
        {"__kata_prefix": "/opt/other"},
    ],
)
def test_variables_that_the_roles_derive_are_not_planned(variables: dict[str, Any]) -> None:
    result, given = acted(PLANNED, **variables)
    assert (result["parts"], result["stage"], given) == (ALL, "inventory", []) and "derive" in result["reason"]


def test_a_node_on_which_no_module_runs_is_entered_without_an_error() -> None:
    failed = {
        "failed": True,
        "msg": "no Python",
        "rc": 127,
        "ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3"},
    }
    result, _ = acted(failed)
    assert result == {"changed": False, "parts": ALL, "stage": "requirements", "reason": "no Python"}


def test_the_defaults_are_those_of_the_roles() -> None:
    assert set(DEFAULTS) <= VARIABLES
    for role, options in ARGUMENT_SPECS.items():
        assert set(yaml.safe_load((ROLES / role / "defaults/main.yml").read_text())) <= set(options)
    # They are used as they are.
    assert "{{" not in str(DEFAULTS)


def test_every_role_of_the_playbook_has_its_variables_read() -> None:
    tasks = (ROLES.parent / "playbooks/tasks/provision.yml").read_text()
    roles = {line.rpartition(".")[2] for line in tasks.splitlines() if "name: slipway.node." in line}
    assert roles == set(ARGUMENT_SPECS)


@pytest.mark.parametrize("name", ["unit", "toolbox_defaults", "toolbox_command"])
def test_templates_are_rendered_as_ansible_does(name: str) -> None:
    toolboxes = {"default": {"path": "/var/lib/toolbox/it's", "flatcar": {"image": "a/b", "tag": "1"}}}
    variables = {
        **DEFAULTS,
        "containerd_config_file": "/srv/config.toml",
        "node_spec": {"toolboxes": toolboxes},
        "__toolbox_mark": templates(ROLES / "toolbox/vars/main.yml")["__toolbox_mark"],
    }
    files = {"unit": "containerd/templates/containerd.service.j2"}
    files |= {"toolbox_defaults": "toolbox/templates/default.j2", "toolbox_command": "toolbox/templates/toolbox.j2"}
    templar = Templar(loader=DataLoader(), variables=variables)
    text = (ROLES / files[name]).read_text()
    try:
        from ansible.template import trust_as_template
    except ImportError:
        theirs = templar.template(text, preserve_trailing_newlines=True, escape_backslashes=False)
    else:
        theirs = templar.template(trust_as_template(text), escape_backslashes=False)
    assert RoleFiles(variables)[name].rstrip("\n") == str(theirs).rstrip("\n")
