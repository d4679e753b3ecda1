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
        node itself downloads a URL, through the proxy in the environment variables of the task (C(https_proxy)).
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

- name: Install the next version beside the linked one
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

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.release.host.release_install import OPTIONS, RULES, run
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def main() -> None:
    run_module(run, OPTIONS, **RULES)


if __name__ == "__main__":
    main()
