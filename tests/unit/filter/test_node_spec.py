# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from unit.node_spec.test_spec import DEFAULTS, UNSET

from ansible_collections.slipway.node.plugins.filter import node_spec, node_spec_error

RIGHT: dict[str, Any] = {**UNSET, **DEFAULTS}
WRONG: dict[str, Any] = {**RIGHT, "containerd_images": [{"name": "a b", "password": "hunter2"}]}
SENTENCE = "containerd_images[0]: 'a b' is no image's name"


def test_the_specification_or_the_sentence() -> None:
    assert node_spec.FilterModule().filters()["node_spec"](RIGHT)["images"] == []
    with pytest.raises(AnsibleFilterError) as error:
        node_spec.FilterModule().filters()["node_spec"](WRONG)
    assert SENTENCE in str(error.value) and "hunter2" not in str(error.value)


def test_the_sentence_alone() -> None:
    error = node_spec_error.FilterModule().filters()["node_spec_error"]
    assert error(RIGHT) == ""
    assert error(WRONG).startswith(SENTENCE)
