# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from unit.databases import recorded_database, small_database

from ansible_collections.slipway.node.plugins.module_utils.containerd.bolt import Database
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.thin_pool import (
    BELONGS,
    FOREIGN,
    LEFTOVERS,
    BackingFile,
    Device,
    PoolStatus,
    Record,
    Volume,
    compare,
    device_problem,
    file_problem,
    group_problem,
    mapper_name,
    parse_records,
    parse_status,
    parse_thin_ls,
    parse_volume,
    uses,
)

# As printed by lvm2 2.03.31, without what isn't asked for.
ROW = {
    "vg_name": "containerd",
    "lv_name": "pool",
    "lv_uuid": "UvD0xs-k3qQ-OKgz-dqF1-yeh4-ywht-d0NjeR",
    "lv_attr": "twi-a-t---",
    "lv_size": "314572800",
    "lv_active": "active",
    "lv_profile": "slipway-containerd-pool",
    "seg_monitor": "monitored",
}
DATABASE = "/var/lib/containerd/io.containerd.snapshotter.v1.devmapper/containerd-pool.db"
EMPTY = Device("/dev/disk/by-id/virtio-pool", "/dev/vdb", size=1 << 30)


def status(**changes: Any) -> PoolStatus:
    found = {"size": 314572800, "used_metadata": 213, "total_metadata": 2048, "used_data": 42, "total_data": 2400, "mode": "rw"}
    return PoolStatus(**{**found, **changes})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # Linux 6.12
        ("0 614400 thin-pool 0 213/2048 42/2400 - rw discard_passdown queue_if_no_space - 512 ", status()),
        ("containerd-pool: 0 614400 thin-pool 0 213/2048 42/2400 - rw discard_passdown queue_if_no_space - 512 ", status()),
        ("0 614400 thin-pool 0 213/2048 42/2400 37 rw discard_passdown queue_if_no_space - 512 ", status(held_root=True)),
        ("0 614400 thin-pool 0 213/2048 42/2400 - ro no_discard_passdown error_if_no_space needs_check 512 ",
         status(mode="ro", needs_check=True)),
        ("0 614400 thin-pool 0 213/2048 2400/2400 - out_of_data_space discard_passdown queue_if_no_space - 512 ",
         status(mode="out_of_data_space", used_data=2400)),
        ("0 614400 thin-pool Fail", PoolStatus(failed=True, mode="Fail")),
    ],
)  # fmt: skip
def test_reads_the_kernels_status(line: str, expected: PoolStatus) -> None:
    assert parse_status(line) == expected


@pytest.mark.parametrize("line", ["", "0 614400 linear ", "0 614400 thin-pool 0 x/y", "0 614400 thin-pool 0 1/2 3/4 - strange"])
def test_another_status_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"no thin pool|can't be read"):
        parse_status(line)


def test_use_is_told_in_percent() -> None:
    assert (status().data_percent, status().metadata_percent) == (1.8, 10.4)
    assert PoolStatus(failed=True).data_percent is None


def report(*rows: dict[str, str]) -> str:
    return json.dumps({"report": [{"lv": [{**ROW, **row} for row in rows]}], "log": []})


def test_finds_the_pool_among_lvms_volumes() -> None:
    spare = {"lv_name": "[lvol0_pmspare]", "lv_attr": "ewi-------"}
    expected = Volume(ROW["lv_uuid"], 314572800, True, "slipway-containerd-pool", True)
    assert parse_volume(report(spare, {}), "pool") == expected
    assert parse_volume(report({})) == expected
    assert parse_volume(report(spare), "pool") is None
    assert parse_volume(report({"seg_monitor": "not monitored", "lv_active": ""}), "pool") == Volume(
        ROW["lv_uuid"], 314572800, False, "slipway-containerd-pool", False
    )


def test_a_volume_that_is_no_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="containerd/pool is no thin pool"):
        parse_volume(report({"lv_attr": "-wi-a-----"}), "pool")


def test_names_of_the_device_mapper_double_hyphens() -> None:
    assert mapper_name("my-group", "thin-pool") == "my--group-thin--pool"


def test_reads_the_devices_that_containerd_lists() -> None:
    assert parse_records(Database(recorded_database())) == tuple(
        Record(f"containerd-pool-snap-{number}", number, settled=True) for number in (1, 2, 3)
    )


def test_reads_the_ids_that_thin_ls_prints() -> None:
    assert parse_thin_ls("Scanning data mappings\n1 \n7 \n") == {1, 7}
    assert parse_thin_ls("") == frozenset()


def test_reads_of_what_is_removed_later_that_it_may_still_be_there() -> None:
    entries = {
        b"a": b'{"device_id": 1, "state": 4}',
        b"b": b'{"device_id": 2, "state": 12}',
        b"c": b'{"device_id": 3, "state": 13}',
    }
    a, b, c = parse_records(Database(small_database(entries)))
    assert (a.settled, a.removed, b.settled, b.removed, c.settled, c.removed) == (True, False, False, True, False, False)


def records(*ids: int, settled: bool = True, removed: bool = False) -> tuple[Record, ...]:
    return tuple(Record(f"containerd-pool-snap-{number}", number, settled and not removed, removed) for number in ids)


@pytest.mark.parametrize(
    ("listed", "there", "verdict", "words"),
    [
        ((), set(), BELONGS, ""),
        (records(1, 2), {1, 2}, BELONGS, ""),
        (records(1, 2), set(), FOREIGN, "the pool has none of the 2 devices that"),
        (records(1, 2), {8, 9}, FOREIGN, "the pool has none of the 2 devices that"),
        (records(1, 2, 3), {1, 2, 7}, FOREIGN, "the pool lacks 1 of the 3 devices that"),
        ((), {1, 2}, FOREIGN, "lists none of the 2 devices of the pool"),
        (records(1, settled=False), {1, 2}, FOREIGN, "lists none of the 2 devices of the pool"),
        (records(1, settled=False), set(), BELONGS, ""),
        ((*records(1), *records(2, settled=False)), {1, 2}, LEFTOVERS, "lists all but 1 devices of the pool (ID 2)"),
        (records(1, 2), set(range(1, 40)), LEFTOVERS, "lists all but 37 devices of the pool (ID 3, 4, 5, 6,"),
        # The node went down in its first pull; and with another root before.
        (records(1, settled=False), {1}, LEFTOVERS, "lists all but 1 devices of the pool"),
        (records(1, settled=False), {2}, FOREIGN, "lists none of the 1 devices of the pool"),
        # async_remove leaves them for the garbage collection, or a crash between the pool and the database.
        (records(1, 2, removed=True), {1, 2}, BELONGS, ""),
        ((*records(1), *records(2, removed=True)), {1, 2}, BELONGS, ""),
        ((*records(1), *records(2, removed=True)), {1}, BELONGS, ""),
        (records(1, removed=True), {2}, FOREIGN, "lists none of the 1 devices of the pool"),
        ((*records(1), *records(2, removed=True)), {2}, FOREIGN, "the pool has none of the 1 devices that"),
    ],
)
def test_a_pool_and_a_database_belong_together_or_not(
    listed: tuple[Record, ...], there: set[int], verdict: str, words: str
) -> None:
    found = compare(listed, there, DATABASE)
    assert found.verdict == verdict
    assert words in found.reason
    assert bool(found.remedy) == (verdict == FOREIGN)


def test_without_a_database_containerds_root_may_be_elsewhere() -> None:
    assert compare(None, set(), DATABASE).verdict == BELONGS
    found = compare(None, {1, 2}, DATABASE)
    assert (found.verdict, found.reason) == (FOREIGN, compare((), {1, 2}, DATABASE).reason)
    assert found.remedy.startswith("there is no such file: if containerd's root is elsewhere, name it (containerd_root)")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (EMPTY, ""),
        (Device("/dev/vdx", "/dev/vdx", kind=""), "there is no device /dev/vdx"),
        (Device("/dev/null", "/dev/null", kind="other"), "/dev/null is no block device"),
        (Device("/dev/vdc", "/dev/vdc", signatures=("ext4",)), "/dev/vdc holds ext4: name another device, or list it in"),
        (Device("/dev/vdc", "/dev/vdc", signatures=("gpt", "PMBR")), "holds gpt and PMBR"),
        (Device("/dev/vdd", "/dev/vdd", signatures=("ext4",)), ""),
        (Device("/dev/vdd", "/dev/vdd", signatures=("ext4",), uses=("vdd mounted at /srv",)), "in use (vdd mounted at /srv)"),
        (Device("/dev/vde", "/dev/vde", signatures=("LVM2_member",), uses=("lvm x",), group="containerd"), ""),
        (Device("/dev/vde", "/dev/vde", signatures=("LVM2_member",), group=""), ""),
        (Device("/dev/vde", "/dev/vde", signatures=("LVM2_member",)), "/dev/vde holds LVM2_member"),
        (Device("/dev/vde", "/dev/vde", signatures=("LVM2_member", "zfs_member"), group=""), "/dev/vde holds zfs_member: name"),
        (Device("/dev/vdd", "/dev/vdd", signatures=("LVM2_member", "zfs_member"), group=""), ""),
        (Device("/dev/vdd", "/dev/vdd", signatures=("LVM2_member",), group="other"), "belongs to the volume group other"),
    ],
)
def test_no_device_is_taken_that_somebody_needs(device: Device, words: str) -> None:
    problem = device_problem(device, "containerd", ["/dev/vdd"])
    assert words in problem
    assert bool(problem) == bool(words)


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([EMPTY], "there is a volume group containerd already, and it isn't on /dev/disk/by-id/virtio-pool: name another"),
        ([EMPTY, Device("/dev/vdc", "/dev/vdc", group="")], "it isn't on /dev/disk/by-id/virtio-pool or /dev/vdc: name another"),
        ([EMPTY, Device("/dev/vdc", "/dev/vdc", group="containerd")], ""),
        ([], ""),
    ],
)
def test_no_volume_group_is_taken_that_is_somebody_elses(devices: list[Device], words: str) -> None:
    problem = group_problem("containerd", devices)
    assert words in problem
    assert bool(problem) == bool(words)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (BackingFile("/srv/pool.img"), ""),
        (BackingFile("/srv/pool.img", written=True, signatures=("LVM2_member",)), ""),
        (BackingFile("/srv/pool.img", written=True), "the file /srv/pool.img is there and holds something: name another"),
        (BackingFile("/srv/pool.img", written=True, signatures=("ext4",)), "holds ext4"),
        (BackingFile("/srv/pool.img", written=True, signatures=("LVM2_member", "dos")), "holds LVM2_member and dos"),
        (BackingFile("/srv", regular=False), "/srv is no regular file"),
    ],
)
def test_no_file_is_taken_that_somebody_wrote(file: BackingFile, words: str) -> None:
    problem = file_problem(file)
    assert words in problem
    assert bool(problem) == bool(words)


def test_who_uses_a_device_is_said_of_its_parts_too() -> None:
    parts = [
        {"name": "vda1", "type": "part", "mountpoint": "/"},
        {"name": "vda2", "type": "part", "mountpoint": None},
        {"name": "vda3", "type": "part", "mountpoint": "[SWAP]"},
        {"name": "vda4", "type": "part", "mountpoint": None, "children": [{"name": "md0", "type": "raid1", "mountpoint": None}]},
    ]
    disk = {"name": "vda", "type": "disk", "mountpoint": None, "children": parts}
    assert uses(disk) == ("vda1 mounted at /", "vda3 mounted at [SWAP]", "raid1 md0")
    assert uses({"name": "vdb", "type": "disk", "mountpoint": None}) == ()


def test_a_part_that_another_volume_group_lies_on_is_in_use() -> None:
    part = {"name": "vdb1", "path": "/dev/vdb1", "type": "part", "mountpoint": None}
    disk = {"name": "vdb", "path": "/dev/vdb", "type": "disk", "mountpoint": None, "children": [part]}
    assert uses(disk, {"/dev/vdb1": "data"}) == ("vdb1 of the volume group data",)
    assert uses(disk, {"/dev/vdb1": "", "/dev/vdb": "containerd"}) == ()
    active = {"name": "data-x", "path": "/dev/mapper/data-x", "type": "lvm", "mountpoint": "/x"}
    assert uses({**disk, "children": [{**part, "children": [active]}]}, {"/dev/vdb1": "data"}) == ("data-x mounted at /x",)
