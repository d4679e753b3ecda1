# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stages of a provisioning run, each with the arguments that its role passes to its module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.node_spec.spec import boolean

# In the order in which the playbook enters them. A change in one can change what the next ones find.
CONTAINERD, IMAGES, TOOLBOXES = "containerd", "images", "toolboxes"
PARTS = (CONTAINERD, IMAGES, TOOLBOXES)
# A stage of this name has no module: whether it has work isn't known before its role runs.
UNPLANNED = "unplanned"

# The constants of the roles. tests/unit/node_spec/test_stages.py compares them with vars/main.yml.
KATA_MODULES_FILE = "/etc/modules-load.d/slipway-kata.conf"
KATA_PREFIX = "/usr/local/lib/slipway"
TOOLBOX_MARK = "Managed by slipway.node: changes made here are lost."
TOOLBOX_DEFAULTS_FILE = "/etc/default/toolbox"
TOOLBOX_COMMAND_FILE = "/usr/local/bin/toolbox"
_MODULES_DIRECTORY = "/etc/modules-load.d"

Stage = dict[str, Any]
_Found = tuple[str, str, dict[str, Any]]


def stages(spec: Mapping[str, Any], variables: Mapping[str, Any], files: Mapping[str, str]) -> list[Stage]:
    """Return the stages in the order of the run: ``part``, ``stage``, ``module`` and ``arguments``.

    ``spec`` is the node's specification. ``variables`` has every variable of the roles, with the roles' defaults. ``files``
    are the contents of the roles' files and templates by name. Raises ValueError that names the variable at fault.
    """
    return [
        *_of(CONTAINERD, _containerd(spec, variables, files)),
        *_of(IMAGES, _images(spec, variables)),
        *_of(TOOLBOXES, _toolboxes(spec, variables, files) if spec["toolboxes"]["managed"] else ()),
    ]


def _of(part: str, found: Iterable[_Found]) -> Iterator[Stage]:
    for stage, module, arguments in found:
        yield {"part": part, "stage": stage, "module": module, "arguments": arguments}


def _containerd(spec: Mapping[str, Any], variables: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[_Found]:
    yield "requirements", "requirements", {}
    if spec["thin_pool"]["enabled"]:
        yield "thin pool", UNPLANNED, {}
    if spec["kata"]["managed"]:
        yield from _kata(spec["kata"], variables, files)
    yield from _programs(spec, variables, files)
    if variables["containerd_registries"] is not None:
        config_path = spec["settings"]["registry_config_path"].split(":")[0]
        arguments = {"registries": variables["containerd_registries"], "config_path": config_path}
        yield "registries", "containerd_registry", {**arguments, "unit": variables["containerd_unit"]}
    yield from _snapshotters(spec, variables)
    settings = {
        "settings": spec["settings"],
        "enable_cri": variables["containerd_enable_cri"],
        "service_directives": variables["containerd_service_directives"],
        "restart": variables["containerd_restart"],
        "timeout": variables["containerd_timeout"],
        # The role says always if this run installs programs: then it is entered anyway.
        "probe": "changed" if variables["containerd_probe"] else "none",
        **_places(variables),
    }
    if spec["http_proxy"]:
        settings["http_proxy"] = spec["http_proxy"]
    yield "settings", "containerd_config", settings
    if boolean("containerd_remove_unused_snapshots", variables) and variables["containerd_restart"] != "never":
        used = dict.fromkeys(batch["snapshotter"] for batch in spec["image_batches"] if "snapshotter" in batch)
        arguments = {"keep_snapshotters": list(used), "remove": True, "timeout": variables["containerd_timeout"]}
        yield "unused snapshots", "containerd_unused_snapshots", {**arguments, **_places(variables)}


def _kata(kata: Mapping[str, Any], variables: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[_Found]:
    if not kata["enabled"]:
        yield "removal of Kata", UNPLANNED, {}
        return
    yield (
        "Kata handlers",
        "kata_config",
        {"handlers": kata["handlers"], "config_dir": variables["kata_config_dir"], "purge": False, "defer_unsafe": True},
    )
    content = files["kata_modules_thin" if "dm_thin_pool" in kata["kernel_modules"] else "kata_modules_shared"]
    yield "kernel modules of Kata", "files", {"files": [_file(KATA_MODULES_FILE, content)]}
    if variables["kata_install_method"] == "archive":
        release = {
            "name": "kata",
            "version": variables["kata_version"],
            "install_root": kata["install_root"],
            "bin_dir": f"{kata['install_root'][1:]}/bin",
            "prefix": KATA_PREFIX,
        }
        yield "Kata's release", "release", {"release": release, "releases": variables["kata_releases"]}


def _programs(spec: Mapping[str, Any], variables: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[_Found]:
    method = variables["containerd_install_method"]
    if method == "package":
        names = ["containerd", "runc", *(["erofs-utils"] if "erofs" in spec["snapshotters_used"] else [])]
        yield "packages", "packages", {"names": variables["containerd_packages"] or names}
    elif method == "archive":
        for name, version, releases in (
            ("containerd", "containerd_version", "containerd_releases"),
            ("runc", "containerd_runc_version", "containerd_runc_releases"),
        ):
            if variables[releases] or name == "containerd":
                release = {"name": name, "version": variables[version]}
                yield f"{name}'s release", "release", {"release": release, "releases": variables[releases]}
        unit = variables["containerd_unit"]
        path = f"/etc/systemd/system/{unit if unit.endswith('.service') else f'{unit}.service'}"
        yield "unit", "files", {"files": [_file(path, files["unit"])]}
    elif method != "none":
        yield "programs", UNPLANNED, {}


def _snapshotters(spec: Mapping[str, Any], variables: Mapping[str, Any]) -> Iterator[_Found]:
    size = variables["containerd_blockfile_scratch_size"]
    blockfile = variables["containerd_snapshotters"].get("blockfile") or {}
    if size and "scratch_file" in blockfile:
        arguments = {"path": blockfile["scratch_file"], "size": size, "fs_type": blockfile.get("fs_type", "ext4")}
        yield "scratch file", "blockfile_scratch", arguments
    if "erofs" in spec["snapshotters_used"]:
        directory = {"path": _MODULES_DIRECTORY, "mode": 0o755}
        file = _file(f"{_MODULES_DIRECTORY}/slipway-erofs.conf", "erofs\n")
        yield "erofs", "files", {"files": [directory, file], "filesystem": "erofs"}


def _images(spec: Mapping[str, Any], variables: Mapping[str, Any]) -> Iterator[_Found]:
    integrity, repair = variables["containerd_images_integrity"], boolean("containerd_images_repair", variables)
    for batch in spec["image_batches"]:
        if batch["state"] == "present" and (integrity != "none" or repair):
            # A comparison takes long, and would be made twice.
            yield "images", UNPLANNED, {}
            continue
        arguments = {**batch, "parallel": variables["containerd_images_parallel"], **_places(variables)}
        yield "images", "containerd_image", arguments


def _toolboxes(spec: Mapping[str, Any], variables: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[_Found]:
    toolboxes = spec["toolboxes"]
    for entry in toolboxes["entries"]:
        arguments = {key: value for key, value in entry.items() if key != "flatcar"}
        yield "toolboxes", "toolbox_snapshot", {**arguments, **_places(variables)}
    wanted = {}
    if boolean("toolbox_flatcar_defaults", variables):
        wanted[TOOLBOX_DEFAULTS_FILE] = _file(TOOLBOX_DEFAULTS_FILE, files["toolbox_defaults"])
    if boolean("toolbox_install_command", variables):
        wanted[TOOLBOX_COMMAND_FILE] = _file(TOOLBOX_COMMAND_FILE, files["toolbox_command"], 0o755)
        yield "program of the command", "program", {"path": "/usr/bin/systemd-nspawn"}
    unwanted = [path for path in (TOOLBOX_DEFAULTS_FILE, TOOLBOX_COMMAND_FILE) if path not in wanted]
    yield "command", "files", {"files": list(wanted.values()), "unwanted": unwanted, "mark": TOOLBOX_MARK}
    if toolboxes["pruned"]:
        everything = boolean("toolbox_prune_unlisted", variables)
        arguments = {
            "path_prefix": variables["toolbox_directory"],
            "listed_paths": [entry["path"] for entry in toolboxes["entries"]],
            "prune_after": "0s" if everything else variables["toolbox_prune_after"],
        }
        yield "unlisted toolboxes", "toolbox_snapshot_info", {**arguments, **_places(variables)}


def _places(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the roles give all modules that ask the daemon."""
    places = {name: variables[f"containerd_{name}"] for name in ("config_file", "binary", "unit", "address")}
    return {name: value for name, value in places.items() if value or name != "binary"}


def _file(path: str, content: str, mode: int = 0o644) -> dict[str, Any]:
    return {"path": path, "content": content, "mode": mode}
