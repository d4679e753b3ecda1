# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs and files as the daemon finds them. Only runc and its shim are run, and nothing but a file is opened."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import RUNC_TYPE
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import file_problem, naming, open_file
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import archive_hint
from ansible_collections.slipway.node.plugins.module_utils.kata.state import KataState
from ansible_collections.slipway.node.plugins.module_utils.verify.handler_checks import is_runc, shim_name
from ansible_collections.slipway.node.plugins.module_utils.verify.kata_checks import (
    PROGRAM_KEYS,
    NotReadable,
    image_problem,
    inspect,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.programs import (
    HEAD_BYTES,
    PLAIN_LAYERS,
    Program,
    answer_problem,
    head_problem,
    interpreter,
    spec_needs,
)

# Where containerd's unit finds programs if the unit doesn't say it, as systemd sets it.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ANY_EXECUTE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_RELATIVE = "isn't an absolute path, and the shim's directory differs for each container"
# As deep as the kernel follows scripts that name scripts.
_SCRIPTS = 4
# The option with which the shim of runc, and runc and its like, print their version.
_VERSION_OPTIONS = ("-v", "--version")
_ANSWER_SECONDS = 10.0


def read_programs(
    config: EffectiveConfig, environment: Mapping[str, str], executable: str | None, architecture: str
) -> dict[str, tuple[Program, ...]]:
    """Return the programs by handler, the default handler first: the shim, and the runtime that the shim starts.

    ``environment`` is the daemon's, ``executable`` its program. Without a handler, clients start containers with runc.
    """
    path = ":".join([config.own_programs_dir, environment.get("PATH") or _PATH])
    beside = posixpath.dirname(executable) if executable else None

    def read(name: str, kind: str, shim: str | None) -> tuple[Program, ...]:
        programs = [find_program(shim or shim_name(kind), path, architecture, beside)]
        if is_runc(kind):
            runtime = config.handler_options(name).get("BinaryName") or "runc"
            found = find_program(str(runtime), path if config.shim_path is None else config.shim_path, architecture)
            hidden = found.path is None and config.shim_path is not None
            programs.append(
                replace(found, problem="is not on the PATH in env of io.containerd.shim.v1.manager") if hidden else found
            )
        return tuple(programs)

    default = config.default_runtime or "runc"
    types = {name: (handler.type or "", handler.path) for name, handler in config.handlers.items()} or {"runc": (RUNC_TYPE, None)}
    ordered = sorted(types, key=lambda name: (name != default, name))
    return {name: read(name, *types[name]) for name in ordered if types[name][1] or shim_name(types[name][0])}


def with_answers(
    runner: Runner, config: EffectiveConfig, programs: Mapping[str, Sequence[Program]]
) -> dict[str, tuple[Program, ...]]:
    """Ask the shims of runc and their runtimes for their versions, so that a damaged program is known."""
    problems: dict[tuple[str, str], str] = {}

    def asked(program: Program, option: str) -> Program:
        if program.path is None or program.problem:
            return program
        key = (program.path, option)
        if key not in problems:
            problems[key] = _answer_problem(runner, *key)
        return replace(program, problem=problems[key])

    types = {name: handler.type or "" for name, handler in config.handlers.items()} or {"runc": RUNC_TYPE}
    return {
        name: tuple(map(asked, found, _VERSION_OPTIONS)) if is_runc(types[name]) else tuple(found)
        for name, found in programs.items()
    }


def _answer_problem(runner: Runner, path: str, option: str) -> str:
    try:
        done = runner.try_run(path, option, timeout=_ANSWER_SECONDS)
    except HostError as error:
        return f"can't be run ({error})"
    return answer_problem(done.code, done.stdout + done.stderr, option)


def stream_processor_problems(config: EffectiveConfig, environment: Mapping[str, str], architecture: str) -> dict[str, str]:
    """Return by stream processor of plain layers why its program can't be run. Default ones are for encrypted layers only."""
    path, found = environment.get("PATH") or _PATH, {}
    for name, table in (config.lookup(("stream_processors",), {}) or {}).items():
        if PLAIN_LAYERS.intersection(table.get("accepts") or ()):
            problem = find_program(str(table.get("path") or ""), path, architecture).sentence()
            found.update({name: problem} if problem else {})
    return found


def root_problems(config: EffectiveConfig) -> dict[str, str]:
    """Return by handler why the directory in which runc keeps its state can't be made."""
    found = {}
    for name, handler in config.handlers.items():
        root = config.handler_options(name).get("Root")
        if is_runc(handler.type or "") and isinstance(root, str) and root:
            # A relative one is in the directory of each container.
            problem = directory_problem(root) if root.startswith("/") else ""
            if problem:
                found[name] = f"{root} can't be made: {problem}"
    return found


def base_spec_problems(config: EffectiveConfig, architecture: str) -> dict[str, str]:
    """Return by handler what is wrong with the OCI specification that its containers start from, and with its hooks."""
    found = {}
    for name in config.handlers:
        path = config.handler_base_spec(name)
        problems = _spec_problems(path, architecture) if path else []
        if problems:
            found[name] = f"base_runtime_spec {path}: {'; '.join(problems)}"
    return found


def _spec_problems(path: str, architecture: str) -> list[str]:
    if file_problem(path):
        # CRI says so itself, and doesn't start.
        return []
    try:
        hooks = spec_needs(read_text(path) or "")
    except (ValueError, TypeError, AttributeError, HostError) as error:
        return [f"no container starts with it ({error})"]
    return [f"its hook {hook} {problem}" for hook in hooks for problem in [program_problem(hook, architecture)] if problem]


def directory_problem(path: str) -> str:
    """Return why a directory can't be made, empty if it is there or can. Raises HostError if it can't be read."""
    while not os.path.lexists(path) and path != posixpath.dirname(path):
        path = posixpath.dirname(path)
    if not os.path.isdir(path):
        return f"{path} is no directory"
    with naming("read", path):
        return f"{path} is on a read-only file system" if os.statvfs(path).f_flag & os.ST_RDONLY else ""


def kata_file_problems(kata: KataState, architecture: str) -> dict[str, str]:
    """Return by Kata handler which files of its effective configuration are missing, and which programs can't be run."""
    found = {}
    for handler in kata.handlers:
        try:
            inspection = inspect(handler)
        except NotReadable:
            continue
        problems = [
            f"{key} {path} {problem}"
            for key, path in inspection.files.items()
            for problem in [_kata_program_problem(path, architecture) if key in PROGRAM_KEYS else _guest_file_problem(path)]
            if problem
        ]
        problems += [problem for problem in [image_problem(inspection)] if problem]
        if problems:
            found[handler.name] = "; ".join(problems)
    return found


def _kata_program_problem(path: str, architecture: str) -> str:
    """Return why Kata can't run a program, and which archive has one that isn't there; empty if it can."""
    if not path.startswith("/"):
        return _RELATIVE
    problem = program_problem(path, architecture)
    return f"{problem}{archive_hint(path)}" if problem and not os.path.exists(path) else problem


def _guest_file_problem(path: str) -> str:
    """Return why a guest can't get a file, empty if it can. An image may also be a disk."""
    if not path.startswith("/"):
        return _RELATIVE
    problem = file_problem(path)
    if problem:
        return "" if problem == "is a device" else problem
    with naming("read", path):
        return "is empty" if os.stat(path).st_size == 0 else ""


def find_program(name: str, path: str, architecture: str, beside: str | None = None) -> Program:
    """Search a program as Go does: by its path, in ``path``, or in the directory ``beside`` the daemon's own program.

    containerd core/runtime/v2/shim_manager.go: resolveRuntimePath; os/exec: LookPath.
    """
    if "/" in name:
        return Program(name, name, program_problem(name, architecture))
    places = [posixpath.join(directory, name) for directory in path.split(":") if directory.startswith("/")]
    found = next((place for place in places if _executable(place)), None)
    if found is None and beside is not None and os.path.exists(posixpath.join(beside, name)):
        found = posixpath.join(beside, name)
    if found is not None:
        return Program(name, found, program_problem(found, architecture))
    broken = next((place for place in places if os.path.lexists(place)), None)
    return Program(name, broken, program_problem(broken, architecture)) if broken else Program(name, None)


def _executable(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISDIR(mode) and bool(mode & _ANY_EXECUTE)


def program_problem(path: str, architecture: str, depth: int = 0) -> str:
    """Return why the kernel can't run a program, empty if it can."""
    problem = file_problem(path)
    if problem:
        return problem
    try:
        if not os.stat(path).st_mode & _ANY_EXECUTE:
            return "is not executable"
        if os.statvfs(path).f_flag & os.ST_NOEXEC:
            return "is on a file system that is mounted noexec"
        with open_file(path) as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        return f"can't be read ({error.strerror})"
    script = interpreter(head)
    if script:
        deeper = depth < _SCRIPTS
        problem = program_problem(script, architecture, depth + 1) if deeper else "is one more script"
        return f"is a script, and its interpreter {script} {problem}" if problem else ""
    return head_problem(head, architecture)
