# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare a daemon's snapshots and blobs with their expected content: compare.py SOCKET ROOT < EXPECTED.

EXPECTED is JSON: SHA-256 by path, by chain ID. Prints, as JSON, how many files are wrong in each snapshot that is there, the
blobs that aren't what their digests say, and the names of images. Uses ctr alone, nothing of the collection.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
import sys

KEY = "compared"
TARGET = "/run/own-disk-compared"
SOCKET, ROOT = sys.argv[1:]
BLOBS = os.path.join(ROOT, "io.containerd.content.v1.content/blobs/sha256")


def ctr(*arguments: str) -> str:
    return subprocess.run(["ctr", "--address", SOCKET, *arguments], stdout=subprocess.PIPE, check=True, text=True).stdout


def sha256(path: str) -> str | None:
    """None if there is no such file."""
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except FileNotFoundError:
        return None


def files(root: str) -> dict[str, str | None]:
    paths = [os.path.join(directory, name) for directory, _, names in os.walk(root) for name in names]
    return {os.path.relpath(path, root): sha256(path) for path in paths}


def mount(options: str) -> None:
    """By mount(2), as containerd does: mount(8) can't take as many layers."""
    if ctypes.CDLL(None, use_errno=True).mount(b"overlay", TARGET.encode(), b"overlay", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount {options}")


def snapshot(chain: str) -> dict[str, str | None]:
    """SHA-256 by path of what a container on it would see; nothing if it can't have it."""
    # Not a view: nothing would keep that from the garbage collector.
    if subprocess.run(["ctr", "--address", SOCKET, "snapshots", "prepare", KEY, chain], check=False).returncode != 0:
        return {}
    try:
        mount(ctr("snapshots", "mounts", TARGET, KEY).split()[-1])
    except FileNotFoundError:
        return {}
    else:
        found = files(TARGET)
        subprocess.run(["umount", TARGET], check=True)
        return found
    finally:
        ctr("snapshots", "rm", KEY)


def main() -> None:
    expected = json.load(sys.stdin)
    os.makedirs(TARGET, exist_ok=True)
    there = {row.split()[0] for row in ctr("snapshots", "ls").splitlines()[1:]}
    wrong = {}
    for chain in there.intersection(expected):
        shown, right = snapshot(chain), expected[chain]
        wrong[chain] = sum(shown.get(path) != right.get(path) for path in {*shown, *right})
    digests = ctr("content", "ls", "-q").split()
    damaged = [one for one in digests if sha256(os.path.join(BLOBS, one.partition(":")[2])) != one.partition(":")[2]]
    json.dump({"snapshots": wrong, "blobs": damaged, "names": ctr("images", "ls", "-q").split()}, sys.stdout)


main()
