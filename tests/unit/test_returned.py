# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.verify import probe_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import CHECKS, checks_in
from nodes.documented import RESERVED, keys, returned, undocumented

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", MODULES)
def test_no_key_of_a_result_is_one_of_ansibles_own(module: str) -> None:
    assert RESERVED.isdisjoint(returned(module))


@pytest.mark.parametrize("module", MODULES)
def test_no_key_of_a_result_is_hidden_by_a_method_of_dictionaries(module: str) -> None:
    """Jinja's ``result.items`` is the method."""
    assert [path for key, path in keys(returned(module)) if hasattr(dict, key)] == []


@pytest.mark.parametrize("module", MODULES)
def test_keys_are_in_snake_case_and_described(module: str) -> None:
    found = list(keys(returned(module)))
    assert found
    assert [path for key, path in found if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", key)] == []


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ({"changed": True, "diff": {}, "images": [{"name": "a", "digest": "b"}], "snapshotter": "overlayfs"}, []),
        ({"changed": True, "size": 1}, ["size"]),
        ({"images": [{"name": "a"}, {"name": "b", "size": 1}]}, ["images.size"]),
        ({"failed": True, "path": "/x"}, []),
    ],
)
def test_a_key_that_is_not_documented_is_found(result: dict[str, Any], found: list[str]) -> None:
    assert undocumented("containerd_image", result) == found


@pytest.mark.parametrize("check", CHECKS)
def test_a_checks_id_is_a_name(check: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", check)


def test_the_table_of_checks_is_complete() -> None:
    page = (ROOT / "docs/verify.md").read_text()
    table = page[page.index("| check |") :].partition("\n\n")[0]
    documented = [name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])]
    assert sorted(documented) == sorted(CHECKS)


def test_the_readme_counts_the_checks_that_start_nothing() -> None:
    count = len(CHECKS) - len(checks_in(probe_checks))
    assert f"{count} read-only checks per node" in (ROOT / "README.md").read_text()
