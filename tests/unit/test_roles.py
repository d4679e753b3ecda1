# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.node_spec.spec import OPTIONAL
from ansible_collections.slipway.node.plugins.module_utils.release import plan as release_plan

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
FRAGMENT = re.compile(r"slipway\.node\.(\w+)")
SPEC = "node_spec"
# Given to modules as they are.
PLACES = {"containerd_config_file", "containerd_unit", "containerd_address", "containerd_binary"}
# What roles give to each other and to the operator's own tasks.
PUBLIC = {SPEC: {"node_spec", "node_spec_architecture", "node_spec_daemon_pending"}, "verify": {"verify_node"}}
# What a role gives to another one that it imports. Extra variables can't take its place, as with variables of the interface.
PASSED = {"upgrade": {"__verify_only", "__verify_probe", "__verify_skip"}}
INSTALLERS = {f"ansible.builtin.{name}" for name in ("raw", "shell", "command", "apt", "dnf", "package")}
by_name = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else None


def documented(role: Path) -> dict[str, Any]:
    """The options of all entry points together."""
    entries = load(role / "meta" / "argument_specs.yml")["argument_specs"].values()
    return {name: option for entry in entries for name, option in entry.get("options", {}).items()}


def tasks(role: Path) -> Iterator[dict[str, Any]]:
    """Every task of the role, also those in blocks."""
    for path in sorted(role.glob("*/*.yml")):
        if path.parent.name in ("tasks", "handlers"):
            yield from flattened(load(path))


def flattened(waiting: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The tasks, also those in blocks."""
    for task in waiting:
        yield task
        yield from flattened([inner for key in ("block", "rescue", "always") for inner in task.get(key, [])])


class Spec(BaseException):
    """What a module's main() would have given AnsibleModule."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.arguments = arguments


def argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = importlib.import_module(f"ansible_collections.slipway.node.plugins.modules.{name}")

    def caught(_self: AnsibleModule, **arguments: Any) -> NoReturn:
        raise Spec(arguments)

    monkeypatch.setattr(AnsibleModule, "__init__", caught)
    with pytest.raises(Spec) as spec:
        module.main()
    options: dict[str, Any] = spec.value.arguments["argument_spec"]
    return options


def comparable(options: Mapping[str, Any], below: str) -> dict[str, Any]:
    """What documentation and argument spec both say of options; ``below`` is the key of their suboptions."""
    return {
        name: {
            **{key: option.get(key) for key in ("default", "choices", "elements", "aliases")},
            "type": option.get("type", "str"),
            "required": option.get("required", False),
            "below": comparable(option.get(below) or {}, below),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_documentation_is_its_argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"ansible_collections.slipway.node.plugins.modules.{name}")
    documentation = yaml.safe_load(module.DOCUMENTATION)
    spec = argument_spec(name, monkeypatch)
    assert documentation["module"] == name
    options = documentation["options"]
    for fragment in documentation.get("extends_documentation_fragment", []):
        path = f"ansible_collections.slipway.node.plugins.doc_fragments.{fragment.removeprefix('slipway.node.')}"
        shared = yaml.safe_load(importlib.import_module(path).ModuleDocFragment.DOCUMENTATION)["options"]
        # Ansible merges an option that the module describes too.
        options = {**options, **{key: {**value, **options.get(key, {})} for key, value in shared.items()}}
    assert comparable(options, "suboptions") == comparable(spec, "options")


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_examples_take_options_that_it_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"ansible_collections.slipway.node.plugins.modules.{name}")
    spec = argument_spec(name, monkeypatch)
    used = [set(task[f"slipway.node.{name}"] or {}) for task in yaml.safe_load(module.EXAMPLES) if f"slipway.node.{name}" in task]
    assert used
    assert set().union(*used) <= set(spec)


@by_name
def test_every_default_is_documented_as_it_is(role: Path) -> None:
    described = {name: option["default"] for name, option in documented(role).items() if "default" in option}
    assert described == (load(role / "defaults" / "main.yml") or {})


@by_name
def test_every_option_is_described(role: Path) -> None:
    for name, option in documented(role).items():
        assert option.get("description"), name
        assert option.get("type"), name


def private_names(role: Path) -> set[str]:
    """What the role's tasks and vars/main.yml define, but for what they pass to another role."""
    names = set(load(role / "vars" / "main.yml") or {})
    for task in tasks(role):
        imported = task.get("ansible.builtin.import_role", {}).get("name", "").rpartition(".")[2]
        names |= {name for name in task.get("vars", {}) if not imported or not name.startswith(f"{imported}_")}
        names |= set(task.get("ansible.builtin.set_fact", {})) - {"cacheable"}
        names |= {task["register"]} if "register" in task else set()
        names |= {task["loop_control"]["loop_var"]} if "loop_var" in task.get("loop_control", {}) else set()
    return {name for name in names if not name.startswith("ansible_")}


@by_name
def test_private_variables_are_marked(role: Path) -> None:
    wrong = {name for name in private_names(role) if not name.startswith(f"__{role.name}_")}
    assert wrong == PUBLIC.get(role.name, set()) | PASSED.get(role.name, set())


@by_name
def test_public_variables_have_the_roles_name_before_them(role: Path) -> None:
    prefixes = tuple(f"{other.name}_" for other in ROLES) if role.name == SPEC else (f"{role.name}_",)
    assert [name for name in sorted(documented(role)) if not name.startswith(prefixes)] == []


@by_name
def test_private_variables_of_other_roles_are_not_used(role: Path) -> None:
    """The registers that say whether the daemon would change are set by one role and read by all."""
    used = {name for path in role.rglob("*") if path.is_file() for name in re.findall(r"\b__[a-z][a-z_]*", path.read_text())}
    foreign = {name for name in used if not name.startswith(f"__{role.name}_")}
    shared = {"__containerd_configured", "__containerd_registries_configured"} if role.name == SPEC else set()
    assert foreign == shared | PASSED.get(role.name, set())


@by_name
def test_truth_values_of_the_command_line_are_converted(role: Path) -> None:
    """``-e name=false`` and INI inventories make texts. In a condition they are an error, or true."""
    truths = {name for one in ROLES for name, option in documented(one).items() if option.get("type") == "bool"}
    used: set[str] = set()
    for task in tasks(role):
        conditions = str(task.get("when", ""))
        choices = str({key: value for key, value in task.items() if key not in ("when", "block")})
        for name in truths:
            chooses = rf"\bif (not )?{name}\b(?!\s*\|\s*bool\b)|\b{name}\s*\|\s*ternary"
            if re.search(rf"\b{name}\b(?!\s*\|\s*bool\b)", conditions) or re.search(chooses, choices):
                used.add(name)
    assert used == set()


def test_a_variable_that_is_null_is_unset_in_the_role_as_in_the_specification() -> None:
    [task] = load(ROOT / "roles/containerd/tasks/registries.yml")
    assert "containerd_registries" in OPTIONAL and task["when"] == "containerd_registries | default(none) is not none"


def test_no_variable_is_documented_by_two_roles() -> None:
    names = [name for role in ROLES for name in documented(role)]
    assert len(names) == len(set(names))


def test_the_filter_gets_every_shared_variable_but_the_daemons_places() -> None:
    role = ROOT / "roles" / SPEC
    names = load(role / "vars" / "main.yml")["__node_spec_names"]
    assert len(names) == len(set(names))
    assert set(names) == set(documented(role)) - PLACES
    defaults = set(load(role / "defaults" / "main.yml"))
    assert set(names) - defaults == OPTIONAL - defaults


def referenced(role: Path) -> set[str]:
    """The roles that the role runs: its dependencies, and those that its tasks include."""
    names = {dependency["role"] for dependency in load(role / "meta" / "main.yml")["dependencies"]}
    for task in tasks(role):
        names |= {task[key]["name"] for key in ("ansible.builtin.import_role", "ansible.builtin.include_role") if key in task}
    return {name.rpartition(".")[2] for name in names}


def reached(name: str) -> set[str]:
    """All roles that the role runs, directly or not; itself only if there is a circle."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = referenced(ROOT / "roles" / waiting.pop()) - found
        found |= new
        waiting += new
    return found


@by_name
def test_no_role_runs_itself(role: Path) -> None:
    assert role.name not in reached(role.name)


@by_name
def test_every_role_of_the_node_has_the_specification(role: Path) -> None:
    dependencies = [dependency["role"] for dependency in load(role / "meta" / "main.yml")["dependencies"]]
    assert dependencies == ([] if role.name in (SPEC, "bootstrap") else [f"slipway.node.{SPEC}"])


@pytest.mark.parametrize("name", ["node_spec", "repair", "verify"])
def test_roles_that_install_nothing(name: str) -> None:
    """Not by another role either: repair runs nothing but the images of the role containerd."""
    assert reached(name) <= {SPEC, "containerd"}
    files = {
        task["ansible.builtin.import_role"]["tasks_from"]
        for task in tasks(ROOT / "roles" / name)
        if "ansible.builtin.import_role" in task
    }
    assert files <= {"images"}
    used = list(tasks(ROOT / "roles" / name))
    for file in ("images", "image_batch") if files else ():
        used += flattened(load(ROOT / "roles" / "containerd" / "tasks" / f"{file}.yml"))
    assert not [task["name"] for task in used if INSTALLERS & set(task)]


@pytest.mark.parametrize("name", ["repair", "verify"])
def test_playbooks_that_install_nothing(name: str) -> None:
    text = (ROOT / "playbooks" / f"{name}.yml").read_text()
    assert set(re.findall(r"slipway\.node\.(\w+)$", text, re.MULTILINE)) == {name}


def bootstrapped(tmp_path: Path, code: int, *, config: bool = False) -> list[str]:
    """What the role bootstrap prints in check mode on a node whose Python ends its question with the code."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexit {code}\n")
    python.chmod(0o755)
    if config:
        (tmp_path / "config.toml").write_text("version = 2\n")
    environment = jinja2.Environment(autoescape=False)
    environment.filters["quote"] = shlex.quote
    script = environment.from_string((ROOT / "roles/bootstrap/templates/bootstrap.sh.j2").read_text()).render(
        __bootstrap_interpreters=[str(python)],
        __bootstrap_config_file=str(tmp_path / "config.toml"),
        bootstrap_packages={"apt": [], "dnf": [], "zypper": []},
        ansible_check_mode=True,
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_node_whose_python_reads_toml_is_predicted_without_tomlkit(tmp_path: Path) -> None:
    (line,) = bootstrapped(tmp_path, 4)
    assert line.startswith("slipway: missing tomlkit")


def test_a_prediction_that_needs_tomlkit_ends(tmp_path: Path) -> None:
    for lines in (bootstrapped(tmp_path, 5), bootstrapped(tmp_path, 4, config=True)):
        assert lines[0].startswith("slipway: missing tomlkit")
        assert lines[1:] == ["slipway: unpredictable"]


def test_no_run_of_apt_removes_a_package() -> None:
    every = [task for role in ROLES for task in tasks(role)]
    runs = [task for task in every if "name" in task.get("ansible.builtin.apt", {})]
    assert len(runs) > 3
    assert [task["name"] for task in runs if task["ansible.builtin.apt"].get("fail_on_autoremove") is not True] == []
    for task in every:
        assert "ansible.builtin.package" not in task or "os_family'] != 'Debian'" in str(task.get("when")), task["name"]
    lines = (ROOT / "roles/bootstrap/templates/bootstrap.sh.j2").read_text().splitlines()
    assert [line for line in lines if "apt-get install" in line and "--no-remove" not in line] == []


def included() -> list[dict[str, Any]]:
    """The tasks of the files that playbooks include."""
    return [task for path in (ROOT / "playbooks/tasks").glob("*.yml") for task in flattened(load(path))]


def test_there_are_no_tags_as_the_readme_says() -> None:
    plays = [play for path in (ROOT / "playbooks").glob("*.yml") for play in load(path)]
    steps = [
        *plays,
        *(task for role in ROLES for task in tasks(role)),
        *(task for play in plays for task in play.get("tasks", [])),
        *included(),
    ]
    assert not [step["name"] for step in steps if "tags" in step]
    assert "have no tags, so a run with `--tags` does nothing" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("flags", "waves", "left"),
    [
        ([], [["a"], ["b", "c"]], "b failed, so no further wave starts, and these nodes are left unchanged: d, e. "),
        (["--extra-vars", "deprovision_serial=2"], [["a", "b"]], "these nodes are left unchanged: c, d, e. "),
        (["--check"], [["a", "b", "c", "d", "e"]], ""),
    ],
)
def test_nodes_are_deprovisioned_in_waves_until_one_fails(
    flags: list[str], waves: list[list[str]], left: str, tmp_path: Path
) -> None:
    hosts = {name: {"ansible_connection": "local"} for name in "abcde"}
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"nodes": {"hosts": hosts, "vars": {"deprovision_serial": [1, "40%", 2]}}})
    )
    plays = load(ROOT / "playbooks/deprovision.yml")
    # In place of the role.
    plays[-1]["tasks"][-1] = {
        "name": "Deprovision",
        "ansible.builtin.assert": {"that": "inventory_hostname != 'b'", "fail_msg": "refused", "success_msg": "deprovisioned"},
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
    program = Path(sys.executable).with_name("ansible-playbook")
    env = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = subprocess.run(
        [program, "-i", "hosts.yml", "play.yml", *flags], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    ran = [
        re.findall(r"(?m)^(?:ok|fatal): \[(\w)\].*\{\n(?=[^}]*(?:refused|deprovisioned))", one)
        for one in done.stdout.split("PLAY [")
    ]
    assert [sorted(names) for names in ran if names] == waves, done.stdout
    assert left in done.stdout and ("failed, so" in done.stdout) == bool(left)


def test_hosts_that_are_one_node_of_kubernetes_end_the_upgrade_before_a_node_is_read(tmp_path: Path) -> None:
    # No node listens there. Each name is that of its host, as a template.
    names = {"a": "worker", "b": "{{ inventory_hostname }}", "c": "{{ 'work' ~ 'er' }}", "d": "{{ missing }}"}
    hosts = {
        host: {"ansible_host": "127.0.0.1", "ansible_port": 1, "upgrade_kubernetes_node": name} for host, name in names.items()
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"nodes": {"hosts": hosts, "vars": {"upgrade_drain": True}}}))
    program = Path(sys.executable).with_name("ansible-playbook")
    collections = Path(release_plan.__file__).parents[6]
    env = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(collections)}
    done = subprocess.run(
        [program, "-i", "hosts.yml", "slipway.node.upgrade"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "Reach the node" not in done.stdout, done.stdout
    assert "a and c use the same upgrade_kubernetes_node, worker: set it to the name" in done.stdout


@by_name
def test_every_option_that_is_passed_to_a_module_is_one_of_its_options(role: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in tasks(role):
        for key, arguments in task.items():
            action = FRAGMENT.fullmatch(key)
            if action and action[1] in MODULES:
                assert set(arguments or {}) <= set(argument_spec(action[1], monkeypatch)), task["name"]


@by_name
def test_every_task_that_names_a_module_of_ours_names_one_that_exists(role: Path) -> None:
    names = {match[1] for task in tasks(role) for key in task if (match := FRAGMENT.fullmatch(key))}
    assert names <= set(MODULES)


def test_the_action_group_has_the_modules_that_take_the_daemons_place(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
    options = {"config_file", "binary", "unit", "address"}
    assert runtime["action_groups"] == {
        "containerd": [name for name in MODULES if options <= set(argument_spec(name, monkeypatch))]
    }


def test_every_task_that_asks_the_daemon_gets_its_places() -> None:
    """The tasks of a role that another role imports take the defaults of the block around the import."""
    group = "group/slipway.node.containerd"
    modules = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]["containerd"]
    places = {
        "config_file": "{{ containerd_config_file }}",
        "binary": "{{ containerd_binary | default(omit, true) }}",
        "unit": "{{ containerd_unit }}",
        "address": "{{ containerd_address }}",
    }
    for role in ROLES:
        used = list(tasks(role))
        given = [task["module_defaults"][group] for task in used if group in task.get("module_defaults", {})]
        asking = [task["name"] for task in used if any(f"slipway.node.{name}" in task for name in modules)]
        assert given or not asking, asking
        assert all(one == places for one in given), role.name
    images = [task["module_defaults"] for task in included() if "module_defaults" in task]
    assert images == [{group: places}]


def test_extra_variables_of_verify_do_not_narrow_the_checks_of_an_upgrade() -> None:
    """``-e verify_skip=…`` would take the place of a variable with the same name that the role upgrade sets."""
    [read] = load(ROOT / "roles/upgrade/tasks/read.yml")
    assert set(read["vars"]) == PASSED["upgrade"]
    options = next(task for task in tasks(ROOT / "roles/verify") if "slipway.node.node_verify" in task)[
        "slipway.node.node_verify"
    ]
    chosen = {f"__verify_{name}": options[name] for name in ("only", "probe", "skip")}
    assert chosen == {name: f"{{{{ {name} | default({name.removeprefix('__')}) }}}}" for name in PASSED["upgrade"]}
