# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.plain_programs import PlainPrograms
from ansible_collections.slipway.node.plugins.module_utils.kata.directory import FILE, MODE, DirectoryEntry
from ansible_collections.slipway.node.plugins.module_utils.kata.state import DeclaredHandler, KataState
from ansible_collections.slipway.node.plugins.module_utils.verify.host.programs import (
    base_spec_problems,
    find_program,
    kata_file_problems,
    program_problem,
    read_programs,
    root_problems,
    stream_processor_problems,
    with_answers,
)

RELATIVE = "isn't an absolute path, and the shim's directory differs for each container"
ANY = "an architecture that isn't judged"


def program(path: Path, text: str = "#!/bin/sh\n", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def config(opt: Path, **handlers: dict[str, Any]) -> EffectiveConfig:
    containerd = {"default_runtime_name": "runc", "runtimes": handlers}
    plugins = {"io.containerd.cri.v1.runtime": {"containerd": containerd}, "io.containerd.internal.v1.opt": {"path": str(opt)}}
    return EffectiveConfig({"version": 3, "plugins": plugins})


def test_programs_are_searched_where_the_daemon_searches(tmp_path: Path) -> None:
    kata = program(tmp_path / "opt/bin/containerd-shim-kata-v2")
    shim = program(tmp_path / "beside/containerd-shim-runc-v2")
    program(tmp_path / "first/runc", mode=0o644)
    runc = program(tmp_path / "second/runc")
    found = read_programs(
        config(tmp_path / "opt", kata={"runtime_type": "io.containerd.kata.v2"}, runc={"runtime_type": "io.containerd.runc.v2"}),
        {"PATH": f"{tmp_path}/first:{tmp_path}/second"},
        str(tmp_path / "beside/containerd"),
        ANY,
    )
    assert {name: [one.path for one in programs] for name, programs in found.items()} == {
        "runc": [str(shim), str(runc)],
        "kata": [str(kata)],
    }
    assert list(found) == ["runc", "kata"], "the default first"
    assert not any(one.sentence() for programs in found.values() for one in programs)


def test_runc_is_searched_where_the_shims_search(tmp_path: Path) -> None:
    (tmp_path / "runc").write_bytes(b"")
    (tmp_path / "runc").chmod(0o755)
    manager = {"io.containerd.shim.v1.manager": {"env": ["A=1", "PATH=/nowhere"]}}
    (_shim, runc) = read_programs(EffectiveConfig({"plugins": manager}), {"PATH": str(tmp_path)}, None, ANY)["runc"]
    assert runc.sentence() == "runc is not on the PATH in env of io.containerd.shim.v1.manager"


def test_a_client_of_a_daemon_without_handlers_needs_runc(tmp_path: Path) -> None:
    found = read_programs(EffectiveConfig({}), {"PATH": str(tmp_path)}, None, ANY)
    assert [one.sentence() for one in found["runc"]] == [
        "containerd-shim-runc-v2 is not on the PATH of the daemon",
        "runc is not on the PATH of the daemon",
    ]


def test_runc_and_its_shim_are_asked_for_their_versions(tmp_path: Path) -> None:
    program(tmp_path / "containerd-shim-runc-v2", "#!/bin/sh\n[ $1 = -v ] && echo Version: 2.3.7\n")
    program(tmp_path / "runc", "#!/bin/sh\nexit 0\n")
    given = config(
        tmp_path,
        kata={"runtime_type": "io.containerd.kata.v2", "runtime_path": "/never/run"},
        runc={"runtime_type": "io.containerd.runc.v2"},
    )
    programs = read_programs(given, {"PATH": str(tmp_path)}, None, ANY)
    found = with_answers(Runner(PlainPrograms()), given, programs)
    assert [one.problem for one in found["runc"]] == ["", "is damaged, or another program: with --version it prints no version"]
    assert found["kata"] == programs["kata"]


def test_a_program_that_hangs_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.slipway.node.plugins.module_utils.verify.host.programs._ANSWER_SECONDS", 0.1)
    program(tmp_path / "containerd-shim-runc-v2", "#!/bin/sh\nexec sleep 60\n")
    without = EffectiveConfig({})
    (shim, _runc) = with_answers(Runner(PlainPrograms()), without, read_programs(without, {"PATH": str(tmp_path)}, None, ANY))[
        "runc"
    ]
    assert "took more than 0.1 seconds" in shim.problem


def test_a_program_that_is_there_but_cannot_be_run_is_named_with_its_path(tmp_path: Path) -> None:
    path = program(tmp_path / "runc", mode=0o644)
    assert find_program("runc", str(tmp_path), ANY).sentence() == f"{path} is not executable"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        ("", "isn't there"),
        ("mkfifo p; chmod 755 p", "is a FIFO"),
        ("mkdir p", "is a directory"),
        ("ln -s p p", "leads to itself"),
        ("ln -s nowhere p", "is a link to nowhere, which isn't there"),
        ("touch p", "is not executable"),
        ("touch p; chmod 755 p", "is empty"),
        ("echo '#!/nowhere' > p; chmod 755 p", "its interpreter /nowhere isn't there"),
        ('echo "#!$PWD/p" > p; chmod 755 p', "is one more script"),
        ("cp /bin/true p", ""),
    ],
)
def test_why_a_program_cannot_be_run(tmp_path: Path, make: str, words: str) -> None:
    assert os.system(f"cd {tmp_path}; {make}") == 0
    problem = program_problem(str(tmp_path / "p"), ANY)
    assert words in problem
    assert bool(problem) is bool(words)


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def handler(root: str) -> dict[str, Any]:
        return {"runtime_type": "io.containerd.runc.v2", "options": {"Root": root}}

    found = root_problems(
        config(tmp_path, bad=handler(f"{tmp_path}/file/a/b"), well=handler(f"{tmp_path}/new/a"), relative=handler("a/b"))
    )
    assert found == {"bad": f"{tmp_path}/file/a/b can't be made: {tmp_path}/file is no directory"}


def test_the_files_of_a_guest_are_looked_at(tmp_path: Path) -> None:
    kernel, image, qemu = tmp_path / "vmlinux", tmp_path / "image", program(tmp_path / "qemu", mode=0o644)
    kernel.touch()
    text = f'[hypervisor.qemu]\npath = "{qemu}"\nkernel = "{kernel}"\nimage = "{image}"\nshared_fs = "none"\n'
    text += 'virtio_fs_daemon = "/nowhere"\n'
    handler = DeclaredHandler("kata", "containerd-shim-kata-v2", None, "/c.toml", main=text.encode())
    found = kata_file_problems(KataState((handler,)), ANY)
    assert found == {"kata": f"path {qemu} is not executable; kernel {kernel} is empty; image {image} isn't there"}
    shared = DeclaredHandler("kata", "s", None, "/c.toml", main=text.replace('"none"', '"virtio-fs"').encode())
    assert "virtio_fs_daemon /nowhere isn't there" in kata_file_problems(KataState((shared,)), ANY)["kata"]


def test_a_missing_firecracker_is_named_with_its_archive(tmp_path: Path) -> None:
    firecracker = tmp_path / "firecracker"
    text = f'[hypervisor.firecracker]\npath = "{firecracker}"\nimage = "/bin/true"\n'
    handler = DeclaredHandler("kata", "s", None, "/c.toml", main=text.encode())
    problem = f"path {firecracker} isn't there (from 4.1.0 on, Firecracker is in the archive kata-go-static alone)"
    assert kata_file_problems(KataState((handler,)), ANY) == {"kata": problem}
    program(firecracker, mode=0o644)
    assert kata_file_problems(KataState((handler,)), ANY) == {"kata": f"path {firecracker} is not executable"}


def test_the_hypervisor_that_a_drop_in_names_is_looked_at(tmp_path: Path) -> None:
    here, drop_in = program(tmp_path / "qemu"), "/config.d/70.toml"
    handler = DeclaredHandler(
        "kata", "s", None, "/c.toml", main=f'[hypervisor.qemu]\npath = "{here}"\nimage = "/bin/true"\n'.encode()
    )
    assert kata_file_problems(KataState((handler,)), ANY) == {}
    other = replace(handler, drop_ins={drop_in: DirectoryEntry(FILE, b'[hypervisor.qemu]\npath = "/nowhere/qemu"\n', MODE)})
    assert kata_file_problems(KataState((other,)), ANY) == {"kata": "path /nowhere/qemu isn't there"}


def test_a_handler_whose_files_cannot_be_read_is_left_to_another_check() -> None:
    handler = DeclaredHandler("kata", "s", None, "/c.toml", main=None)
    assert kata_file_problems(KataState((handler,)), ANY) == {}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('image = "/bin/true"', ""),
        ('initrd = "/bin/true"', ""),
        ('image = "/bin/true"\ninitrd = "/bin/true"', "image and initrd are both set, and Kata accepts only one"),
        ('image = ""', "neither image nor initrd is set"),
        ("confidential_guest = true", ""),
        ('image = "/bin/true"\nkernel = "vmlinux"', f"kernel vmlinux {RELATIVE}"),
        ('image = "/bin/true"\nvirtio_fs_daemon = "virtiofsd"', f"virtio_fs_daemon virtiofsd {RELATIVE}"),
    ],
)
def test_what_a_guest_boots_from_has_to_be_clear(lines: str, problem: str) -> None:
    handler = DeclaredHandler("kata", "s", None, "/c.toml", main=f"[hypervisor.qemu]\n{lines}\n".encode())
    assert kata_file_problems(KataState((handler,)), ANY) == ({"kata": problem} if problem else {})


def test_the_rust_runtime_is_not_judged_by_the_rules_of_the_go_runtime() -> None:
    text = b'[hypervisor.qemu]\n[runtime]\nhypervisor_name = "qemu"\n'
    assert kata_file_problems(KataState((DeclaredHandler("kata", "s", None, "/c.toml", main=text),)), ANY) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "it mounts no /proc"),
        ("[]", "it is no object"),
        ('{"mounts": [{"destination": "/proc"}]}', ""),
        (
            '{"mounts": [{"destination": "/proc"}], "hooks": {"createRuntime": [{"path": "/nowhere/hook"}]}}',
            "its hook /nowhere/hook isn't",
        ),
        ('{"mounts": [{"destination": "/proc"}], "hooks": {"prestart": null, "poststop": [{"path": "/bin/true"}]}}', ""),
    ],
)
def test_a_specification_with_which_no_container_starts_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "spec.json").write_text(text)
    runtimes = {
        "based": {"runtime_type": "io.containerd.runc.v2", "base_runtime_spec": str(tmp_path / "spec.json")},
        "absent": {"runtime_type": "io.containerd.runc.v2", "base_runtime_spec": str(tmp_path / "none")},
        "plain": {"runtime_type": "io.containerd.runc.v2"},
    }
    found = base_spec_problems(config(tmp_path, **runtimes), ANY)
    assert set(found) == ({"based"} if words else set())
    assert words in found.get("based", "")


def test_stream_processors_of_plain_layers_need_their_programs(tmp_path: Path) -> None:
    there = str(program(tmp_path / "there"))
    plain, encrypted = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
    tables = {
        "gone": {"accepts": [plain], "path": "/nowhere"},
        "there": {"accepts": [plain], "path": there},
        "decoder": {"accepts": [encrypted], "path": "ctd-decoder"},
    }
    found = stream_processor_problems(EffectiveConfig({"stream_processors": tables}), {"PATH": str(tmp_path)}, ANY)
    assert found == {"gone": "/nowhere isn't there"}
    assert stream_processor_problems(EffectiveConfig({}), {}, ANY) == {}
