# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.kata.directory import DIRECTORY, FILE, LINK
from ansible_collections.slipway.node.plugins.module_utils.kata.host.files import read_drop_ins, read_vendor, version_beside
from ansible_collections.slipway.node.plugins.module_utils.kata.host.state import read_kata
from nodes.kata import Release

CRI = "io.containerd.grpc.v1.cri"


def config(**handler: Any) -> EffectiveConfig:
    table = {"runtime_type": "io.containerd.kata.v2", **handler}
    handlers = {"kata": table, "runc": {"runtime_type": "io.containerd.runc.v2"}}
    return EffectiveConfig({"version": 2, "plugins": {CRI: {"containerd": {"runtimes": handlers}}}})


def test_a_handlers_files_are_where_kata_looks_for_them(tmp_path: Path) -> None:
    release = Release(tmp_path / "kata-3.26.0", "3.26.0")
    shim = release.prefix / "bin" / "containerd-shim-kata-v2"
    shim.parent.mkdir()
    shim.write_text("")
    shim.chmod(0o755)
    (tmp_path / "kata").symlink_to(release.prefix)
    directory = tmp_path / "etc" / "kata-qemu"
    (directory / "config.d").mkdir(parents=True)
    (directory / "configuration.toml").write_text("[hypervisor.qemu]\n")
    (directory / "config.d" / "60.toml").write_text("# ours\n")
    (tmp_path / "link.toml").symlink_to(directory / "configuration.toml")
    declared = config(
        runtime_path=str(tmp_path / "kata/bin/containerd-shim-kata-v2"), options={"ConfigPath": str(tmp_path / "link.toml")}
    )

    (handler,) = read_kata(declared, Version(1, 7, 24), None).handlers
    assert handler.main == b"[hypervisor.qemu]\n"
    assert {name: entry.content for name, entry in handler.drop_ins.items()} == {str(directory / "config.d/60.toml"): b"# ours\n"}
    assert handler.version == Version(3, 26, 0)
    (directory / "configuration.toml").unlink()
    assert read_kata(declared, Version(1, 7, 24), None).handlers[0].main is None


def test_a_hypervisor_that_the_node_lacks(tmp_path: Path) -> None:
    program, main = tmp_path / "firecracker", tmp_path / "configuration.toml"
    main.write_text(f'[hypervisor.firecracker]\npath = "{program}"\n')

    def missing() -> str:
        vendor = read_vendor(str(main))
        assert vendor is not None
        return vendor.missing_program

    assert missing() == str(program)
    program.write_text("")
    program.chmod(0o755)
    assert missing() == ""
    program.unlink()
    main.write_text("[")
    assert missing() == ""


def test_a_shim_without_a_path_is_looked_for_where_the_daemon_would(tmp_path: Path) -> None:
    programs = Release(tmp_path / "kata", "3.26.0").prefix / "bin"
    programs.mkdir()
    (programs / "containerd-shim-kata-v2").write_text("")
    (programs / "containerd-shim-kata-v2").chmod(0o755)
    declared = config(options={"ConfigPath": str(tmp_path / "configuration.toml")})
    found = [read_kata(declared, Version(1, 7, 24), {"PATH": str(path)}).handlers[0].version for path in (programs, tmp_path)]
    assert found == [Version(3, 26, 0), None]


def test_the_version_of_a_release(tmp_path: Path) -> None:
    release = Release(tmp_path / "kata", "4.1.0")
    assert version_beside(str(release.path("go", "qemu"))) == Version(4, 1, 0)
    assert version_beside(str(release.path("rust", "qemu"))) == Version(4, 1, 0)
    (tmp_path / "link.toml").symlink_to(release.path("rust", "qemu"))
    assert version_beside(str(tmp_path / "link.toml")) == Version(4, 1, 0)
    (release.prefix / "VERSION").write_text("main\n")
    assert version_beside(str(release.path("go", "qemu"))) is None
    assert version_beside(str(tmp_path / "elsewhere" / "x.toml")) is None


def test_whatever_is_in_config_d_is_seen(tmp_path: Path) -> None:
    assert read_drop_ins(str(tmp_path)) == {}
    drop_ins = tmp_path / "config.d"
    (drop_ins / "directory").mkdir(parents=True)
    (drop_ins / "a.toml").write_text("a")
    (drop_ins / "link").symlink_to("a.toml")
    (drop_ins / "dangling").symlink_to("nowhere")
    found = {Path(name).name: (entry.kind, entry.content) for name, entry in read_drop_ins(str(tmp_path)).items()}
    assert found == {"directory": (DIRECTORY, None), "a.toml": (FILE, b"a"), "link": (LINK, b"a"), "dangling": (LINK, None)}


def test_something_else_in_the_place_of_config_d(tmp_path: Path) -> None:
    (tmp_path / "config.d").write_text("")
    assert [(entry.kind, entry.content) for entry in read_drop_ins(str(tmp_path)).values()] == [(FILE, None)]
