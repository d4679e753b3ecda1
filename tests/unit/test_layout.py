# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout of plugins/module_utils: one package for each concern, effects in its ``host``, no circle between packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UTILS = ROOT / "plugins" / "module_utils"
OWN = "ansible_collections.slipway.node.plugins.module_utils"
# The one file that ends a module.
RUN = UTILS / "run.py"
FILES = sorted(path for path in UTILS.rglob("*.py") if path.name != "__init__.py")
PURE_FILES = [path for path in FILES if "host" not in path.relative_to(UTILS).parts and path != RUN]
PLUGINS = sorted(path for path in UTILS.parent.rglob("*.py") if path.name != "__init__.py")
PACKAGES = sorted(path.name for path in UTILS.iterdir() if path.is_dir() and path.name != "__pycache__")
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
        "shlex",
        "string",
        "struct",
        "textwrap",
        "tomlkit",
        "tomllib",
        "typing",
        "urllib.parse",
    }
)


def name_of(path: Path) -> str:
    return str(path.relative_to(UTILS))


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports; a package's member is named with its package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            module = node.module or ""
            members = [f"{module}.{alias.name}" for alias in node.names]
            directory = UTILS / module.removeprefix(f"{OWN}.").replace(".", "/")
            yield from members if module.startswith(OWN) and directory.is_dir() else (module,)


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            yield function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def pure(module: str) -> bool:
    if module.startswith(OWN):
        return "host" not in module.split(".") and module != f"{OWN}.run"
    return module in PURE or module.partition(".")[0] in PURE


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of a graph, empty if there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for following in sorted(graph.get(node, ())):
            found = walk(following, [*path, node])
            if found:
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def depends_on(packages: bool) -> dict[str, set[str]]:
    """Who imports whom, by package or by file."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        own = name_of(path).removesuffix(".py").replace("/", ".")
        for module in imported(parsed(path)):
            if not module.startswith(f"{OWN}."):
                continue
            other = module.removeprefix(f"{OWN}.")
            if packages:
                here, there = own.partition(".")[0], other.partition(".")[0]
                if here != there and here in PACKAGES:
                    graph.setdefault(here, set()).add(there)
            else:
                graph.setdefault(own, set()).add(other)
    return graph


@pytest.mark.parametrize("path", PURE_FILES, ids=name_of)
def test_a_file_outside_of_host_imports_only_what_is_pure(path: Path) -> None:
    assert [module for module in imported(parsed(path)) if not pure(module)] == []


@pytest.mark.parametrize("path", PURE_FILES, ids=name_of)
def test_a_file_outside_of_host_does_not_touch_the_machine(path: Path) -> None:
    reach = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint", "now", "utcnow", "today"}
    assert reach.isdisjoint(called(parsed(path)))


def test_the_rules_see_impure_code() -> None:
    assert len(PURE_FILES) > 40
    for text in ("import os", "from os import path", "import ansible.module_utils", "from subprocess import run", "import io"):
        assert [module for module in imported(ast.parse(text)) if not pure(module)], text
    for host in (f"from {OWN}.core.host.files import write_file", f"from {OWN}.core.host import files"):
        assert [module for module in imported(ast.parse(host)) if not pure(module)], host
    assert "open" in set(called(ast.parse("with open('x') as stream: pass")))
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize(
    "path", [*FILES, *sorted((UTILS.parent / "modules").glob("*.py"))], ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_only_run_module_ends_a_module(path: Path) -> None:
    ends = {"fail_json", "exit_json", "exit"} & set(called(parsed(path)))
    assert ends == ({"fail_json", "exit_json"} if path == RUN else set())


@pytest.mark.parametrize("path", sorted((UTILS.parent / "modules").glob("*.py")), ids=lambda path: str(path.name))
def test_a_module_imports_first_what_keeps_its_bytecode(path: Path) -> None:
    """Files that it imports before are compiled twice in each run."""
    first = next(module for module in imported(parsed(path)) if module.startswith(OWN))
    assert first == f"{OWN}.core.host.bytecode"


# The files that read what ``containerd config dump`` prints; all others are given an EffectiveConfig.
READERS = frozenset({"containerd/effective.py", "containerd/host/programs.py"})


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
    if str(path.relative_to(UTILS.parent)).removeprefix("module_utils/") not in READERS:
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


def test_no_circle_between_packages() -> None:
    graph = depends_on(packages=True)
    assert len(graph) > 8
    assert circle(graph) == []


def test_no_circle_between_files() -> None:
    assert circle(depends_on(packages=False)) == []


def test_a_package_is_a_concern_with_its_effects_in_host() -> None:
    nested = [name_of(path) for path in FILES if len(path.relative_to(UTILS).parts) not in (2, 3) and path != RUN]
    deeper = [name_of(path) for path in FILES if len(path.relative_to(UTILS).parts) == 3 and path.parent.name != "host"]
    assert nested == []
    assert deeper == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_described(package: str) -> None:
    assert f"`{package}`" in (ROOT / "docs" / "design.md").read_text()


def code_lines(path: Path) -> int:
    """The lines of a module beside its documentation and its argument spec."""
    tree = parsed(path)
    left_out = 0
    for node in tree.body:
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        names += [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []
        spec = isinstance(node, ast.FunctionDef) and (node.name == "main" or node.name.endswith("_spec"))
        if spec or any(name in ("DOCUMENTATION", "EXAMPLES", "RETURN") or name.isupper() for name in names):
            left_out += (node.end_lineno or 0) - node.lineno + 1
    return len(path.read_text().splitlines()) - left_out


@pytest.mark.parametrize("path", sorted((UTILS.parent / "modules").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_is_short(path: Path) -> None:
    assert code_lines(path) <= 250
