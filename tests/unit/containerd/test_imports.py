# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.imports import (
    candidate_imports,
    covered,
    is_glob,
    matches,
    patterns,
)

ROOT = "/etc/containerd/config.toml"


def test_relative_imports_start_at_the_files_directory() -> None:
    tree = {"imports": ["conf.d/*.toml", "../other.toml", "/abs/x.toml"]}
    assert patterns(tree, ROOT) == ["/etc/containerd/conf.d/*.toml", "/etc/other.toml", "/abs/x.toml"]
    assert patterns({}, ROOT) == []


@pytest.mark.parametrize("imports", ["/a.toml", [1], {"a": 1}, 5])
def test_refuses_imports_that_are_no_list_of_texts(imports: Any) -> None:
    with pytest.raises(ValueError, match=r"/etc/containerd/config\.toml: imports has to be a list of paths"):
        patterns({"imports": imports}, ROOT)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/etc/conf.d/*.toml", "/etc/conf.d/60-slipway.toml", True),
        ("/etc/conf.d/*.toml", "/etc/conf.d/deeper/60-slipway.toml", False),
        ("/etc/*/60.toml", "/etc/conf.d/60.toml", True),
        ("/etc/conf.d/6?.toml", "/etc/conf.d/60.toml", True),
        ("/etc/conf.d/[67]0.toml", "/etc/conf.d/60.toml", True),
        ("/etc/conf.d/[12]0.toml", "/etc/conf.d/60.toml", False),
        ("/etc/conf.d/60.toml", "/etc/conf.d/60.toml", True),
        ("/etc/conf.d/60.toml", "/etc/conf.d/60xtoml", False),
        ("/etc/conf.d/*.toml", "/etc/conf.d/60.toml.bak", False),
    ],
)
def test_patterns_match_as_gos_do(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        (["/etc/containerd/conf.d/*.toml"], True),
        (["conf.d/60-slipway.toml"], True),
        (["/etc/containerd/conf.d/60-other.toml"], False),
        ([], False),
    ],
)
def test_a_file_is_covered_by_the_imports_that_name_it(imports: list[str], expected: bool) -> None:
    assert covered({"imports": imports}, ROOT, "/etc/containerd/conf.d/60-slipway.toml") is expected


def test_a_candidates_imports_lead_to_candidates() -> None:
    glob = "/etc/containerd/conf.d/*.toml"
    assert is_glob(glob)
    spelled = candidate_imports(
        [glob, "/etc/plain.toml"],
        {glob: ["/etc/containerd/conf.d/10-a.toml", "/etc/containerd/conf.d/50-gone.toml"]},
        {
            "/etc/containerd/conf.d/60-slipway.toml": "/tmp/x/0.toml",
            "/etc/containerd/conf.d/50-gone.toml": None,
            "/elsewhere.toml": "/tmp/x/1.toml",
        },
    )
    assert spelled == ["/etc/containerd/conf.d/10-a.toml", "/tmp/x/0.toml", "/etc/plain.toml"]
