# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A toolbox is mounted where that is safe, however many layers it has; where it can't be, nothing is lost."""

from __future__ import annotations

from integration.toolbox_module import FRESH, PATH, UNIT, UNITS, box, clean, done, held, info, refused, shown

from nodes.images import busybox, random_layers
from nodes.node import Node
from nodes.registry import Registry

__all__ = ["clean"]

SNAPSHOTS = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"


def test_a_mount_that_fails_costs_nothing(clean: Node, source: Registry) -> None:
    reference = source.push(random_layers(2, seed=340))
    assert done(box(clean, reference)) == FRESH
    clean.ssh(f"echo kept > {PATH}/file")
    own = clean.ssh(f"findmnt --noheadings --output OPTIONS {PATH} | grep -o 'workdir=[^,]*' | cut -d= -f2").stdout.strip()
    assert own.startswith(SNAPSHOTS)
    # systemd would make what is missing, and mount what is no snapshot any more.
    clean.ssh(f"systemctl stop '{UNIT}'; mv {own} {own}.away")
    assert f"cannot mount {PATH}: {own}, a part of its snapshot, is gone" in refused(box(clean, reference))
    assert clean.ssh(f"systemctl start '{UNIT}'; test -e {own} || mountpoint -q {PATH}", check=False).returncode != 0
    # The kernel refuses an overlay without its lower directories.
    lower = clean.ssh(f"ctr snapshots mounts {PATH} {PATH} | grep -o 'lowerdir=[^,:]*' | cut -d= -f2").stdout.strip()
    clean.ssh(f"mv {own}.away {own}; mv {lower} {lower}.away")
    message = refused(box(clean, reference))
    assert f"cannot mount {PATH}: mount: {PATH}" in message and "its snapshot is as it was" in message, message
    assert info(clean)["Labels"]["containerd.io/gc.root"] and clean.ssh(f"test -e {UNITS}/{UNIT}").returncode == 0
    # A unit that has never been of use goes again.
    assert done(box(clean, reference, state="present")) == ["disable"]
    refused(box(clean, reference))
    assert clean.ssh(f"ls {UNITS}/{UNIT} {UNITS}/multi-user.target.wants/{UNIT}", check=False).stdout == ""
    clean.ssh(f"mv {lower}.away {lower}; rmdir {PATH}; chattr +i /var/lib/toolbox")
    message = refused(box(clean, reference))
    clean.ssh("chattr -i /var/lib/toolbox")
    assert f"cannot make the directory {PATH}: Operation not permitted" in message, message
    clean.ssh(f"touch {PATH}")
    assert "is not a directory" in refused(box(clean, reference))
    clean.ssh(f"rm {PATH}; mkdir {PATH}; touch {PATH}/mine")
    assert "has files in it" in refused(box(clean, reference))
    clean.ssh(f"rm {PATH}/mine; mount -t tmpfs other {PATH}")
    for state in ("mounted", "absent"):
        assert f"{PATH} is mounted from tmpfs other" in refused(box(clean, reference, state=state))
    clean.ssh(f"umount {PATH}; mkdir /run/held; $(ctr snapshots mounts /run/held {PATH})")
    assert "is mounted on /run/held too" in refused(box(clean, reference))
    clean.ssh("umount /run/held")
    assert done(box(clean, reference)) == ["unit", "enable", "mount"]
    assert clean.ssh(f"cat {PATH}/file").stdout == "kept\n"


def test_a_mount_of_a_snapshot_that_is_gone_is_replaced(clean: Node, source: Registry) -> None:
    reference = source.push([busybox(), *random_layers(1, seed=345)])
    clean.ssh(f"ctr images pull --plain-http {reference} >/dev/null; mkdir -p {PATH}; ctr images mount --rw {reference} {PATH}")
    with held(clean) as pid:
        clean.ssh(f"ctr leases rm --sync {PATH}")
        assert f"pid {pid} (busybox)" in refused(box(clean, reference))
    assert done(box(clean, reference)) == ["pull", "unmount", "prepare", "label", "unit", "enable", "mount"]
    assert clean.ssh(f"ls {PATH}").stdout.split() == ["bin", "layer0"]


def test_as_many_layers_as_the_kernel_takes(clean: Node, source: Registry) -> None:
    # Ids of snapshots have three digits again: with four, the page holds 488 layers.
    clean.ssh("systemctl stop containerd; rm -rf /var/lib/containerd/io.containerd.*; systemctl start containerd")
    layers = random_layers(501, files=1, size=16, seed=350)
    for count in (60, 130, 300, 499):
        reference = source.push(layers[:count])
        assert done(box(clean, reference, name=f"deep{count}"))[-1] == "mount"
        path = f"/var/lib/toolbox/deep{count}"
        assert clean.ssh(f"echo written > {path}/layer0/file0; ls {path} | wc -l; cat {path}/layer0/file0").stdout.split() == [
            str(count), "written",
        ]  # fmt: skip
    before = shown(clean)
    for check in (True, False):
        message = refused(box(clean, source.push(layers), name="deep501", check=check))
        assert "501 layers" in message
    assert shown(clean) == before
    # systemd mounts the deepest by itself.
    clean.ssh("systemctl stop var-lib-toolbox-deep499.mount; systemctl start var-lib-toolbox-deep499.mount")
    assert clean.ssh("cat /var/lib/toolbox/deep499/layer0/file0").stdout == "written\n"


def test_a_place_that_is_not_safe_is_refused(clean: Node, source: Registry) -> None:
    reference = source.push(random_layers(1, seed=390))
    clean.ssh(
        "mkdir -p /srv/theirs /srv/open /srv/real /srv/own/box; chown 1000 /srv/theirs /srv/own/box; chmod 777 /srv/open; "
        "touch /srv/own/box/file; "
        "ln -s real /srv/link"
    )
    before = shown(clean)
    places = {
        "/srv/theirs/box": "belongs to the user 1000",
        "/srv/open/box": "others than root can write",
        "/srv/link/box": "symbolic link",
        "/var/lib/containerd/box": "containerd keeps its own",
        "/srv/" + "a" * 300: "too long",
        "/srv/../etc/x": "without '..'",
        "/etc/x": "belongs to the system",
    }
    for path, words in places.items():
        message = refused(box(clean, reference, path=path))
        assert message.startswith("path ") and words in message, message
    for name in ("-x", "a b", "a\nb", "../x", "x" * 300):
        assert refused(box(clean, reference, name=name)).startswith("name takes")
    assert "has files in it" in refused(box(clean, reference, path="/srv/own/box"))
    assert shown(clean) == before
    # An empty one of another user, as Flatcar's command makes it, is root's from then on.
    clean.ssh("rm /srv/own/box/file")
    assert done(box(clean, reference, path="/srv/own/box")) == FRESH
    assert done(box(clean, reference, path="/srv/own/box", state="present")) == ["unmount", "disable"]
    assert clean.ssh("stat -c '%u %a' /srv/own/box; ls -A /srv/own/box").stdout == "0 755\n"
