# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd on a node, as its own programs and systemd see it; nothing here uses the collection."""

from __future__ import annotations

import hashlib
import json
import tomllib
from typing import Any

from nodes.node import Node

ROOT = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/60-slipway.toml"
RECORD = f"{ROOT}.slipway.json"
CRI = "io.containerd.grpc.v1.cri"
IMAGES = "io.containerd.cri.v1.images"
RUNTIME = "io.containerd.cri.v1.runtime"
PACKAGED = "/root/packaged-config.toml"


def install(node: Node) -> None:
    """containerd from the distribution, or upstream's by the role, with what the modules need.

    The packaged configuration is kept aside. A release has none: as in Debian's, the CNI plugins' directory is all that it says.
    """
    if node.exec("test", "-e", PACKAGED, check=False).returncode == 0:
        return
    packages = f"{'' if node.upstream else 'containerd'} runc e2fsprogs python3-tomlkit strace"
    node.ssh(
        "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && "
        f"apt-get -qq install --no-install-recommends {packages} >/dev/null"
    )
    if node.upstream:
        played = node.play("slipway.node.provision")
        assert played["stats"][node.name]["failures"] == 0, played
        version = 3 if node.line < (2, 3) else 4
        write(node, PACKAGED, f'version = {version}\n[plugins."{RUNTIME}".cni]\n  bin_dirs = ["/usr/lib/cni"]')
    else:
        node.ssh(f"cp {ROOT} {PACKAGED}")


def reset(node: Node, root: str | None = "packaged") -> None:
    """The daemon as it comes from the package, or with another root file (None: with none), and healthy if it can be."""
    node.ssh(
        "systemctl stop containerd; pkill -9 -f [c]ontainerd-shim; "
        "rm -rf /etc/containerd /etc/systemd/system/containerd.service.d /usr/local/sbin/systemctl; mkdir /etc/containerd",
        check=False,
    )
    if root == "packaged":
        node.ssh(f"cp {PACKAGED} {ROOT}")
    elif root is not None:
        write(node, ROOT, root)
    restart(node)


def restart(node: Node) -> None:
    node.ssh("systemctl daemon-reload; systemctl reset-failed containerd; systemctl restart containerd", check=False)


def write(node: Node, path: str, text: str) -> None:
    node.ssh(f"mkdir -p $(dirname {path}) && cat > {path} <<'END'\n{text}\nEND")


def read(node: Node, path: str) -> str | None:
    done = node.exec("cat", path, check=False)
    return done.stdout if done.returncode == 0 else None


def dump(node: Node) -> dict[str, Any]:
    return tomllib.loads(node.exec("containerd", "config", "dump").stdout)


def plugins(node: Node) -> dict[str, str]:
    """State by TYPE.ID; empty if the daemon doesn't answer."""
    done = node.exec("ctr", "plugins", "ls", check=False)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return {f"{row[0]}.{row[1]}": row[-1] for row in rows if len(row) > 2}


def main_pid(node: Node) -> int:
    return int(node.exec("systemctl", "show", "--property=MainPID", "--value", "containerd").stdout)


def is_well(node: Node) -> bool:
    """Active, answering, CRI ok."""
    active = node.exec("systemctl", "is-active", "containerd", check=False).stdout.strip() == "active"
    return active and plugins(node).get(CRI) == "ok"


def etc_hashes(node: Node) -> dict[str, str]:
    """Every file that a provisioning could touch, with mode, owner, times and a hash of its content."""
    listing = node.ssh(
        "find /etc /usr/local /root /var/lib/containerd /run/systemd/system -xdev -not -path '*/io.containerd.*' "
        "-printf '%p %y %m %U %G %T@ %l\\n' | sort; "
        "find /etc /usr/local /root -xdev -type f -print0 | sort -z | xargs -0 sha256sum"
    ).stdout
    return {line: hashlib.sha256(line.encode()).hexdigest() for line in listing.splitlines()}


def record(node: Node) -> dict[str, Any]:
    text = read(node, RECORD)
    found: dict[str, Any] = json.loads(text) if text else {}
    return found
