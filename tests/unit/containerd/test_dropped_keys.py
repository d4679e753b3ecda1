# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.dropped_keys import dropped_keys
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source

ROOT = "/etc/containerd/config.toml"
CNI = "[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dir = '/usr/lib/cni'\n"
CNI_2 = "[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/usr/lib/cni'\n"
RUNTIME = "[plugins.'io.containerd.cri.v1.runtime']\n"
OTLP = "[plugins.'io.containerd.tracing.processor.v1.otlp']\nendpoint = 'http://collector:4318'\n"


def found(text: str, version: str) -> list[tuple[str, str]]:
    return [(one.sentence(), one.remedy()) for one in dropped_keys([Source(ROOT, text)], Version.parse(version))]


@pytest.mark.parametrize("version", ["2.1.9", "2.2.9", "2.3.7", "2.4.2"])
@pytest.mark.parametrize("schema", [3, 4])
def test_the_directory_of_cni_is_named_with_what_to_write_before_an_upgrade_loses_it(version: str, schema: int) -> None:
    key = 'plugins."io.containerd.cri.v1.runtime".cni.bin_dir'
    assert found(f"version = {schema}\n{CNI}", version) == [
        (f"{ROOT}: {key} does nothing from containerd 2.4 on", f"in place of {key} in {ROOT}, write bin_dirs = ['/usr/lib/cni']")
    ]


@pytest.mark.parametrize(
    ("text", "version", "words"),
    [
        (f"version = 3\n{RUNTIME}enable_cdi = false\n", "2.3.7", "CDI can't be turned off"),
        (f"version = 4\n{RUNTIME}enable_experimental_restore_via_create = true\n", "2.3.7", "nothing takes its place"),
        (f"version = 2\n{OTLP}", "1.7.24", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (f"version = 3\n{OTLP}", "2.3.7", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (f"version = 4\n{OTLP}", "2.4.2", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("version = 2\n[plugins.'io.containerd.grpc.v1.cri']\ndisable_cgroup = true\n", "1.7.24", "nothing takes its place"),
        (
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime.runtime_type = 'io.containerd.x'\n",
            "1.7.24",
            "default_runtime_name",
        ),
    ],
)
def test_every_other_key_is_named_with_what_takes_its_place(text: str, version: str, words: str) -> None:
    [(sentence, remedy)] = found(text, version)
    assert ROOT in sentence and words in remedy


@pytest.mark.parametrize(
    ("text", "version"),
    [
        # The daemon writes bin_dirs of it.
        (f"version = 2\n{CNI_2}", "2.3.7"),
        # There is no bin_dirs yet.
        (f"version = 3\n{CNI}", "2.0.5"),
        (f"version = 3\n{RUNTIME}enable_cdi = true\ncni.bin_dir = ''\n", "2.3.7"),
        ("not TOML", "2.3.7"),
    ],
)
def test_what_an_upgrade_keeps_is_not_named(text: str, version: str) -> None:
    assert found(text, version) == []


@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.1.9", "2.2.9", "2.3.7", "2.4.2"])
def test_a_file_of_defaults_loses_nothing(version: str, recorded: Callable[[str, str], str]) -> None:
    assert found(recorded(version, "default.toml"), version) == []


def test_keys_of_every_handler_are_found() -> None:
    handlers = "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes."
    text = f"version = 2\n{handlers}a]\nruntime_engine = '/opt/runc'\n{handlers}b.options]\nCriuPath = '/opt/criu'\n"
    [one, other] = found(text, "1.7.24")
    assert "runtimes.a.runtime_engine" in one[0] and one[1].endswith("write options.BinaryName = '/opt/runc'")
    assert "runtimes.b.options.CriuPath" in other[0]
    assert found(f"version = 2\n{handlers}a]\nruntime_engine = ''\n", "1.7.24") == []


@pytest.mark.parametrize(("version", "dropped"), [("1.7.24", False), ("2.3.7", False), ("2.4.0", True)])
def test_a_key_is_dropped_from_a_release_on(version: str, dropped: bool) -> None:
    [key] = dropped_keys([Source(ROOT, f"version = 3\n{CNI}")], Version.parse("2.3.7"))
    assert key.is_dropped_by(Version.parse(version)) is dropped
