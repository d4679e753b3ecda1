# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import (
    ABSENT,
    DATABASE,
    FILE,
    LINK,
    PACKAGES,
    SETTLED,
    STEPS,
    Journal,
    Kept,
    interrupted,
    list_text,
    parse_list,
)

OBJECTS = (
    Kept(PACKAGES, copy="packages"),
    Kept(FILE, "/etc/a file", "files/0", 0o640, 1, 2),
    Kept(FILE, "/usr/bin/su", "files/1", 0o4755),
    Kept(LINK, "/usr/local/bin/ctr", target="../lib/ctr"),
    Kept(ABSENT, "/etc/none"),
    Kept(DATABASE, "/var/lib/meta.db", "databases/0"),
)


def test_the_list_is_what_the_script_reads() -> None:
    assert list_text(OBJECTS).splitlines() == [
        "packages\tpackages",
        "file\t0640\t1\t2\tfiles/0\t/etc/a file",
        "file\t4755\t0\t0\tfiles/1\t/usr/bin/su",
        "link\t../lib/ctr\t/usr/local/bin/ctr",
        "absent\t/etc/none",
        "database\tdatabases/0\t/var/lib/meta.db",
    ]


def test_a_list_is_read_as_it_was_written() -> None:
    assert parse_list(list_text(OBJECTS)) == OBJECTS


@pytest.mark.parametrize("path", ["/etc/a\tb", "/etc/a\nb", "/etc/a\rb", ""])
def test_a_path_that_a_line_can_not_hold_is_refused(path: str) -> None:
    for one in (Kept(ABSENT, path), Kept(LINK, "/a", target=path), Kept(FILE, path, "files/0")):
        with pytest.raises(ValueError, match="rename it" if path else "can't be kept"):
            list_text([one])


@pytest.mark.parametrize("line", ["file\t0640\t/etc/a", "other\t/etc/a", "file\tx\t0\t0\tfiles/0\t/etc/a", "absent"])
def test_a_damaged_list_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="damaged"):
        parse_list(f"{line}\n")


@pytest.mark.parametrize("step", STEPS)
def test_a_journal_is_read_as_it_was_written(step: str) -> None:
    for databases in (True, False):
        journal = Journal(7, step, databases)
        assert Journal.from_text(journal.to_text()) == journal


def test_the_journal_has_lines_for_a_shell() -> None:
    assert Journal(7, "switching", databases=True).to_text() == "GENERATION=7\nSTEP=switching\nDATABASES=restore\n"


@pytest.mark.parametrize(
    "text", ["", "GENERATION=0\nSTEP=kept\n", "GENERATION=7\nSTEP=other\n", "GENERATION=../7\nSTEP=kept\n", "x"]
)
def test_a_damaged_journal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="damaged"):
        Journal.from_text(text)


def test_runs_are_refused_in_the_middle_of_an_upgrade() -> None:
    refused = [step for step in STEPS if interrupted(Journal(7, step).to_text())]
    assert refused == [step for step in STEPS if step not in SETTLED]
    assert interrupted(None) == ""
    assert "run slipway.node.upgrade first" in interrupted("damaged")
