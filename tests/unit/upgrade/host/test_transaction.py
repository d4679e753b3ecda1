# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The traces of an interrupted run, and the generations that stay."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import SETTLED, STEPS, Journal
from ansible_collections.slipway.node.plugins.module_utils.upgrade.generation import PREVIOUS, Manifest
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import generation as store
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import transaction
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.containerd_upgrade import unchanged

STEPS_TO_TAKE_BACK = [step for step in STEPS if step not in (STEPS[0], *SETTLED)]


@pytest.mark.parametrize(
    ("step", "versions", "taken_back"),
    [
        ("keeping", ("", ""), False),
        ("kept", ("1.7.24", "1.7.24"), True),
        ("started", ("1.7.24", "1.7.24"), True),
        ("restored", ("1.7.24", "1.7.24"), True),
        ("committed", ("1.7.24", "2.3.7"), False),
    ],
)
def test_a_result_says_what_became_of_an_interrupted_run(step: str, versions: tuple[str, str], taken_back: bool) -> None:
    known = ("", "") if step == "keeping" else ("1.7.24", "2.3.7")
    result = unchanged(transaction.Recovery(3, step, *known))
    assert result["changed"]
    assert (result["version"], result["to_version"]) == versions
    assert (result["rolled_back"], result["restarted"]) == (taken_back, taken_back)


@pytest.fixture
def generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node whose generations are 1 to 3."""
    monkeypatch.setattr(store, "GENERATIONS", str(tmp_path))
    for number in range(1, 4):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "list").write_text("absent\t/etc/none\n")
    return tmp_path


@pytest.mark.parametrize("step", STEPS_TO_TAKE_BACK)
@pytest.mark.usefixtures("generations")
def test_without_its_generation_a_run_can_not_be_taken_back(step: str) -> None:
    with pytest.raises(HostError, match=r"generation 9 .* is missing: remove /var/lib/slipway-node/upgrading"):
        transaction.recovery_of(Journal(9, step))


@pytest.mark.parametrize("step", SETTLED)
@pytest.mark.usefixtures("generations")
def test_a_run_that_was_over_needs_no_generation(step: str) -> None:
    assert transaction.recovery_of(Journal(9, step)).step == step


@pytest.mark.parametrize(("target", "left"), [(None, ["3"]), (1, ["1", "3"]), (3, ["3"])])
def test_the_generation_that_the_node_went_back_to_stays(generations: Path, target: int | None, left: list[str]) -> None:
    transaction.drop_old(1, target)
    assert sorted(path.name for path in generations.iterdir()) == left


@pytest.mark.parametrize("healthy", [True, False])
@pytest.mark.usefixtures("generations")
def test_only_a_daemon_that_was_well_before_has_to_be_well_again(monkeypatch: pytest.MonkeyPatch, healthy: bool) -> None:
    """Otherwise no later run could bring a node with a dead daemon to another generation."""

    def dead(*_arguments: object) -> None:
        raise HostError("it is dead")

    monkeypatch.setattr(transaction, "prove", dead)
    unit = SimpleNamespace(stop=lambda: True, reload_manager=lambda: None, forget_failures=lambda: None)
    node: Any = SimpleNamespace(unit=unit)
    node.renewed = lambda: node
    monkeypatch.setattr(store, "restore", lambda *_arguments: None)
    monkeypatch.setattr(store, "read_journal", lambda: Journal(3, STEPS[3]))
    monkeypatch.setattr(store, "write_journal", lambda _journal: None)
    warned: list[str] = []
    change = transaction.Transaction(node, lock=-1, timeout=1, probes=True, warn=warned.append)
    manifest = Manifest(3, "2.3.7", "1.7.24", PREVIOUS, 0.0, "", healthy=healthy)
    assert change._go_back(manifest) == ("kept", "it is dead" if healthy else "")
    assert [text.partition(":")[0] for text in warned] == (
        [] if healthy else ["containerd 2.3.7 isn't healthy, as before the change"]
    )
