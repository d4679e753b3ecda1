#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: release_install
short_description: Install and switch between release archives of a program
version_added: 0.1.0
description:
  - Installs a release archive (containerd, Kata Containers) or a single executable (runc) into a directory of its own for each
    version, and links its executables.
  - The module refuses an archive with a wrong checksum, for another architecture, or with members outside its directory, and
    then installs nothing.
  - All links switch to another version in one step. Switching back to a version that is still installed needs no download.
  - Everything is on disk when the module returns.
author:
  - the slipway.node authors (@slipway)
options:
  name:
    description: Name of the program. If O(src) is an executable, it is installed under this name.
    type: str
    required: true
  version:
    description: Version of O(src). Required with O(state=present) and O(state=staged).
    type: str
  src:
    description:
      - Path or URL (V(https), V(http), V(file)) of a tar archive (plain, gzip, xz or zstd) or an ELF executable.
      - A path is on the controller, unless O(remote_src) is V(true). The file is sent to a temporary directory of the node. The
        node itself downloads a URL.
      - It is neither sent, downloaded nor read if the version is already installed. In check mode, nothing is sent or downloaded,
        and a path on the node doesn't have to exist.
      - Required with O(state=present) and O(state=staged).
    type: str
  remote_src:
    description: Whether a path in O(src) is an absolute path on the node.
    type: bool
    default: false
  sha256:
    description: SHA-256 checksum of O(src), 64 hexadecimal digits. Required with O(state=present) and O(state=staged).
    type: str
  architecture:
    description: Architecture of the executables, as C(uname -m) or Go name it. Default is the architecture of the node.
    type: str
  bin_dir:
    description: Directory in the archive whose executables are linked. V(.) is the root of the archive.
    type: str
    default: bin
  install_root:
    description:
      - The directory that contains all files of an archive whose files refer to each other by absolute path, such as V(/opt/kata).
      - The module then creates one link, from this path to the same directory of the installed version. It doesn't link the
        executables one by one. O(bin_dir) must be inside this directory.
    type: path
  prefix:
    description: Directory of the installed versions, which are stored in C(PREFIX/NAME/VERSION-CHECKSUM).
    type: path
    default: /usr/local/lib/slipway
  link_dir:
    description: Directory of the links to the executables.
    type: path
    default: /usr/local/bin
  adopt:
    description: Replace files and links that this module didn't create, where it needs a link. If V(false), the module fails and names them.
    type: bool
    default: false
  keep_versions:
    description: Number of other versions to keep.
    type: int
    default: 1
  url_username:
    description: User name for basic authentication at the server of O(src).
    type: str
  url_password:
    description: Password of O(url_username).
    type: str
  timeout:
    description: Seconds to wait for the server during a download.
    type: int
    default: 60
  state:
    description:
      - V(present) installs and links the version.
      - V(staged) installs the version beside the linked one. No link changes and no other version is removed. A later V(present)
        links it without a download.
      - V(absent) removes all versions and links.
    type: str
    choices: [present, staged, absent]
    default: present
extends_documentation_fragment:
  - slipway.node.attributes
attributes:
  check_mode:
    support: full
    details: Links to executables are predicted only if O(src) is a file on the node. Nothing is downloaded.
  diff_mode:
    support: full
  idempotent:
    support: full
  action:
    description: A part of the module runs on the controller.
    support: full
  async:
    description: The module supports C(async).
    support: partial
    details: A file on the controller can't be sent by a task with C(async).
notes:
  - A zstd archive needs Python 3.14 or the program C(zstd) on the node.
  - During a long task, a line every 60 seconds says that it is still running. The variable C(slipway_progress_seconds) sets the
    interval; V(0) disables the line.
"""

EXAMPLES = r"""
- name: Install containerd
  slipway.node.release_install:
    name: containerd
    version: 2.1.4
    src: https://github.com/containerd/containerd/releases/download/v2.1.4/containerd-2.1.4-linux-amd64.tar.gz
    sha256: "{{ containerd_archive_sha256 }}"

- name: Install Kata Containers, whose files refer to each other below /opt/kata
  slipway.node.release_install:
    name: kata
    version: 3.26.0
    src: kata-static-3.26.0-amd64.tar.zst
    sha256: "{{ kata_archive_sha256 }}"
    install_root: /opt/kata
    bin_dir: opt/kata/bin

- name: Install runc from a file on the node
  slipway.node.release_install:
    name: runc
    version: 1.3.0
    src: /root/runc.amd64
    remote_src: true
    sha256: "{{ runc_sha256 }}"

- name: Bring the next version to the node, and keep the linked one in use
  slipway.node.release_install:
    name: containerd
    version: 2.3.7
    src: https://github.com/containerd/containerd/releases/download/v2.3.7/containerd-2.3.7-linux-amd64.tar.gz
    sha256: "{{ containerd_next_sha256 }}"
    state: staged

- name: Remove all versions
  slipway.node.release_install:
    name: runc
    state: absent
"""

RETURN = r"""
version:
  description: The installed version; null with O(state=absent).
  type: str
  returned: success
  sample: 2.1.4
path:
  description: Directory of the version; null with O(state=absent).
  type: str
  returned: success
  sample: /usr/local/lib/slipway/containerd/2.1.4-316d510a0428
links:
  description: Paths of the links. Empty with O(state=staged), and in check mode if O(src) can't be read.
  type: list
  elements: str
  returned: success
  sample: [/usr/local/bin/containerd, /usr/local/bin/ctr]
previous:
  description: The version that was linked before, and still is with O(state=staged); null if there was none.
  type: str
  returned: success
installed:
  description:
    - Whether the version was completely installed before the run. If V(false), O(src) is needed.
    - V(false) with O(state=absent).
  type: bool
  returned: success
removed:
  description: Paths of the version directories and links that were removed, or would be in check mode.
  type: list
  elements: str
  returned: success
"""

import os
import posixpath
from contextlib import ExitStack
from typing import IO, Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.core.controller_file import LATER, NEEDS_FILE, NOW
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
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def result_of(plan: Plan, found: InstalledReleases, release: Release | None, home: str) -> dict[str, Any]:
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
    found = read_state(home, links)
    plan = plan_absent(found, home=home)
    if plan.changed and not module.check_mode:
        apply_plan(plan, home, None)
    return result_of(plan, found, None, home)


def on_controller(module: AnsibleModule) -> bool:
    return not module.params["remote_src"] and "://" not in module.params["src"]


def can_look(module: AnsibleModule, src: str) -> bool:
    """Whether the archive can be read now. Only a real run downloads, or insists on a file that an earlier task brings."""
    path = local_path(src)
    return not module.check_mode or (path is not None and os.path.exists(path))


def install(module: AnsibleModule, release: Release, home: str, links: str) -> dict[str, Any]:
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
    params = module.params
    links = parse_directory(params["link_dir"], "link_dir")
    if params["install_root"] is not None:
        links = posixpath.dirname(parse_directory(params["install_root"], "install_root"))
    home = f"{parse_directory(params['prefix'], 'prefix')}/{parse_name(params['name'])}"
    if params["state"] == "absent":
        return remove(module, home, links)
    release = parse_release(params, node_architecture=os.uname().machine)
    return install(module, release, home, links)


def main() -> None:
    run_module(
        run,
        {
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
        },
        required_if=[("state", state, ("version", "src", "sha256")) for state in ("present", "staged")],
    )


if __name__ == "__main__":
    main()
