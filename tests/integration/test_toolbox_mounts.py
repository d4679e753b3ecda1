# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A toolbox is mounted only where this is safe, with any number of layers. A refused mount loses no data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from integration.toolbox_module import (
    FRESH,
    PATH,
    UNIT,
    UNITS,
    box,
    empty_node,
    info,
    process_inside,
    refused,
    shown,
    steps_of,
    without_toolboxes,
)

from nodes.fixtures import SUITES
from nodes.images import busybox, random_layers
from nodes.node import Node
from nodes.registry import Registry

__all__ = ["empty_node"]

SNAPSHOTS = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"


@dataclass(frozen=True)
class Box:
    """A toolbox with a file in it."""

    node: Node
    reference: str

    def refused(self, **options: Any) -> str:
        return refused(box(self.node, self.reference, **options))

    def unmount(self) -> None:
        assert steps_of(box(self.node, self.reference, state="present")) == ["unmount", "disable"]

    def comes_back(self) -> bool:
        """The toolbox is mounted, or can be mounted again, and still contains its file."""
        assert not box(self.node, self.reference).get("failed")
        return self.node.ssh(f"cat {PATH}/file").stdout == "kept\n"

    def directory(self, option: str) -> str:
        """The first directory of overlay's option ``lowerdir`` or ``workdir``."""
        shown = f"ctr snapshots mounts {PATH} {PATH} | grep -o '{option}=[^,:]*' | cut -d= -f2"
        found: str = self.node.ssh(shown).stdout.strip()
        assert found.startswith(SNAPSHOTS)
        return found


@pytest.fixture(scope="class", params=SUITES)
def toolbox(request: pytest.FixtureRequest, nodes: dict[str, Node], source: Registry) -> Iterator[Box]:
    node = nodes[request.param]
    with without_toolboxes(node):
        reference = source.push(random_layers(2, seed=340))
        assert steps_of(box(node, reference)) == FRESH
        node.ssh(f"echo kept > {PATH}/file")
        yield Box(node, reference)


@pytest.mark.two_versions
class TestMountThatFails:
    """The mount is refused, and costs nothing: once its reason is gone, the toolbox comes back."""

    @pytest.mark.smoke
    def test_a_missing_work_directory_is_not_created(self, toolbox: Box) -> None:
        own = toolbox.directory("workdir")
        toolbox.node.ssh(f"systemctl stop '{UNIT}'; mv {own} {own}.away")
        assert f"cannot mount {PATH}: {own}, a part of its snapshot, is gone" in toolbox.refused()
        # systemd would create it, and mount what is no snapshot any more.
        tried = toolbox.node.ssh(f"systemctl start '{UNIT}'; test -e {own} || mountpoint -q {PATH}", check=False)
        toolbox.node.ssh(f"mv {own}.away {own}")
        assert tried.returncode != 0
        assert toolbox.comes_back()

    def test_the_kernels_reason_is_in_the_message(self, toolbox: Box) -> None:
        # The kernel refuses an overlay without its lower directories.
        lower = toolbox.directory("lowerdir")
        toolbox.node.ssh(f"systemctl stop '{UNIT}'; mv {lower} {lower}.away")
        message = toolbox.refused()
        toolbox.node.ssh(f"mv {lower}.away {lower}")
        assert f"cannot mount {PATH}: mount: {PATH}" in message and "its snapshot is unchanged" in message, message
        assert info(toolbox.node)["Labels"]["containerd.io/gc.root"]
        assert toolbox.node.ssh(f"test -e {UNITS}/{UNIT}").returncode == 0
        assert toolbox.comes_back()

    def test_a_unit_that_was_never_mounted_is_removed(self, toolbox: Box) -> None:
        lower = toolbox.directory("lowerdir")
        toolbox.unmount()
        toolbox.node.ssh(f"mv {lower} {lower}.away")
        toolbox.refused()
        toolbox.node.ssh(f"mv {lower}.away {lower}")
        units = f"{UNITS}/{UNIT} {UNITS}/multi-user.target.wants/{UNIT}"
        assert toolbox.node.ssh(f"ls {units}", check=False).stdout == ""
        assert toolbox.comes_back()

    def test_a_directory_that_cannot_be_created_is_named(self, toolbox: Box) -> None:
        toolbox.unmount()
        toolbox.node.ssh(f"rmdir {PATH}; chattr +i /var/lib/toolbox")
        message = toolbox.refused()
        toolbox.node.ssh("chattr -i /var/lib/toolbox")
        assert f"cannot create the directory {PATH}: Operation not permitted" in message, message
        assert toolbox.comes_back()

    @pytest.mark.parametrize(
        ("create", "remove", "reason"),
        [
            (f"rmdir {PATH}; touch {PATH}", f"rm {PATH}; mkdir {PATH}", "is not a directory"),
            (f"touch {PATH}/mine", f"rm {PATH}/mine", "has files in it"),
            (f"mount -t tmpfs other {PATH}", f"umount {PATH}", f"{PATH} is mounted from tmpfs other"),
            (f"mkdir /run/held; $(ctr snapshots mounts /run/held {PATH})", "umount /run/held", "is mounted on /run/held too"),
        ],
        ids=["file", "files", "mount", "second mount"],
    )
    def test_what_is_in_the_way_is_named(self, toolbox: Box, create: str, remove: str, reason: str) -> None:
        toolbox.unmount()
        toolbox.node.ssh(create)
        message = toolbox.refused()
        toolbox.node.ssh(remove)
        assert reason in message
        assert toolbox.comes_back()

    def test_a_mount_of_another_file_system_is_not_removed_with_the_toolbox(self, toolbox: Box) -> None:
        toolbox.unmount()
        toolbox.node.ssh(f"mount -t tmpfs other {PATH}")
        message = toolbox.refused(state="absent")
        toolbox.node.ssh(f"umount {PATH}")
        assert f"{PATH} is mounted from tmpfs other" in message
        assert toolbox.comes_back()


def test_a_mount_of_a_snapshot_that_is_gone_is_replaced(empty_node: Node, source: Registry) -> None:
    reference = source.push([busybox(), *random_layers(1, seed=345)])
    empty_node.ssh(
        f"ctr images pull --plain-http {reference} >/dev/null; mkdir -p {PATH}; ctr images mount --rw {reference} {PATH}"
    )
    with process_inside(empty_node) as pid:
        empty_node.ssh(f"ctr leases rm --sync {PATH}")
        assert f"pid {pid} (busybox)" in refused(box(empty_node, reference))
    assert steps_of(box(empty_node, reference)) == ["pull", "unmount", "prepare", "label", "unit", "enable", "mount"]
    assert empty_node.ssh(f"ls {PATH}").stdout.split() == ["bin", "layer0"]


@pytest.mark.two_versions
def test_as_many_layers_as_the_kernel_takes(empty_node: Node, source: Registry) -> None:
    # Ids of snapshots have three digits again: with four, the page holds 488 layers.
    empty_node.ssh("systemctl stop containerd; rm -rf /var/lib/containerd/io.containerd.*; systemctl start containerd")
    layers = random_layers(501, files=1, size=16, seed=350)
    for count in (60, 130, 300, 499):
        reference = source.push(layers[:count])
        assert steps_of(box(empty_node, reference, name=f"deep{count}"))[-1] == "mount"
        path = f"/var/lib/toolbox/deep{count}"
        said = empty_node.ssh(f"echo written > {path}/layer0/file0; ls {path} | wc -l; cat {path}/layer0/file0")
        assert said.stdout.split() == [str(count), "written"]
    before = shown(empty_node)
    for check in (True, False):
        message = refused(box(empty_node, source.push(layers), name="deep501", check=check))
        assert "501 layers" in message
    assert shown(empty_node) == before
    # systemd mounts the deepest by itself.
    empty_node.ssh("systemctl stop var-lib-toolbox-deep499.mount; systemctl start var-lib-toolbox-deep499.mount")
    assert empty_node.ssh("cat /var/lib/toolbox/deep499/layer0/file0").stdout == "written\n"


@pytest.mark.smoke
@pytest.mark.two_versions
def test_a_place_that_is_not_safe_is_refused(empty_node: Node, source: Registry) -> None:
    reference = source.push(random_layers(1, seed=390))
    empty_node.ssh(
        "mkdir -p /srv/theirs /srv/open /srv/real /srv/own/box; chown 1000 /srv/theirs /srv/own/box; chmod 777 /srv/open; "
        "touch /srv/own/box/file; "
        "ln -s real /srv/link"
    )
    before = shown(empty_node)
    places = {
        "/srv/theirs/box": "belongs to the user 1000",
        "/srv/open/box": "users other than root can write",
        "/srv/link/box": "symbolic link",
        "/var/lib/containerd/box": "containerd keeps its own",
        "/srv/" + "a" * 300: "too long",
        "/srv/../etc/x": "without '..'",
        "/etc/x": "belongs to the system",
    }
    for path, words in places.items():
        message = refused(box(empty_node, reference, path=path))
        assert message.startswith("path ") and words in message, message
    for name in ("-x", "a b", "a\nb", "../x", "x" * 300):
        assert refused(box(empty_node, reference, name=name)).startswith("name must be")
    assert "has files in it" in refused(box(empty_node, reference, path="/srv/own/box"))
    assert shown(empty_node) == before
    # An empty one of another user, as Flatcar's command makes it, is root's from then on.
    empty_node.ssh("rm /srv/own/box/file")
    assert steps_of(box(empty_node, reference, path="/srv/own/box")) == FRESH
    assert steps_of(box(empty_node, reference, path="/srv/own/box", state="present")) == ["unmount", "disable"]
    assert empty_node.ssh("stat -c '%u %a' /srv/own/box; ls -A /srv/own/box").stdout == "0 755\n"
