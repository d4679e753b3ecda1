# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module of this collection on this machine, through the real ansible command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from nodes.documented import check_documented

REPOSITORY = Path(__file__).resolve().parents[2]


class LocalModule:
    """Calls one module. directory holds the link that makes this checkout a collection."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.collections = directory
        link = directory / "ansible_collections" / "slipway" / "node"
        link.parent.mkdir(parents=True)
        link.symlink_to(REPOSITORY)

    def __call__(
        self, *, check: bool = False, python: str = sys.executable, verbose: bool = False, **options: Any
    ) -> dict[str, Any]:
        """Run it under the given Python; return its result, with ``failed`` and ``output``, what ansible printed."""
        ansible = shutil.which("ansible", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        assert ansible is not None
        command = [ansible, "localhost", "-i", "localhost,", "-c", "local", "--diff", *(["--check"] if check else [])]
        command += ["-vvv"] * verbose + ["-e", f"ansible_python_interpreter={python}"]
        command += ["-m", f"slipway.node.{self.name}", "-a", json.dumps(options)]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        }
        answer = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=self.collections)
        output = answer.stdout + answer.stderr
        match = re.search(r"^localhost \| (\w+)!? => ", answer.stdout, re.MULTILINE)
        assert match is not None, output
        assert "Traceback" not in output, output
        result, _end = json.JSONDecoder().raw_decode(answer.stdout[match.end() :])
        check_documented(self.name, result)
        return {**result, "failed": match.group(1) not in ("SUCCESS", "CHANGED"), "output": output}
