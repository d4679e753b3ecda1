# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config.host.record import read_record
from ansible_collections.slipway.node.plugins.module_utils.config.host.transaction import Transaction
from ansible_collections.slipway.node.plugins.module_utils.config.record import OwnedKey, Record
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange

SECRET = '[auth]\npassword = "hunter2"\n'


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_a_write_did_not_reach_is_not_in_the_way_of_going_back(tmp_path: Path) -> None:
    root, drop_in, blocked = tmp_path / "config.toml", tmp_path / "conf.d" / "60.toml", tmp_path / "directory"
    root.write_text("old = 1\n")
    blocked.mkdir()
    changes = [
        FileChange(str(drop_in), None, "new = 1\n"),
        FileChange(str(blocked), "not even text", "new = 2\n"),
        FileChange(str(root), "old = 1\n", "new = 3\n"),
    ]
    change = Transaction(str(root), Record(), Record(), changes)
    change.begin()
    with pytest.raises(HostError, match="directory"):
        change.write()
    with pytest.raises(HostError, match="directory"):
        change.roll_back()
    assert not drop_in.exists(), "one file that can't be put back keeps no other from going back"
    assert root.read_text() == "old = 1\n"
    assert read_record(str(root)).pending, "the next run knows what was there"


@pytest.mark.parametrize(("before", "mode"), [("plain = 1\n", 0o600), (SECRET, 0o644)], ids=["new-secret", "their-secret"])
def test_a_file_that_gets_a_secret_is_closed_and_opened_again(tmp_path: Path, before: str, mode: int) -> None:
    path = tmp_path / "config.toml"
    path.write_text(before)
    path.chmod(0o644)
    change = Transaction(str(path), Record(), Record(), [FileChange(str(path), before, "more = 1\n" + SECRET, 0o600)])
    change.begin()
    change.write()
    assert mode_of(path) == mode
    change.roll_back()
    assert (path.read_text(), mode_of(path)) == (before, 0o644)


def test_a_proven_repair_is_what_to_go_back_to(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("repaired = 1\n")
    found = Record(pending={str(path): "before = 1\n"})
    for proven, text in ((True, "repaired = 1\n"), (False, "before = 1\n")):
        change = Transaction(str(path), found, Record(), [FileChange(str(path), "repaired = 1\n", "new = 1\n")], proven=proven)
        change.begin()
        change.write()
        change.roll_back()
        assert path.read_text() == text


def test_values_of_every_stage_are_known_to_the_run_that_finds_them(tmp_path: Path) -> None:
    path, key = tmp_path / "config.toml", ("plugins", "snapshotter")
    path.write_text("before = 1\n")
    stage, final = (Record(keys={key: OwnedKey(value, had=True, before="theirs")}) for value in ("old", "new"))
    last = FileChange(str(path), "before = 1\n", "new = 1\n")
    change = Transaction(str(path), Record(), final, [last], stages=[stage])
    change.begin()
    change.write([FileChange(str(path), "before = 1\n", "stage = 1\n")])
    assert path.read_text() == "stage = 1\n"
    begun = read_record(str(path))
    assert begun.keys == {key: OwnedKey("new", had=True, before="theirs", earlier=("old",))}
    assert begun.pending == {str(path): "before = 1\n"}
    change.write()
    assert path.read_text() == "new = 1\n"
    change.roll_back()
    assert path.read_text() == "before = 1\n" and read_record(str(path)) == Record()


def test_going_back_removes_the_directories_that_it_made_and_no_others(tmp_path: Path) -> None:
    root = tmp_path / "etc" / "containerd" / "config.toml"
    theirs = tmp_path / "theirs.d"
    theirs.mkdir()
    changes = [FileChange(str(root.parent / "conf.d" / "60.toml"), None, "new = 1\n"), FileChange(str(theirs / "a"), None, "a")]
    change = Transaction(str(root), Record(), Record(), changes)
    change.begin()
    change.write()
    change.roll_back()
    assert list(tmp_path.iterdir()) == [theirs] and list(theirs.iterdir()) == []
