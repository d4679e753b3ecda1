# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
PLUGINS = "ansible_collections.slipway.node.plugins"
FRAGMENT = re.compile(r"slipway\.node\.(\w+)")
by_name = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else None


def documented(role: Path) -> dict[str, Any]:
    """The options of all entry points together."""
    entries = load(role / "meta" / "argument_specs.yml")["argument_specs"].values()
    return {name: option for entry in entries for name, option in entry.get("options", {}).items()}


def tasks(role: Path) -> Iterator[dict[str, Any]]:
    """Every task of the role, also those in blocks."""
    waiting = [task for path in sorted(role.glob("*/*.yml")) if path.parent.name in ("tasks", "handlers") for task in load(path)]
    while waiting:
        task = waiting.pop()
        yield task
        waiting += [inner for key in ("block", "rescue", "always") for inner in task.get(key, [])]


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
        options |= yaml.safe_load(importlib.import_module(path).ModuleDocFragment.DOCUMENTATION)["options"]
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


@by_name
def test_every_variable_has_the_roles_name_before_it(role: Path) -> None:
    names = {
        *documented(role),
        *(load(role / "defaults" / "main.yml") or {}),
        *(load(role / "vars" / "main.yml") or {}),
    }
    for task in tasks(role):
        imported = task.get("ansible.builtin.import_role", {}).get("name", "").rpartition(".")[2]
        names |= {name for name in task.get("vars", {}) if not imported or not name.startswith(f"{imported}_")}
        names |= set(task.get("ansible.builtin.set_fact", {})) - {"cacheable"}
        names |= {task["register"]} if "register" in task else set()
    own = (f"{role.name}_", "ansible_")
    assert [name for name in sorted(names) if not name.startswith(own)] == []


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


def test_the_action_group_is_the_modules_that_take_a_daemon() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
    fragments = {
        name: yaml.safe_load(importlib.import_module(f"{PLUGINS}.modules.{name}").DOCUMENTATION)["extends_documentation_fragment"]
        for name in MODULES
    }
    taken = [name for name in MODULES if "slipway.node.daemon" in fragments[name]]
    assert runtime["action_groups"] == {"containerd": taken}
