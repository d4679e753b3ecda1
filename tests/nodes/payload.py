# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules of the collection as a program on a node, run without Ansible's transport.

What runs is what Ansible sends: the installed collection and ansible-core's module_utils in a ZIP file. Tests run it
unpacked, where Python keeps what it has compiled; measurements as it is.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import shlex
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import Any

from nodes.documented import check_documented
from nodes.node import WORK, Node

PACKAGE = "/var/lib/payload.zip"
UNPACKED = "/var/lib/payload"
_installing = threading.Lock()


def install(node: Node) -> None:
    """Bring the collection as it was built last, once, also if several threads of a test call modules."""
    with _installing:
        _install(node)


def forget() -> None:
    """Install it again with the next call, on nodes that were created again under their names."""
    _install.cache_clear()


@functools.cache
def _install(node: Node) -> None:
    found = importlib.util.find_spec("ansible")
    assert found is not None and found.origin is not None
    core = Path(found.origin).parent
    collection = WORK / "collections/ansible_collections/slipway/node/plugins"
    sources = {
        "ansible/release.py": core / "release.py",
        **_python(core / "module_utils", "ansible/module_utils"),
        **_python(collection, "ansible_collections/slipway/node/plugins"),
    }
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory) / "payload.zip"
        with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
            parents = {str(parent) for name in sources for parent in Path(name).parents if parent.name}
            for name in sorted({f"{parent}/__init__.py" for parent in parents}.difference(sources)):
                archive.writestr(name, "")
            for name, path in sources.items():
                archive.write(path, name)
        node.put(package, PACKAGE)
    node.ssh(f"rm -rf {UNPACKED} && python3 -m zipfile -e {PACKAGE} {UNPACKED}")


def _python(directory: Path, prefix: str) -> dict[str, Path]:
    return {f"{prefix}/{path.relative_to(directory)}": path for path in directory.rglob("*.py")}


def command(module: str, args: dict[str, Any], package: str = UNPACKED) -> list[str]:
    """To be run on the node; prints the result as JSON."""
    name = f"ansible_collections.slipway.node.plugins.modules.{module}"
    return ["env", f"PYTHONPATH={package}", "python3", "-m", name, json.dumps({"ANSIBLE_MODULE_ARGS": args})]


def run_module(node: Node, module: str, args: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
    """Its result, also if it failed; if it was killed, with nothing but what it printed."""
    install(node)
    given = {**args, "_ansible_check_mode": check, "_ansible_diff": True}
    *argv, text = command(module, given)
    # As an argument, text that is longer than a file's name isn't always taken for text.
    done = node.ssh(f"printf %s {shlex.quote(text)} | {shlex.join(argv)}", check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        found = {"failed": True, "msg": f"{module} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"}
    check_documented(module, found)
    return found
