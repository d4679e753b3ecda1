# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

UTILS = Path(__file__).parents[2] / "plugins" / "module_utils"
PLUGINS = sorted(UTILS.parent.rglob("*.py"))
MODEL = sorted((UTILS / "model").glob("*.py"))
OWN = "ansible_collections.slipway.node.plugins.module_utils.model"
# Standard modules that compute and do nothing else, and the TOML library.
PURE = frozenset(
    {
        "__future__",
        "base64",
        "binascii",
        "collections",
        "copy",
        "dataclasses",
        "datetime",
        "enum",
        "fnmatch",
        "functools",
        "hashlib",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "operator",
        "posixpath",
        "re",
        "string",
        "struct",
        "textwrap",
        "tomlkit",
        "tomllib",
        "typing",
        "urllib.parse",
    }
)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == OWN.rpartition(".")[0] else (module,)


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            yield function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def pure(module: str) -> bool:
    return module.startswith(OWN) or module in PURE or module.partition(".")[0] in PURE


@pytest.mark.parametrize("path", MODEL, ids=lambda path: path.name)
def test_the_model_imports_only_what_is_pure(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert [module for module in imported(tree) if not pure(module)] == []


@pytest.mark.parametrize("path", MODEL, ids=lambda path: path.name)
def test_the_model_does_not_touch_the_machine(path: Path) -> None:
    tree = ast.parse(path.read_text())
    reach = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint", "now", "utcnow", "today"}
    assert reach.isdisjoint(called(tree))


def test_the_test_itself_sees_impure_code() -> None:
    assert len(MODEL) > 10
    for text in ("import os", "from os import path", "import ansible.module_utils", "from subprocess import run", "import io"):
        assert [module for module in imported(ast.parse(text)) if not pure(module)], text
    host = "from ansible_collections.slipway.node.plugins.module_utils.host.files import write_file"
    assert [module for module in imported(ast.parse(host)) if not pure(module)]
    assert "open" in set(called(ast.parse("with open('x') as stream: pass")))


@pytest.mark.parametrize(
    "path",
    [*sorted(UTILS.rglob("*.py")), *sorted((UTILS.parent / "modules").glob("*.py"))],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_only_run_module_ends_a_module(path: Path) -> None:
    ends = {"fail_json", "exit_json", "exit"} & set(called(ast.parse(path.read_text())))
    assert ends == ({"fail_json", "exit_json"} if path == UTILS / "run.py" else set())


# The files that read what ``containerd config dump`` prints; all others are given an EffectiveConfig.
READERS = frozenset({"model/effective.py", "host/containerd.py"})


def raw_dumps(tree: ast.AST) -> Iterator[str]:
    """Functions and classes that take a dump, and expressions that get at one."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            if any(argument.arg == "dump" for argument in arguments):
                yield getattr(node, "name", "lambda")
        elif "dump" in (getattr(node, "attr", ""), getattr(getattr(node, "target", None), "id", "")):
            yield ast.unparse(node)


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_only_its_readers_take_a_raw_dump(path: Path) -> None:
    if f"{path.parent.name}/{path.name}" not in READERS:
        assert list(raw_dumps(ast.parse(path.read_text()))) == []


def test_a_raw_dump_is_seen() -> None:
    for text in (
        "def read(dump: Tree) -> None: ...",
        "def read(*, dump) -> None: ...",
        "class State:\n    dump: Tree | None = None",
        "value = config.dump['plugins']",
    ):
        assert list(raw_dumps(ast.parse(text))), text
    assert list(raw_dumps(ast.parse("def read(config: EffectiveConfig) -> None: ..."))) == []
    assert len(PLUGINS) > 100 and all(any(str(path).endswith(name) for path in PLUGINS) for name in READERS)
