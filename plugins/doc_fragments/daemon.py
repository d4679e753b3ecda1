# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the daemon and its parts are."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that deal with a daemon."""

    DOCUMENTATION = r"""
options:
  config_file:
    description: The root configuration file, the one that the daemon is started with.
    type: path
    default: /etc/containerd/config.toml
  binary:
    description: containerd's program. Unless it is named, the one that the unit runs, else the one in the usual directories.
    type: path
  unit:
    description: The systemd service that runs the daemon.
    type: str
    default: containerd.service
  address:
    description: The daemon's socket.
    type: path
    default: /run/containerd/containerd.sock
"""
