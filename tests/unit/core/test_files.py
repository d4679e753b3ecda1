# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange, secret_values, without_secrets


def test_secrets_are_found_wherever_they_lie() -> None:
    tree = {
        "settings": {"extra_config": {"plugins": {"x": {"auth": {"username": "builder", "password": "one"}}}}},
        "lists": [{"identitytoken": "two"}, "three", None],
        "Password": "five",
        "auth": "",
    }
    assert secret_values(tree) == {"one", "two", "five"}


def test_everything_under_a_secrets_key_is_secret() -> None:
    tree = {
        "password": ["one", ["two"]],
        "auth": ["three"],
        "secret": {"username": "four", "keys": ["five", None, True]},
        "token": 1234,
        "headers": {"Authorization": ["Bearer six"], "Accept": ["text/plain"]},
    }
    assert secret_values(tree) == {"one", "two", "three", "four", "five", "1234", "Bearer six"}


@pytest.mark.parametrize(
    "text",
    [
        'password = "hunter2"',
        'password = ["hunter2", "hunter2"]',
        'password = [\n  "hunter2",\n  "a]hunter2",\n]',
        'auth = """\nhunter2\n"""',
        "identitytoken = '''\nhunter2'''",
        'x.auth = { username = "builder", password = ["hunter2"] }',
        'auth = { "password" = "a\\"hunter2" }',
        'Authorization = ["Bearer hunter2"]',
        'Environment="HTTP_PROXY=http://user:a@hunter2@proxy.example:3128"',
        'Environment="HTTP_PROXY=http://user:a\'hunter2@proxy.example:3128"',
    ],
)
def test_no_secret_is_in_a_diff(text: str) -> None:
    diff = FileChange("/x", None, f'first = "1"\n{text}\nlast = ["2"]\n').diff()["after"]
    assert "hunter2" not in diff
    assert diff.startswith('first = "1"\n')
    assert diff.endswith('\nlast = ["2"]\n')


def test_a_text_without_secrets_is_shown_unchanged() -> None:
    text = '[registry.headers]\nAccept = ["a@b"]\nserver = ["https://a.example", "https://b.example:5000"]\nusers = ["c@d"]\n'
    assert without_secrets(text) == text
