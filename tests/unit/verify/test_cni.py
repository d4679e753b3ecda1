# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As CRI of containerd 1.7.24 and 2.3.7 says it with NetworkReady."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.verify.cni import cni_plugins


def test_the_plugins_of_a_cni_configuration_are_read() -> None:
    pods = '{"name": "pods", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap", "ipam": {}}]}'
    assert cni_plugins(pods, several=True, before_2=False) == ("bridge", "host-local", "portmap")
    assert cni_plugins('{"name": "pods", "type": "ptp"}', several=False, before_2=False) == ("ptp",)


@pytest.mark.parametrize(
    ("several", "text", "words"),
    [
        (True, "{", "Expecting"),
        (True, "", "Expecting"),
        (True, "[]", "no object"),
        (True, '{"plugins": [{"type": "ptp"}]}', "no name of a network"),
        (True, '{"name": "a b", "plugins": [{"type": "ptp"}]}', "none of a network"),
        (True, '{"name": "a", "plugins": []}', "no list of plugins"),
        (True, '{"name": "a", "plugins": [1]}', "no list of plugins"),
        (True, '{"name": "a", "plugins": [{}]}', "a plugin has no type"),
        (True, '{"name": "a", "type": "ptp"}', "no list of plugins"),
        (True, '{"name": "a", "plugins": [{"type": "/bin/ptp"}]}', "no name of a plugin"),
        (True, '{"name": "a", "cniVersion": 1, "plugins": [{"type": "ptp"}]}', "another type"),
        (True, '{"name": "a", "disableCheck": 5, "plugins": [{"type": "ptp"}]}', "neither true nor false"),
        (True, '{"name": "a", "plugins": [{"type": "ptp"}], "x": NaN}', "NaN is no JSON"),
        (True, '{"name": "a", "plugins": [{"type": "ptp", "ipam": "host-local"}]}', "the ipam of a plugin"),
        (True, '{"name": "a", "plugins": [{"type": "ptp", "dns": {"nameservers": "a"}}]}', "the dns of a plugin"),
        (True, '{"name": "a", "plugins": [{"type": "ptp", "capabilities": {"a": "true"}}]}', "the capabilities of a plugin"),
        (False, '{"name": "a", "plugins": [{"type": "ptp"}]}', "no type of a plugin"),
        (False, '{"type": "ptp"}', "no name of a network"),
    ],
)
def test_a_cni_configuration_that_cri_does_not_take_is_refused(several: bool, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cni_plugins(text, several=several, before_2=False)


def test_fields_of_a_plugin_are_read_in_any_case() -> None:
    plugin = {"Type": "ptp", "IPAM": {"TYPE": "host-local"}, "dns": None, "capabilities": None}
    assert cni_plugins(json.dumps({"name": "a", "plugins": [plugin]}), several=True, before_2=False) == ("ptp", "host-local")


@pytest.mark.parametrize(
    ("switches", "refused_by"),
    [
        ({"disableCheck": True}, ()),
        ({"disableCheck": "true"}, (True,)),
        ({"disableCheck": " true "}, (True, False)),
        ({"disableCheck": "maybe"}, (True, False)),
        ({"disableGC": 5}, (False,)),
        ({"loadOnlyInlinedPlugins": "true"}, ()),
    ],
)
def test_the_switches_of_a_list_may_be_texts_from_containerd_2_on(switches: dict[str, Any], refused_by: tuple[bool, ...]) -> None:
    text = json.dumps({"name": "a", "plugins": [{"type": "ptp"}], **switches})
    for before_2 in (True, False):
        try:
            assert cni_plugins(text, several=True, before_2=before_2) == ("ptp",)
            refused = False
        except ValueError:
            refused = True
        assert refused is (before_2 in refused_by)
