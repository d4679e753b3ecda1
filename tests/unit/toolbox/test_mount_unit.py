# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import configparser
from dataclasses import replace

import pytest

from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import (
    MARK,
    Source,
    enabling_link,
    layers_unit_path,
    layers_unit_text,
    mount_arguments,
    unit_name,
    unit_path,
    unit_text,
)

ROOT = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
PATH = "/var/lib/toolbox/core"


def test_layers_that_have_to_be_mounted_first_are_asked_for() -> None:
    text = unit_text(PATH, overlay(2), key=PATH, root=ROOT, service="containerd.service", mounts=overlay(2).layers)
    assert [line for line in text.splitlines() if line.startswith("AssertPathIsMountPoint=")] == [
        f"AssertPathIsMountPoint={layer}" for layer in overlay(2).layers
    ]
    assert len(overlay(2).layers) == 2 and Source("ext4", "/dev/a", ("loop",)).layers == ()
    assert "Wants=var-lib-toolbox-core.service\n" in text and "After=local-fs.target var-lib-toolbox-core.service\n" in text
    first = layers_unit_text(PATH, ["/usr/bin/ctr", "mounts", "/", "/a b%$c"], key=PATH, service="containerd.service")
    assert layers_unit_path(PATH) == "/etc/systemd/system/var-lib-toolbox-core.service" and first.startswith(MARK)
    assert 'ExecStart="/usr/bin/ctr" "mounts" "/" "/a b%%$$c"\n' in first and "After=containerd.service\n" in first
    for ask, path, words in ((["/usr/bin/ctr", 'a"b'], PATH, "can't hold"), (["/usr/bin/ctr"], f"/{'a' * 248}", "too long")):
        with pytest.raises(ValueError, match=words):
            layers_unit_text(path, ask, key=PATH, service="containerd.service")


def overlay(layers: int) -> Source:
    lower = ":".join(f"{ROOT}/snapshots/{number}/fs" for number in range(layers, 0, -1))
    own = f"{ROOT}/snapshots/{layers + 1}"
    return Source("overlay", "overlay", ("index=off", f"workdir={own}/work", f"upperdir={own}/fs", f"lowerdir={lower}"))


def written(source: Source, path: str = PATH) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit_text(path, source, key=path, root=ROOT, service="containerd.service"))
    return {name: dict(parser[name]) for name in parser.sections()}


# As systemd-escape --path --suffix=mount prints them.
NAMES = [
    ("/var/lib/toolbox/core", "var-lib-toolbox-core.mount"),
    ("/var/lib/toolbox/core-docker.io_library_fedora-38", r"var-lib-toolbox-core\x2ddocker.io_library_fedora\x2d38.mount"),
    ("/srv/a+b@c", r"srv-a\x2bb\x40c.mount"),
    ("/srv/.hidden", "srv-.hidden.mount"),
    ("/.srv/x", r"\x2esrv-x.mount"),
    ("/srv//two/", "srv-two.mount"),
    ("/srv/é", r"srv-\xc3\xa9.mount"),
    ("/", "-.mount"),
]


@pytest.mark.parametrize(("path", "name"), NAMES)
def test_units_are_named_as_systemd_does(path: str, name: str) -> None:
    assert unit_name(path) == name
    assert unit_path(path) == f"/etc/systemd/system/{name}"
    assert enabling_link(path) == f"/etc/systemd/system/multi-user.target.wants/{name}"


def test_an_overlay_of_many_layers_fits_in_a_page() -> None:
    unit = written(overlay(499))
    assert unit["Mount"]["WorkingDirectory"] == f"{ROOT}/snapshots"
    options = unit["Mount"]["Options"]
    assert len(options) < 4096 and options.startswith("index=off,") and ":1/fs" in options
    # What others tell the snapshot by stays whole.
    assert f"upperdir={ROOT}/snapshots/500/fs" in options.split(",")
    assert unit["Mount"]["Environment"] == "LIBMOUNT_FORCE_MOUNT2=always"
    assert unit["Mount"]["What"] == unit["Mount"]["Type"] == "overlay" and unit["Mount"]["Where"] == PATH


def test_one_layer_is_left_as_it_is() -> None:
    unit = written(overlay(1))
    assert unit["Mount"]["Options"] == ",".join(sorted(overlay(1).options)) and "WorkingDirectory" not in unit["Mount"]


@pytest.mark.parametrize("layers", [1, 3])
def test_the_unit_is_the_same_in_whatever_order_containerd_lists_the_options(layers: int) -> None:
    source = overlay(layers)
    assert mount_arguments(replace(source, options=source.options[::-1])) == mount_arguments(source)


def test_a_unit_is_mounted_after_containerds_root_and_before_logins() -> None:
    unit = written(overlay(2))
    assert unit["Unit"]["RequiresMountsFor"] == f'"{ROOT}"'
    assert "systemd-user-sessions.service" in unit["Unit"]["Before"] and unit["Unit"]["After"] == "local-fs.target"
    assert "umount.target" in unit["Unit"]["Before"] and unit["Unit"]["Conflicts"] == "umount.target"
    assert unit["Unit"]["DefaultDependencies"] == "no" and "Requires" not in unit["Unit"]
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_what_is_no_snapshot_any_more_is_not_mounted() -> None:
    text = unit_text(PATH, overlay(2), key=PATH, root=ROOT, service="containerd.service")
    for directory in ("fs", "work"):
        assert f"AssertPathIsDirectory={ROOT}/snapshots/3/{directory}\n" in text
    native = Source("bind", "/srv/native/snapshots/3", ("rbind", "rw"))
    assert "AssertPathIsDirectory=/srv/native/snapshots/3\n" in unit_text(
        PATH, native, key=PATH, root="/srv", service="x.service"
    )


@pytest.mark.parametrize("kind", ["bind", "rbind"])
def test_a_bind_mount_has_no_file_system_type(kind: str) -> None:
    source = Source(kind, "/var/lib/containerd/io.containerd.snapshotter.v1.native/snapshots/3", ("rbind", "rw"))
    mount = written(source)["Mount"]
    assert (mount["Type"], mount["Options"]) == ("none", "rbind,rw") and "Environment" not in mount
    assert not source.needs_daemon


def test_a_device_waits_for_the_daemon_that_activates_it() -> None:
    source = Source("ext4", "/dev/mapper/pool-snap-3", ("discard",))
    unit = written(source)
    assert unit["Unit"]["Wants"] == "containerd.service" and "containerd.service" in unit["Unit"]["After"]
    # With Requires= a restart of containerd would unmount it.
    assert "Requires" not in unit["Unit"]
    assert mount_arguments(source).kind == "ext4"


def test_the_file_says_who_made_it_and_escapes_what_systemd_reads() -> None:
    source = Source("ext4", "/dev/pool%20", ("context=a%b",))
    text = unit_text(PATH, source, key=PATH, root="/data%d", service="containerd.service")
    assert text.startswith(MARK)
    assert "What=/dev/pool%%20\n" in text and "Options=context=a%%b\n" in text and '"/data%%d"' in text


@pytest.mark.parametrize("what", ["/a\nOptions=suid", "/a\\", '/a"b'])
def test_what_would_change_the_unit_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="can't hold"):
        unit_text(PATH, Source("ext4", what, ()), key=PATH, root=ROOT, service="containerd.service")
