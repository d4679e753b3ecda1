# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.kata.directory import (
    DIRECTORY,
    DROP_IN,
    FILE,
    LINK,
    MAIN,
    MARK,
    MODE,
    OTHER,
    DirectoryEntry,
    KataDirectory,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import (
    KATA_DEPLOY_MARK,
    Handler,
    Vendor,
    assumed_vendor,
    effective_settings,
    merged,
    parse_config_dir,
    parse_handlers,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.matrix import REFUSED, Combination, classify
from ansible_collections.slipway.node.plugins.module_utils.kata.options import SETTINGS
from ansible_collections.slipway.node.plugins.module_utils.kata.plan import MARK_TEXT, Change, Plan, plan_absent, plan_present
from nodes.kata import vendor_file

ROOT = "/etc/kata-containers"
BASE = "/opt/kata/share/defaults/kata-containers/configuration-{}.toml"
Directories = dict[str, dict[str, DirectoryEntry]]


def handler(name: str = "kata-qemu", **options: Any) -> Handler:
    options = {"runtime": "go", "hypervisor": "qemu", **options}
    options.setdefault("base_config", BASE.format(options["hypervisor"]))
    return parse_handlers([{"name": name, **options}])[0]


def vendor(one: Handler, version: str = "3.26.0", **options: Any) -> Vendor:
    return Vendor(vendor_file(one.runtime, one.hypervisor, **options), Version.parse(version))


def file(text: str | bytes) -> DirectoryEntry:
    return DirectoryEntry(FILE, text.encode() if isinstance(text, str) else text, MODE)


def plan(directories: Directories, *handlers: Handler, purge: bool = True, defer_unsafe: bool = False, **options: Any) -> Plan:
    vendors = options["vendors"] if "vendors" in options else {one.name: vendor(one, **options) for one in handlers}
    return plan_present(KataDirectory(directories), handlers, vendors, config_dir=ROOT, purge=purge, defer_unsafe=defer_unsafe)


def steps(made: Plan) -> list[tuple[str, Change]]:
    return [(one.path.rpartition("/")[2], change) for one in made.directories for change in one.changes]


def apply(directories: Directories, made: Plan, count: int | None = None) -> Directories:
    """What the directories are after the first changes of the plan, in which a new directory appears at once."""
    after = {name: dict(entries) for name, entries in directories.items()}
    for name, change in steps(made)[:count]:
        entries = after.setdefault(name, {})
        if change.after is None:
            entries.pop(change.name)
        else:
            entries[change.name] = DirectoryEntry(FILE, change.after, MODE)
    return {name: entries for name, entries in after.items() if entries}


def made(*handlers: Handler, **options: Any) -> Directories:
    return apply({}, plan({}, *handlers, **options))


def text(directories: Directories, name: str = DROP_IN, of: str = "kata-qemu") -> str:
    return (directories[of][name].content or b"").decode()


def drop_in(directories: Directories, of: str = "kata-qemu") -> dict[str, Any]:
    return tomllib.loads(text(directories, of=of))


SAFE: dict[str, Any] = {"disable_block_device_use": True}
BLOCK: dict[str, Any] = {"snapshotter": "devmapper", "disable_block_device_use": False}


def test_a_handler_gets_a_copy_and_a_drop_in_of_its_own() -> None:
    one = handler(block_device_driver="virtio-blk", **BLOCK, extra={"runtime": {"enable_debug": True}})
    found = made(one)
    assert set(found["kata-qemu"]) == {MARK, MAIN, DROP_IN}
    assert text(found, MAIN) == vendor_file("go", "qemu")
    settings = {"disable_block_device_use": False, "block_device_driver": "virtio-blk"}
    assert drop_in(found) == {"hypervisor": {"qemu": settings}, "runtime": {"enable_debug": True}}
    assert plan(found, one).changed is False


def test_a_handler_without_settings_still_has_its_drop_in() -> None:
    found = made(handler())
    assert drop_in(found) == {}
    assert plan(found, handler()).changed is False


def test_two_handlers_of_one_hypervisor_do_not_meet() -> None:
    handlers = handler("kata-a", **SAFE), handler("kata-b", **BLOCK)
    found = made(*handlers)
    assert [drop_in(found, name)["hypervisor"]["qemu"]["disable_block_device_use"] for name in ("kata-a", "kata-b")] == [
        True,
        False,
    ]
    reports = plan(found, *handlers).result()["handlers"]
    assert [report["rootfs_transport"] for report in reports] == ["virtio-fs", "block-hotplug"]
    assert [report["config_path"] for report in reports] == [f"{ROOT}/{name}/{MAIN}" for name in ("kata-a", "kata-b")]


def test_the_copy_is_renewed_and_the_settings_stay() -> None:
    one = handler(**SAFE)
    found = made(one)
    renewed = plan(found, one, comment="4.0.0")
    assert [change.name for _name, change in steps(renewed)] == [MAIN]
    assert "# 4.0.0" in text(apply(found, renewed), MAIN)


def test_what_somebody_did_to_our_files_is_undone() -> None:
    one = handler(**SAFE)
    found = made(one)
    for name in (MAIN, DROP_IN):
        for entry in (
            file("# mine\n"),
            DirectoryEntry(LINK, found["kata-qemu"][name].content),
            replace(found["kata-qemu"][name], mode=0o600),
        ):
            spoiled = {"kata-qemu": {**found["kata-qemu"], name: entry}}
            assert apply(spoiled, plan(spoiled, one)) == found


def test_a_changed_mode_is_shown() -> None:
    one = handler(**SAFE)
    found = made(one)
    found["kata-qemu"][MAIN] = replace(found["kata-qemu"][MAIN], mode=0o600)
    (diff,) = plan(found, one).result()["diff"]
    assert diff["before"].endswith("# file, mode 0600\n")
    assert diff["after"].endswith("# file, mode 0644\n")


def test_unlisted_handlers_go_whole_and_others_stay() -> None:
    found = {**made(handler("old", **SAFE), handler(**SAFE)), "foreign": {MAIN: file("")}}
    purged = plan(found, handler(**SAFE))
    assert [change.name for _name, change in steps(purged)] == [MAIN, DROP_IN, MARK]
    assert sorted(apply(found, purged)) == ["foreign", "kata-qemu"]
    assert plan(found, handler(**SAFE), purge=False).changed is False


def test_absent_removes_what_is_ours() -> None:
    foreign = file("[runtime]\n")
    found = {**made(handler("a", **SAFE), handler("b", **SAFE)), "foreign": {MAIN: file("")}}
    found["b"]["config.d/50-theirs.toml"] = foreign
    one = apply(found, plan_absent(KataDirectory(found), ["a", "unheard-of"], config_dir=ROOT))
    assert sorted(one) == ["b", "foreign"]
    rest = apply(one, plan_absent(KataDirectory(one), [], config_dir=ROOT))
    assert rest == {"b": {"config.d/50-theirs.toml": foreign}, "foreign": {MAIN: file("")}}
    assert plan_absent(KataDirectory(rest), [], config_dir=ROOT).changed is False
    # What is left of it is taken up again.
    assert set(apply(rest, plan(rest, handler("b", **SAFE)))["b"]) == {MARK, MAIN, DROP_IN, "config.d/50-theirs.toml"}


def is_dangerous(directories: Directories, snapshotter: str) -> bool:
    """Whether Kata, started now, would refuse or endanger, as far as the matrix knows."""
    entries = directories.get("kata-qemu", {})
    if MAIN not in entries:
        return False
    tree = tomllib.loads(text(directories, MAIN))
    for name in sorted(one for one in entries if one.startswith("config.d/")):
        tree = merged("go", tree, tomllib.loads(text(directories, name)))
    settings = effective_settings(tree, "qemu")
    asked = Combination(
        "go", "qemu", snapshotter, Version(3, 26, 0), settings["disable_block_device_use"], settings["block_device_driver"]
    )
    return classify(asked).transport == REFUSED


CHANGES: list[tuple[tuple[dict[str, Any], bool] | None, tuple[dict[str, Any], bool]]] = [
    (None, (SAFE, False)),
    ((SAFE, False), ({}, True)),
    (({}, True), (SAFE, False)),
    ((SAFE, True), (SAFE, False)),
    ((SAFE, False), (SAFE, True)),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
@pytest.mark.parametrize("foreign", [False, True])
def test_a_run_cut_anywhere_leaves_nothing_dangerous_and_is_finished_by_the_next(
    before: tuple[dict[str, Any], bool] | None, after: tuple[dict[str, Any], bool], foreign: bool
) -> None:
    """Each state is the options and the vendor's own disable_block_device_use."""
    found = made(handler(**before[0]), disable=before[1]) if before else {}
    if foreign:
        found.setdefault("kata-qemu", {})["config.d/50-theirs.toml"] = file("[runtime]\nenable_debug = true\n")
    one = handler(**after[0])
    whole = plan(found, one, disable=after[1])
    final = apply(found, whole)
    atomic = whole.directories[0].create
    for count in range(len(steps(whole)) + 1):
        if atomic and 0 < count < len(steps(whole)):
            continue
        cut = apply(found, whole, count)
        assert not is_dangerous(cut, "overlayfs"), count
        assert apply(cut, plan(cut, one, disable=after[1])) == final
    removal = plan_absent(KataDirectory(final), [], config_dir=ROOT)
    for count in range(len(steps(removal)) + 1):
        cut = apply(final, removal, count)
        assert not is_dangerous(cut, "overlayfs"), count
        assert not any(MARK in entries for entries in apply(cut, plan_absent(KataDirectory(cut), [], config_dir=ROOT)).values())


def test_leftovers_are_removed() -> None:
    found = KataDirectory(made(handler(**SAFE)), leftovers=(".slipway-kata-qemu.x",))
    found.directories["kata-qemu"][".slipway-configuration.toml.x.tmp"] = file("half")  # type: ignore[index]
    cleared = plan_present(found, [handler(**SAFE)], {"kata-qemu": vendor(handler())}, config_dir=ROOT, purge=True).result()
    assert cleared["changed"]
    assert cleared["removed"] == [f"{ROOT}/.slipway-kata-qemu.x", f"{ROOT}/kata-qemu/.slipway-configuration.toml.x.tmp"]


def with_drop_in(name: str, content: str | DirectoryEntry, *, runtime: str = "go", **options: Any) -> dict[str, Any]:
    """The report of a handler beside whose drop-in lies another."""
    one = handler(runtime=runtime, **options)
    found = made(one)
    found["kata-qemu"][f"config.d/{name}"] = content if isinstance(content, DirectoryEntry) else file(content)
    planned = plan(found, one)
    assert planned.changed is False
    report: dict[str, Any] = planned.result()["handlers"][0]
    return report


def test_an_earlier_drop_in_is_merged_and_does_not_override() -> None:
    content = '[hypervisor.qemu]\nblock_device_aio = "native"\ndisable_block_device_use = false\n'
    report = with_drop_in("50-theirs.toml", content, **SAFE)
    assert report["effective"]["block_device_aio"] == "native"
    assert report["effective"]["disable_block_device_use"] is True
    assert report["other_drop_ins"] == [f"{ROOT}/kata-qemu/config.d/50-theirs.toml"]
    assert report["overridden"] == []


def test_a_later_drop_in_that_overrides_is_reported() -> None:
    report = with_drop_in(
        "70-theirs.toml", '[hypervisor.qemu]\nblock_device_aio = "native"\n', block_device_aio="threads", **SAFE
    )
    path = f"{ROOT}/kata-qemu/config.d/70-theirs.toml"
    assert report["effective"]["block_device_aio"] == "native"
    assert report["overridden"] == [{"path": path, "settings": ["hypervisor.qemu.block_device_aio"]}]
    assert f"{path} overrides hypervisor.qemu.block_device_aio" in report["warnings"]


def test_a_later_drop_in_that_endangers_the_host_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"host's own disk .*70-theirs\.toml overrides this module's settings"):
        with_drop_in("70-theirs.toml", "[hypervisor.qemu]\ndisable_block_device_use = false\n", **SAFE)
    # With no setting of ours there is nothing to override, and it is refused all the same.
    with pytest.raises(ValueError, match="host's own disk"):
        with_drop_in("70-theirs.toml", "[hypervisor.qemu]\ndisable_block_device_use = false\n")


@pytest.mark.parametrize("name", ["60-slipway.toml~", "60-slipway.toml.bak", "99-x.toml.20261121", ".hidden"])
def test_a_backup_is_live(name: str) -> None:
    report = with_drop_in(name, "[hypervisor.qemu]\nenable_iothreads = true\n")
    assert report["effective"]["enable_iothreads"] is True
    assert (
        f"{ROOT}/kata-qemu/config.d/{name} is read by Kata like any other drop-in: remove it if it is a backup"
        in report["warnings"]
    )


@pytest.mark.parametrize(
    ("name", "entry", "runtime", "message"),
    [
        ("old", DirectoryEntry(DIRECTORY), "go", "old is a directory, so Kata can't start with it"),
        ("old", DirectoryEntry(DIRECTORY), "rust", "old is a directory"),
        ("old", DirectoryEntry(OTHER), "go", "old is not a file that can be read"),
        ("link.toml", DirectoryEntry(LINK, b""), "rust", r"link\.toml is a symbolic link, and the Rust runtime doesn't start"),
        ("link.toml", DirectoryEntry(LINK), "go", r"link\.toml is not a file that can be read"),
        ("bad.toml", file("[hypervisor"), "go", r"bad\.toml is not TOML"),
        ("bad.toml", file(b"\xff"), "go", r"bad\.toml is not UTF-8"),
        ("bad.toml", file("hypervisor = 1\n"), "go", "hypervisor is not a table of tables"),
        ("bad.toml", file('[hypervisor.qemu]\ndisable_block_device_use = "false"\n'), "go", "has to be of type bool"),
        (
            "99.toml",
            file("[hypervisor.clh]\ndefault_vcpus = 1\n"),
            "go",
            r"99\.toml has a table \[hypervisor\.clh\], which can make",
        ),
    ],
)
def test_drop_ins_of_others_that_kata_can_not_start_with(name: str, entry: DirectoryEntry, runtime: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_drop_in(name, entry, runtime=runtime)


def test_what_one_runtime_takes_and_the_other_does_not() -> None:
    followed = with_drop_in("link.toml", DirectoryEntry(LINK, b'[hypervisor.qemu]\nblock_device_aio = "native"\n'))
    assert followed["effective"]["block_device_aio"] == "native"
    ignored = with_drop_in("99.toml", "[hypervisor.clh]\ndefault_vcpus = 1\n", runtime="rust", version="4.1.0")
    assert any("[hypervisor.clh], which is not this handler's" in sentence for sentence in ignored["warnings"])
    unheard = with_drop_in("50.toml", "[hypervisor.qemu]\nfrobnicate = 1\n")
    assert any("Kata doesn't start unless it knows frobnicate" in sentence for sentence in unheard["warnings"])


def test_lists_are_replaced_and_keys_merged() -> None:
    base: dict[str, Any] = {
        "hypervisor": {"qemu": {"a": [1, 2], "b": 1}},
        "agent": {"kata": {"m": {"x": 1, "y": 2}, "n": 1}},
        "runtime": {"t": {"x": 1}},
    }
    over = {"hypervisor": {"qemu": {"a": [3]}}, "agent": {"kata": {"m": {"x": 9}}}, "runtime": {"t": {"y": 2}}}
    for runtime in ("go", "rust"):
        found = merged(runtime, base, over)
        assert found["hypervisor"]["qemu"] == {"a": [3], "b": 1}
        assert found["runtime"] == {"t": {"x": 1, "y": 2}}
    assert merged("go", base, over)["agent"]["kata"] == {"m": {"x": 9}, "n": 1}
    assert merged("rust", base, over)["agent"]["kata"] == {"m": {"x": 9, "y": 2}, "n": 1}
    assert base["agent"]["kata"]["m"] == {"x": 1, "y": 2}


def test_the_vendors_default_decides_where_nothing_is_set() -> None:
    old = handler()
    with pytest.raises(
        ValueError, match=r"handlers\[kata-qemu\]: an image without layers .* set disable_block_device_use to true"
    ):
        plan({}, old, disable=False)
    assert plan({}, old, disable=True).reports[0]["rootfs_transport"] == "virtio-fs"
    accepted = plan({}, handler(allow_host_disk_hotplug=True), disable=False).reports[0]
    assert accepted["rootfs_transport"] == "virtio-fs"
    assert "the host's own disk" in accepted["warnings"][0]


def test_the_version_is_the_handlers_or_else_the_archives() -> None:
    asked = {"runtime": "rust", "snapshotter": "devmapper"}
    with pytest.raises(ValueError, match=r"from 3\.22 to 3\.32"):
        plan({}, handler(**asked), version="3.25.0")
    report = plan({}, handler(**asked, version="4.0.0"), version="3.25.0").reports[0]
    assert (report["rootfs_transport"], report["version"]) == ("block-hotplug", "4.0.0")


@pytest.mark.parametrize(
    ("options", "vendor_text", "message"),
    [
        ({}, vendor_file("rust", "qemu"), "is of the Rust runtime: set runtime to rust"),
        ({"runtime": "rust"}, vendor_file("go", "qemu"), "is of the Go runtime: set runtime to go"),
        ({}, vendor_file("go", "clh"), r"has \[hypervisor\.clh\], where \[hypervisor\.qemu\] alone is expected"),
        ({}, vendor_file("go", "qemu") + "[hypervisor.clh]\n", r"has \[hypervisor\.qemu\], \[hypervisor\.clh\]"),
        ({}, "[runtime]\n", "has no table of a hypervisor"),
        ({}, "[", r"configuration-qemu\.toml is not TOML"),
        ({}, f"# {KATA_DEPLOY_MARK}\n{vendor_file('go', 'qemu')}", "is kata-deploy's copy, and left to it"),
        (
            {"block_device_physical_sector_size": 4096},
            vendor_file("go", "qemu"),
            r"handlers\[kata-qemu\]\.block_device_physical_sector_size isn't known to this version",
        ),
        (
            {"extra": {"hypervisor": {"qemu": {"frobnicate": 1}}}},
            vendor_file("go", "qemu"),
            r"extra\.hypervisor\.qemu\.frobnicate isn't known to this version",
        ),
    ],
)
def test_vendor_files_that_do_not_fit(options: dict[str, Any], vendor_text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan({}, handler(**options), vendors={"kata-qemu": Vendor(vendor_text, Version(3, 26, 0))})


def test_keys_that_the_vendors_file_shows_are_known() -> None:
    extra = {"hypervisor": {"qemu": {"default_memory": 4096, "memory_slots": 20}}}
    found = made(handler(extra=extra, block_device_logical_sector_size=4096, block_device_driver="virtio-blk"))
    assert drop_in(found)["hypervisor"]["qemu"]["memory_slots"] == 20
    # The Rust runtime ignores what it doesn't know.
    ignored = plan({}, handler(runtime="rust", indep_iothreads=1)).reports[0]
    assert any(sentence.startswith("indep_iothreads may have no effect") for sentence in ignored["warnings"])


@pytest.mark.parametrize(
    ("hypervisor", "key", "value", "since"),
    [
        ("qemu", "hypervisor_loglevel", 2, "3.14.0"),
        ("qemu", "pcie_switch_port", 1, "3.6.0"),
        ("clh", "block_device_aio", "native", "3.0.0"),
        ("qemu", "indep_iothreads", 1, "3.24.0"),
        ("stratovirt", "enable_iothreads", True, "3.0.0"),
    ],
)
def test_keys_that_the_go_loader_takes_need_no_mention(hypervisor: str, key: str, value: Any, since: str) -> None:
    own = key in SETTINGS
    options: dict[str, Any] = {key: value} if own else {"extra": {"hypervisor": {hypervisor: {key: value}}}}
    one = handler(hypervisor=hypervisor, **options)
    text_of = vendor_file("go", hypervisor).replace(key, "other")

    def planned(version: str | None) -> Plan:
        return plan({}, one, vendors={"kata-qemu": Vendor(text_of, Version.parse(version) if version else None)})

    assert drop_in(apply({}, planned(since)))["hypervisor"][hypervisor] == {key: value}
    assert planned("4.2.0").changed
    if since != "3.0.0":
        for version in ("3.5.0", None):
            with pytest.raises(ValueError, match=f"{key} isn't known to this version of Kata"):
                planned(version)


def test_a_loader_that_takes_an_option_may_not_use_it() -> None:
    for hypervisor, options in (("clh", {"block_device_aio": "native"}), ("stratovirt", {"enable_iothreads": True})):
        report = plan({}, handler(hypervisor=hypervisor, **options)).reports[0]
        assert any(f"{next(iter(options))} has no effect: only qemu has it" in sentence for sentence in report["warnings"])


@pytest.mark.parametrize(
    ("runtime", "table"), [("go", {"experimental_force_guest_pull": True}), ("rust", {"experimental": ["force_guest_pull"]})]
)
def test_a_confidential_handler_shares_nothing(runtime: str, table: dict[str, Any]) -> None:
    one = handler(runtime=runtime, shared_fs="none", extra={"runtime": table})
    report = plan({}, one, version="4.1.0").reports[0]
    assert (report["rootfs_transport"], report["effective"]["force_guest_pull"]) == ("guest-pull", True)
    with pytest.raises(ValueError, match="shared_fs is none, so nothing is shared"):
        plan({}, handler(runtime=runtime, shared_fs="none"), version="4.1.0")


def test_a_hypervisor_that_is_not_there_is_named() -> None:
    program = "/opt/kata/bin/firecracker"
    text_of = vendor_file("rust", "fc").replace("[hypervisor.firecracker]", f'[hypervisor.firecracker]\npath = "{program}"')
    options: dict[str, Any] = {"runtime": "rust", "hypervisor": "fc", "snapshotter": "devmapper", "version": "4.1.0"}

    def warnings(missing: str, **more: Any) -> str:
        vendors = {"kata-qemu": Vendor(text_of, None, missing_program=missing)}
        return " ".join(plan({}, handler(**options, **more), vendors=vendors).reports[0]["warnings"])

    assert f"there is no program {program}" in warnings(program)
    assert "kata-go-static" in warnings(program)
    assert "there is no program" not in warnings("")
    elsewhere = {"hypervisor": {"firecracker": {"path": "/usr/local/bin/firecracker"}}}
    assert "there is no program" not in warnings(program, extra=elsewhere)


def test_rusts_name_of_cloud_hypervisor() -> None:
    one = handler("kata-qemu", runtime="rust", hypervisor="clh", block_device_cache_direct=True)
    text_of = vendor_file("rust", "clh").replace("[hypervisor.clh]", "[hypervisor.cloud-hypervisor]")
    found = apply({}, plan({}, one, vendors={"kata-qemu": Vendor(text_of, Version(3, 20, 0))}))
    assert drop_in(found) == {"hypervisor": {"cloud-hypervisor": {"block_device_cache_direct": True}}}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({MAIN: file("[hypervisor.qemu]\n")}, r"kata-qemu/configuration\.toml was not created by this module"),
        ({"configuration-qemu.toml": file(f"# {KATA_DEPLOY_MARK}\n")}, "is kata-deploy's, and left to it"),
        ({MARK: file(MARK_TEXT), "config.d": DirectoryEntry(LINK)}, r"config\.d is not a directory of its own"),
        ({MARK: file(MARK_TEXT), DROP_IN: DirectoryEntry(DIRECTORY)}, r"60-slipway\.toml is not a file"),
        ({MARK: file(MARK_TEXT), MAIN: DirectoryEntry(DIRECTORY)}, r"configuration\.toml is not a file"),
    ],
)
def test_directories_that_are_somebody_elses(entries: dict[str, DirectoryEntry], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan({"kata-qemu": entries}, handler(**SAFE))


def test_a_link_in_the_place_of_a_directory() -> None:
    found = KataDirectory(others=("kata-qemu",))
    with pytest.raises(ValueError, match="kata-qemu is not a directory"):
        plan_present(found, [handler(**SAFE)], {"kata-qemu": vendor(handler())}, config_dir=ROOT, purge=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "../x"}, "handlers.name has to be a name"),
        ({"name": "config.d"}, r"handlers\.name can't be config\.d"),
        ({"name": "configuration.toml"}, "Kata gives that name to something else"),
        ({"runtime": None}, r"handlers\[kata-qemu\]\.runtime is missing"),
        (
            {"hypervisor": "dragonball"},
            "hypervisor: the go runtime doesn't run dragonball: use one of qemu, clh, fc, stratovirt",
        ),
        ({"base_config": "relative.toml"}, r"base_config has to be an absolute path"),
        ({"version": "new"}, "version has to be a version of Kata"),
        ({"snapshotter": "a b"}, "snapshotter has to be a name"),
        ({"block_device_driver": "virtio-mmio"}, "block_device_driver can't be virtio-mmio"),
        ({"extra": {"hypervisor": {"clh": {}}}}, r"extra\.hypervisor\.clh is the table of another hypervisor"),
        ({"extra": {"hypervisor": {"qemu": 1}}}, "has to be a table, not 1"),
        (
            {"extra": {"hypervisor": {"qemu": {"shared_fs": "none"}}}},
            r"shared_fs is an option: set handlers\[kata-qemu\]\.shared_fs",
        ),
        ({"extra": {"hypervisor": 1}}, "must contain tables"),
        ({"extra": {"debug": True}}, "must contain tables, such as runtime or agent, not the single key 'debug'"),
        ({"extra": {"runtime": {"x": None}}}, "TOML has no way to write None"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        handler(**options)


def test_a_handler_listed_twice() -> None:
    entry = {"name": "a", "runtime": "go", "hypervisor": "qemu", "base_config": BASE.format("qemu")}
    with pytest.raises(ValueError, match="handlers lists a twice"):
        parse_handlers([entry, entry])


@pytest.mark.parametrize(
    "path", ["relative", "/", "/etc/kata-containers/config.d", "/opt/kata/share/defaults/kata-containers/runtimes"]
)
def test_bad_roots(path: str) -> None:
    with pytest.raises(ValueError, match="config_dir"):
        parse_config_dir(path)


@pytest.mark.parametrize(("runtime", "hypervisor"), [("go", "qemu"), ("go", "fc"), ("rust", "qemu"), ("rust", "dragonball")])
def test_check_mode_before_kata_is_installed(runtime: str, hypervisor: str) -> None:
    one = handler(runtime=runtime, hypervisor=hypervisor, snapshotter="devmapper", version="4.0.0", indep_iothreads=1)
    assumed = plan({}, one, vendors={one.name: assumed_vendor(one)})
    assert assumed.changed
    assert "doesn't exist yet" in assumed.reports[0]["warnings"][0]


def test_no_password_is_shown() -> None:
    one = handler(extra={"runtime": {"jaeger_password": "hunter2"}})
    assert "hunter2" not in str(plan({}, one).result())


# What a handler is, what it is to be, and whether that has to wait until containerd has given it its snapshotter.
WAITING: list[tuple[dict[str, Any] | None, dict[str, Any], bool]] = [
    (None, BLOCK, False),
    (SAFE, BLOCK, True),
    (SAFE, {**BLOCK, "hypervisor": "clh"}, True),
    (SAFE, {"hypervisor": "fc", "snapshotter": "blockfile"}, True),
    (SAFE, {**BLOCK, "disable_block_device_use": True}, False),
    (BLOCK, SAFE, False),
    (BLOCK, {**BLOCK, "snapshotter": "blockfile", "block_device_aio": "native"}, False),
    ({**BLOCK, "snapshotter": "overlayfs", "allow_host_disk_hotplug": True}, BLOCK, False),
    ({"runtime": "rust"}, {"runtime": "rust", **BLOCK, "block_device_driver": "virtio-blk-pci"}, False),
]


@pytest.mark.parametrize(("before", "after", "waits"), WAITING, ids=[str(number) for number in range(len(WAITING))])
def test_before_containerd_nothing_becomes_unsafe(before: dict[str, Any] | None, after: dict[str, Any], waits: bool) -> None:
    there = made(handler(**before)) if before is not None else {}
    wanted = handler(**after)
    first = plan(there, wanted, defer_unsafe=True)
    assert first.deferred == (("kata-qemu",) if waits else ())
    assert not (waits and first.changed)
    both = apply(apply(there, first), plan(apply(there, first), wanted))
    assert both == apply(there, plan(there, wanted))
    assert not plan(both, wanted, defer_unsafe=True).changed
    assert plan(both, wanted, defer_unsafe=True).deferred == ()


def test_a_handler_whose_files_cannot_be_read_waits_for_nothing() -> None:
    there = made(handler(**SAFE))
    there["kata-qemu"][DROP_IN] = file("[")
    assert plan(there, handler(**BLOCK), defer_unsafe=True).deferred == ()


def test_what_is_not_listed_is_named_whether_it_is_removed_or_not() -> None:
    there = made(handler(**SAFE), handler("kata-clh", hypervisor="clh"))
    for purge in (True, False):
        found = plan(there, handler(**SAFE), purge=purge)
        assert (found.unlisted, found.changed) == (("kata-clh",), purge)
