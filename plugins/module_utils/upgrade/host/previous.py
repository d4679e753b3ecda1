# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The change of a node back to a generation that was kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.record import record_path
from ansible_collections.slipway.node.plugins.module_utils.config.request import ConfigRequest
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import read_bytes
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import (
    ABSENT,
    FILE,
    LINK,
    PACKAGES,
    Kept,
)
from ansible_collections.slipway.node.plugins.module_utils.release.host.install import read_state
from ansible_collections.slipway.node.plugins.module_utils.release.plan import CURRENT
from ansible_collections.slipway.node.plugins.module_utils.upgrade.databases import opens
from ansible_collections.slipway.node.plugins.module_utils.upgrade.generation import PACKAGE, PREVIOUS, Manifest, target_of
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import generation as store
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import packages
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.proof import (
    Warn,
    check_well,
    ended_by,
    prove,
    readable_config,
)
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.transaction import Change
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.upgraded import NodeChange, check_stop, new_manifest

_PACKAGED = "/usr/bin/containerd"


def plan_previous(containerd: Containerd, wanted: int | None, request: ConfigRequest, lock: int, warn: Warn) -> NodeChange:
    """Plan the change to the generation with this number, or to the newest that an upgrade kept.

    The daemon of today needn't be healthy, and its program may be missing. Raises ValueError or HostError if there is no such
    generation, if its programs are gone, or if going back would cost containers.
    """
    kept_ones = store.manifests()
    target = target_of(kept_ones, wanted)
    store.check_unit(target, containerd.unit.name)
    version = _version(containerd, kept_ones)
    objects = store.objects_of(target.number)
    runner = containerd.runner
    files = tuple(_file_change(target.number, one) for one in objects if one.kind in (FILE, ABSENT))
    kept = f"{store.directory_of(target.number)}/packages" if any(one.kind == PACKAGES for one in objects) else None
    changed = not store.same(target.number) or (kept is not None and packages.differ(runner, kept))
    to_version = Version.parse(target.version)
    ends = ended_by(containerd, to_version, forced=request.force_restart) if changed else ()
    if changed:
        _warn_of_edits(target, warn)
        _check_programs(containerd, target, objects, has_packages=kept is not None)
        paths = [one.path for one in objects if one.kind in (FILE, LINK, ABSENT)]
        store.check_writable((*paths, *(packages.WRITTEN if kept is not None else ())))
        check_stop(ContainerdHost(containerd, request.drop_in_file), request, f"containerd goes back to {target.version}")
        if not opens(to_version, version):
            raise HostError(f"containerd {to_version} can't open the databases of {version}")
    else:
        _check_settled(containerd, target)
    return NodeChange(
        changed=changed,
        version=version,
        to_version=to_version,
        files=files,
        diff=(*_link_diffs(objects), *shown_files(files)),
        config=None,
        change=_change(containerd, version, target, objects, kept, request.timeout, lock, ends),
    )


def _warn_of_edits(target: Manifest, warn: Warn) -> None:
    """Say which edits since the upgrade will be gone. After another change, its files differ anyway."""
    last = max(store.numbers())
    found = [path for path in store.edited(target.number) if not path.endswith(record_path(""))] if target.number == last else []
    if found:
        warn(
            f"files were edited after the upgrade to {target.to_version}, and become those of before it: {', '.join(found)}; "
            f"{store.directory_of(last + 1)} keeps the edits"
        )


def _version(containerd: Containerd, kept: Iterable[Manifest]) -> Version:
    """Return the version of today; that of the last change if there is no program that says it."""
    try:
        return containerd.version
    except HostError:
        return Version.parse(max(kept, key=lambda one: one.number).to_version)


def _check_programs(containerd: Containerd, target: Manifest, objects: Iterable[Kept], *, has_packages: bool) -> None:
    """Raise HostError if the programs of a generation are gone: the files that lead to them would be of no use."""
    for one in objects:
        if one.kind == LINK and os.path.basename(one.path) == CURRENT:
            home = os.path.dirname(one.path)
            if not any(found.whole and found.directory == one.target for found in read_state(home, home).installed):
                raise HostError(
                    f"{home}/{one.target}, the program directory of generation {target.number}, is missing or damaged: bring it "
                    "back with slipway.node.release_install (state: staged), or name another generation"
                )
    if target.origin == PACKAGE and not has_packages:
        # The change was from a package to a release, and the package stayed.
        found_version = str(containerd.with_binary(_PACKAGED).version)
        if found_version != target.version:
            raise HostError(
                f"{_PACKAGED} is containerd {found_version}, not {target.version} as in generation {target.number}: "
                "install that version of its package, or name another generation"
            )


def _check_settled(containerd: Containerd, target: Manifest) -> None:
    """Raise HostError if the daemon isn't well on the files of the generation, which the node has already."""
    try:
        check_well(containerd)
    except HostError as error:
        raise HostError(
            f"the node has the files of generation {target.number} already, and isn't healthy: {error}: "
            f"restart {containerd.unit.name}, or name another generation"
        ) from error


def _change(
    containerd: Containerd,
    version: Version,
    target: Manifest,
    objects: Sequence[Kept],
    kept: str | None,
    timeout: float,
    lock: int,
    ends: tuple[str, ...],
) -> Change:
    paths = tuple(one.path for one in objects if one.kind in (FILE, LINK, ABSENT))

    def switch() -> None:
        store.restore(target.number, lock)
        store.remove_new_directories(target)

    def start() -> Containerd:
        # The script has made systemd read its units again.
        client = containerd.renewed()
        if str(client.version) != target.version:
            program = client.program.path
            raise HostError(f"{program} is containerd {client.version}, not {target.version} as in generation {target.number}")
        prove(client, timeout)
        return client

    return Change(
        manifest=new_manifest(containerd, version, target.version, PREVIOUS, paths),
        paths=paths,
        databases=store.database_paths(readable_config(containerd)),
        databases_go_back=not opens(version, Version.parse(target.version)),
        keep_packages=_keeper(containerd.runner, kept) if kept is not None else None,
        switch=switch,
        start=start,
        strict=False,
        ends=ends,
        target=target.number,
    )


def _keeper(runner: Runner, kept: str) -> Callable[[str], None]:
    return lambda directory: packages.keep_against(runner, kept, directory)


def _file_change(number: int, kept: Kept) -> FileChange:
    before = read_bytes(kept.path) if store.describe(kept.path).kind == FILE else None
    after = store.read_copy(number, kept) if kept.kind == FILE else None
    return FileChange(kept.path, _text(before), _text(after))


def shown_files(files: Iterable[FileChange]) -> Iterator[dict[str, str]]:
    """Yield what diff mode shows of the files that change. A record holds secrets in a form of its own, and is never shown."""
    yield from (file.diff() for file in files if file.changed and not file.path.endswith(record_path("")))


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="replace")


def _link_diffs(objects: Sequence[Kept]) -> list[dict[str, str]]:
    """Return what diff mode shows of the links that change."""
    shown = []
    for one in objects:
        found = store.describe(one.path) if one.kind in (LINK, ABSENT) else one
        if LINK in (found.kind, one.kind) and found != one:
            shown.append(
                {"before_header": one.path, "after_header": one.path, "before": f"{found.target}\n", "after": f"{one.target}\n"}
            )
    return shown
