#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_upgrade
short_description: Change containerd on a node to another version, and go back if this fails
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Changes the programs, the unit and the configuration of containerd in one transaction. It works for upgrades and downgrades, from
    archives and from packages. The role P(slipway.node.upgrade#role) prepares the node for this module.
  - The configuration for the other version is planned and validated with the program O(to_binary) before anything is changed.
  - Before the first change, the module keeps a generation in C(/var/lib/slipway-node/generations). It contains the links to the
    programs, the unit, the configuration files, the archives of packages and copies of the daemon's databases.
  - The daemon is stopped, the programs are switched, and the daemon is started. Running containers keep running. The daemon has to
    start, to keep running, and to load its plugins. A container has to start with each runtime handler with which one started before.
    The daemon has to list each container that ran before, with the same process.
  - If a step fails, the script C(/var/lib/slipway-node/restore) restores the generation. The module starts the previous version,
    checks it, and fails with the cause.
  - If the module is killed, its next run restores the generation first. After a power cut, the unit C(slipway-restore.service)
    restores it before containerd starts. Until it is restored, M(slipway.node.containerd_config) and other modules that change
    containerd refuse to run.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - With V(upgraded), the node gets the version of O(to_binary). If the node is like that already, nothing changes.
      - With V(previous), the node goes back to a generation, see O(generation). The node of today is kept as another generation first.
        Its daemon may be dead, and its program may be missing. Settings, O(releases), O(packages) and O(unit_content) are ignored.
      - With V(recovered), an interrupted run is taken back, and nothing else is done.
    type: str
    choices: [upgraded, previous, recovered]
    default: upgraded
  to_binary:
    description:
      - Path of the containerd executable of the other version on the node. For a package, this is a copy that was unpacked in another
        directory.
      - Required with O(state=upgraded).
    type: path
  releases:
    description:
      - Releases that the links lead to after the change. They have to be on the node. M(slipway.node.release_install) with
        O(slipway.node.release_install#module:state=staged) installs a release without linking it.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the release, such as V(containerd) or V(runc).
        type: str
        required: true
      path:
        description: The version directory, as in RV(slipway.node.release_install#module:path).
        type: path
        required: true
  prefix:
    description: The directory of releases. With O(packages), the links to the releases V(containerd) and V(runc) in it are removed.
    type: path
    default: /usr/local/lib/slipway
  link_dir:
    description: The directory of the links to the programs of O(releases).
    type: path
    default: /usr/local/bin
  packages:
    description:
      - Packages to install with APT, as V(name), V(name=version) or V(name/suite). If packages are listed, a unit of this collection in
        C(/etc/systemd/system) is removed, and so are the links to releases, see O(prefix). The version directories of the releases
        stay.
    type: list
    elements: str
    default: []
  replace_packages:
    description: Installed packages that are removed, such as C(containerd) for Docker's C(containerd.io). No other package is removed.
    type: list
    elements: str
    default: []
  unit_content:
    description:
      - Content of the unit file in C(/etc/systemd/system), for releases. By default the file is left unchanged.
    type: str
  generation:
    description:
      - Number of the generation for O(state=previous). Default is the newest one that was kept before an upgrade.
    type: int
  restart:
    description:
      - With V(auto), a change that would kill running containers is refused. This is the case if the unit's C(KillMode) isn't
        V(process), or if containerd 2.x started containers and the node gets containerd 1.x, which doesn't find their shims.
      - With V(force), the change is made even if this kills running containers.
    type: str
    choices: [auto, force]
    default: auto
  keep:
    description:
      - Number of generations that stay on the node, at least 1. The newest ones stay. A generation that the node went back to, and one
        from which a process runs, stay too.
    type: int
    default: 2
  probe:
    description:
      - Whether to start a container with each runtime handler before and after the change. A Kata handler that could be given a disk of
        the host isn't started.
    type: bool
    default: true
  enable_cri:
    description: See O(slipway.node.containerd_config#module:enable_cri).
    type: bool
    default: false
  service_directives:
    description: See O(slipway.node.containerd_config#module:service_directives).
    type: dict
    default: {}
  drop_in_file:
    description: See O(slipway.node.containerd_config#module:drop_in_file).
    type: path
    default: /etc/containerd/conf.d/60-slipway.toml
  timeout:
    description: Seconds to wait until the daemon is up, and until another run on the node ends.
    type: int
    default: 60
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
  - slipway.node.settings
requirements:
  - tomlkit, to edit an existing file, and on Python older than 3.11
  - systemd
notes:
  - List all settings of the collection in O(settings), O(enable_cri), O(service_directives) and O(http_proxy), as for
    M(slipway.node.containerd_config). Earlier settings that aren't listed are reverted.
  - With O(state=upgraded), the change is refused if the daemon isn't healthy before it, if the other version refuses the settings, if
    no container starts with the default runtime handler, or if the default snapshotter would change.
  - A unit that systemd stops together with containerd, such as one with C(Requires=containerd.service), is started again.
  - M(slipway.node.release_install) keeps the version directories that a generation leads to.
seealso:
  - module: slipway.node.containerd_upgrade_info
  - module: slipway.node.containerd_config
  - module: slipway.node.release_install
"""

EXAMPLES = r"""
- name: Install the next version of containerd beside the linked one
  slipway.node.release_install:
    name: containerd
    version: 2.3.7
    src: https://github.com/containerd/containerd/releases/download/v2.3.7/containerd-2.3.7-linux-amd64.tar.gz
    sha256: "{{ containerd_next_sha256 }}"
    state: staged
  register: next_containerd

- name: Upgrade containerd
  slipway.node.containerd_upgrade:
    to_binary: "{{ next_containerd.path }}/bin/containerd"
    releases:
      - name: containerd
        path: "{{ next_containerd.path }}"
    settings:
      systemd_cgroup: true
      sandbox_image: registry.k8s.io/pause:3.10

- name: Go back to the version before the upgrade
  slipway.node.containerd_upgrade:
    state: previous

- name: Take back an interrupted upgrade
  slipway.node.containerd_upgrade:
    state: recovered
"""

RETURN = r"""
version:
  description: Version of containerd before the change. Empty with O(state=recovered) if nothing was interrupted.
  type: str
  returned: success, and when a change was taken back
  sample: 1.7.24
to_version:
  description: Version of containerd after the change. If the change was taken back, the version that was to be installed.
  type: str
  returned: success, and when a change was taken back
  sample: 2.3.7
generation:
  description: Number of the generation that was kept. Null if nothing changed, in check mode, and if a change was taken back.
  type: int
  returned: success, and when a change was taken back
  sample: 7
rolled_back:
  description:
    - Whether a change was taken back, and the previous version is proven. V(false) if the daemon was not healthy before the change
      either.
  type: bool
  returned: always
restarted:
  description: Whether the daemon was restarted, or would be in check mode.
  type: bool
  returned: always
containers:
  description: Number of containers that keep running with the same process. In check mode, the number of running containers.
  type: int
  returned: success
  sample: 12
databases:
  description:
    - V(kept) if the daemon keeps its databases, V(restored) if the copies from before the change were restored.
  type: str
  returned: success, and when a change was taken back
  sample: kept
files:
  description: The configuration files and the unit file. With O(state=previous), all files of the generation.
  type: list
  elements: dict
  returned: success
  contains:
    path:
      description: Path of the file.
      type: str
      sample: /etc/containerd/config.toml
    changed:
      description: Whether its content changes.
      type: bool
    exists:
      description: Whether the file exists afterwards.
      type: bool
effective:
  description: See RV(slipway.node.containerd_config#module:effective). Empty with O(state=previous) and O(state=recovered).
  type: dict
  returned: success
recovered:
  description: The interrupted run that was taken back first. Null if there was none.
  type: dict
  returned: success, and when the node isn't healthy after an interrupted run
  contains:
    generation:
      description: Number of its generation.
      type: int
      sample: 7
    step:
      description: Its last step, such as V(keeping), V(kept), V(switching), V(started), V(restored) or V(committed).
      type: str
      sample: switching
    version:
      description: Version of containerd before the run. Empty if the run ended before it kept a generation.
      type: str
      sample: 1.7.24
    to_version:
      description: Version of containerd that the run was to install.
      type: str
      sample: 2.3.7
journal:
  description: The last lines in the log of the other version.
  type: list
  elements: str
  returned: when a change was taken back
"""

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.core.host.secret_params import SecretParamsModule
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.containerd_upgrade import ON_FAILURE, OPTIONS, RULES, run


def main() -> None:
    run_module(run, OPTIONS, module_type=SecretParamsModule, on_failure=ON_FAILURE, **RULES)


if __name__ == "__main__":
    main()
