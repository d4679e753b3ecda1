# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.node_spec.toolboxes import default_toolbox, listed_toolboxes, toolboxes

DIRECTORY = "/var/lib/toolbox"
FEDORA = "docker.io/library/fedora"


def completed(*entries: Any) -> list[dict[str, Any]]:
    return toolboxes(list(entries), DIRECTORY, "core")


def test_a_toolbox_gets_a_name_a_path_a_namespace_and_a_state() -> None:
    assert completed({"name": "debug", "image": "debian:13", "platform": None}) == [
        {"name": "debug", "path": f"{DIRECTORY}/debug", "image": "debian:13", "namespace": "default", "state": "mounted"}
    ]


def test_one_without_a_name_is_where_flatcars_command_looks() -> None:
    """The example is that of the pull request which brought the label to Flatcar."""
    (found,) = completed({"image": f"{FEDORA}:38"})
    assert found["path"] == f"{DIRECTORY}/core-docker.io_library_fedora-38"
    assert found["flatcar"] == {"image": FEDORA, "tag": "38"}
    (port,) = completed({"image": "localhost:5000/tools/box:a.b_c-d"})
    assert port["name"] == "core-localhost_5000_tools_box-a.b_c-d"


def test_only_what_flatcars_command_finds_is_called_so() -> None:
    name = "core-docker.io_library_fedora-38"
    assert "flatcar" in completed({"image": "fedora:38", "name": name})[0]
    for entry in (
        {"image": "fedora:38", "name": "debug"},
        {"image": "fedora:38", "path": "/srv/box"},
        {"image": "fedora:39", "name": name},
        {"image": f"fedora@sha256:{'a' * 64}"},
        {"name": name, "state": "absent"},
    ):
        assert "flatcar" not in completed(entry)[0], entry


def test_what_is_handed_in_stays_as_it_is() -> None:
    entry = {"image": "debian:13"}
    completed(entry)
    assert entry == {"image": "debian:13"}


WRONG: list[tuple[Any, str]] = [
    ("debian:13", "has to be a list of dictionaries"),
    ({"image": "debian:13"}, "has to be a list of dictionaries"),
    (["debian:13"], r"\[0\]: it has to be a dictionary"),
    ([{"image": "debian:13", "colour": "red"}], "no key 'colour': its keys are name, image"),
    ([{"name": "debug"}], "it needs an image"),
    ([{"state": "absent"}], "needs a name or an image"),
    ([{"image": "debian:13", "state": "there"}], "state has to be one of present, mounted, absent, not 'there'"),
    ([{"image": "debian:13", "on_image_change": "panic"}], "on_image_change has to be one of"),
    ([{"image": "Debian:13"}], "is no image's name"),
    ([{"image": 13}], "image has to be a string"),
    ([{"image": "debian:13", "name": "../etc"}], "name must be at most"),
    ([{"image": "debian:13", "name": "a b"}], "name must be at most"),
    ([{"image": "debian:13", "name": "-a"}], "name must be at most"),
    ([{"image": "debian:13", "name": "a" * 300}], "name must be at most"),
    ([{"image": "debian:13", "name": "a\n"}], "name must be at most"),
    ([{"image": "debian:13", "name": "a", "path": "/etc"}], "path can't be /etc"),
    ([{"image": "debian:13", "name": "a", "path": "box"}], "path has to be"),
    (
        [{"image": "debian:13", "name": "a"}, {"image": "debian:12", "path": f"{DIRECTORY}/a"}],
        rf"\[1\]: there is another toolbox at {DIRECTORY}/a",
    ),
]


@pytest.mark.parametrize(("entries", "sentence"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_a_wrong_list_is_refused_by_its_element(entries: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        toolboxes(entries, DIRECTORY, "core")
    assert "toolbox_snapshots" in str(error.value)


def test_credentials_are_in_no_message() -> None:
    with pytest.raises(ValueError, match="is no image's name") as error:
        completed({"image": "Debian:13", "username": "node", "password": "correct-horse"})
    assert "correct-horse" not in str(error.value)


def test_verify_gets_the_toolboxes_without_their_credentials() -> None:
    entries = completed({"name": "debug", "image": "debian:13", "username": "node", "password": "correct-horse"})
    assert listed_toolboxes(entries) == [{"path": f"{DIRECTORY}/debug", "namespace": "default", "state": "mounted"}]


def test_the_default_toolbox_is_the_first_that_is_mounted_unless_it_is_named() -> None:
    entries = completed(
        {"name": "spare", "image": "debian:13", "state": "present"},
        {"name": "first", "image": "debian:13"},
        {"name": "second", "image": "debian:13"},
    )
    assert default_toolbox(entries, None, flatcar=False, command=True)["name"] == "first"
    assert default_toolbox(entries, "second", flatcar=False, command=False)["name"] == "second"
    assert default_toolbox([], None, flatcar=False, command=False) == {}
    with pytest.raises(ValueError, match="names spare, but toolbox_snapshots has first, second of state mounted"):
        default_toolbox(entries, "spare", flatcar=False, command=False)
    with pytest.raises(ValueError, match="names no toolbox, but toolbox_snapshots has none of state mounted"):
        default_toolbox([], None, flatcar=False, command=True)
    with pytest.raises(ValueError, match=f"Flatcar's command doesn't find {DIRECTORY}/first"):
        default_toolbox(entries, None, flatcar=True, command=False)
