# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that locate the daemon."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules in the action group containerd."""

    DOCUMENTATION = r"""
options:
  config_file:
    description: The root configuration file, which the daemon is started with.
    type: path
    default: /etc/containerd/config.toml
  binary:
    description: Path of the containerd executable. Default is the one that the unit runs, or the one in a standard directory.
    type: path
  unit:
    description: The systemd service that runs the daemon.
    type: str
    default: containerd.service
  address:
    description: Path of the daemon's socket.
    type: path
    default: /run/containerd/containerd.sock
"""
