# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Installing a release: the run of the module release_install."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from contextlib import ExitStack
from typing import IO, Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.core.controller_file import LATER, NEEDS_FILE, NOW
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import check_not_interrupted
from ansible_collections.slipway.node.plugins.module_utils.release.host.archive import Contents, inspect
from ansible_collections.slipway.node.plugins.module_utils.release.host.install import (
    apply_plan,
    check_room,
    local_path,
    open_source,
    read_state,
)
from ansible_collections.slipway.node.plugins.module_utils.release.plan import (
    InstalledReleases,
    Plan,
    Release,
    parse_directory,
    parse_name,
    parse_release,
    plan_absent,
    plan_present,
    plan_staged,
)

OPTIONS: Mapping[str, Any] = {
    "name": {"type": "str", "required": True},
    "version": {"type": "str"},
    "src": {"type": "str"},
    "remote_src": {"type": "bool", "default": False},
    "sha256": {"type": "str"},
    "architecture": {"type": "str"},
    "bin_dir": {"type": "str", "default": "bin"},
    "install_root": {"type": "path"},
    "prefix": {"type": "path", "default": "/usr/local/lib/slipway"},
    "link_dir": {"type": "path", "default": "/usr/local/bin"},
    "adopt": {"type": "bool", "default": False},
    "keep_versions": {"type": "int", "default": 1},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "timeout": {"type": "int", "default": 60},
    "state": {"type": "str", "choices": ["present", "staged", "absent"], "default": "present"},
}
RULES: Mapping[str, Any] = {"required_if": [("state", state, ("version", "src", "sha256")) for state in ("present", "staged")]}


def result_of(plan: Plan, found: InstalledReleases, release: Release | None, home: str) -> dict[str, Any]:
    """Return the module's result."""
    before = {path: link.target for path, link in found.links.items() if path in (*plan.links.wanted, *plan.links.stale)}
    version = release.version if release else None
    return {
        "changed": plan.changed,
        "version": version,
        "path": f"{home}/{release.directory}" if release else None,
        "links": sorted(plan.links.wanted),
        "previous": found.version,
        "installed": release is not None and not plan.install,
        "removed": [*plan.links.stale, *(f"{home}/{name}" for name in plan.dropped)],
        "diff": {
            "before": {"path": f"{home}/{found.current}" if found.current else None, "links": before},
            "after": {"path": f"{home}/{plan.current}" if plan.current else None, "links": dict(plan.links.wanted)},
        },
    }


def remove(module: AnsibleModule, home: str, links: str) -> dict[str, Any]:
    """Remove the release and its links."""
    found = read_state(home, links)
    plan = plan_absent(found, home=home)
    if plan.changed and not module.check_mode:
        apply_plan(plan, home, None)
    return result_of(plan, found, None, home)


def on_controller(module: AnsibleModule) -> bool:
    """Return whether the archive is a file of the controller."""
    return not module.params["remote_src"] and "://" not in module.params["src"]


def can_look(module: AnsibleModule, src: str) -> bool:
    """Whether the archive can be read now. Only a real run downloads, or insists on a file that an earlier task brings."""
    path = local_path(src)
    return not module.check_mode or (path is not None and os.path.exists(path))


def install(module: AnsibleModule, release: Release, home: str, links: str) -> dict[str, Any]:
    """Install the release, or answer that its archive is needed."""
    params = module.params
    found = read_state(home, links)
    with ExitStack() as stack:
        source: tuple[IO[bytes], Release, Contents] | None = None
        there = found.whole(release)
        executables = there.executables if there else None
        waiting = there is None and on_controller(module)
        if waiting and not module.check_mode:
            return {NEEDS_FILE: NOW}
        if there is None and not waiting and can_look(module, params["src"]):
            stream = stack.enter_context(open_source(module, params["src"], release, home))
            contents = inspect(stream, release, params["src"])
            check_room(home, contents)
            source = (stream, release, contents)
            executables = tuple(contents.executables)
        if release.tree is not None:
            executables = (release.tree,)
        if params["state"] == "staged":
            plan = plan_staged(found, release)
        else:
            keep, adopt = params["keep_versions"], params["adopt"]
            plan = plan_present(found, release, executables, links=links, home=home, adopt=adopt, keep=keep)
        if plan.changed and not module.check_mode:
            apply_plan(plan, home, source)
    return {**result_of(plan, found, release, home), **({NEEDS_FILE: LATER} if waiting else {})}


def run(module: AnsibleModule) -> dict[str, Any]:
    """Install or remove a release."""
    params = module.params
    if params["state"] != "staged":
        check_not_interrupted()
    links = parse_directory(params["link_dir"], "link_dir")
    if params["install_root"] is not None:
        links = posixpath.dirname(parse_directory(params["install_root"], "install_root"))
    home = f"{parse_directory(params['prefix'], 'prefix')}/{parse_name(params['name'])}"
    if params["state"] == "absent":
        return remove(module, home, links)
    release = parse_release(params, node_architecture=os.uname().machine)
    return install(module, release, home, links)
