# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubernetes_error
short_description: The message of a failed module of kubernetes.core in one line
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - The messages have several lines, with the headers and the body of the API server's answer.
positional: _input
options:
  _input:
    description: The message.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Fail with the cause
  ansible.builtin.fail:
    msg: "The Node can't be read: {{ answer.msg | slipway.node.kubernetes_error }}"
"""

RETURN = r"""
_value:
  description: The API server's own message if there is one, else the first line. Without a final full stop.
  type: str
"""

import json
import re
from collections.abc import Callable
from typing import Any

MESSAGE = re.compile(r'"message":\s*("(?:[^"\\]|\\.)*")')
LIBRARY = re.compile(r"required Python library \((?P<name>\S+)\) on \S+ Python (?P<path>\S+?)\.(?:\s|$)")


def kubernetes_error(message: Any) -> str:
    """Return the cause in a message as one line."""
    text = str(message)
    # In an exception's text, the body of an answer is a bytes literal.
    from_server = MESSAGE.search(text.replace('\\\\"', '\\"'))
    library = LIBRARY.search(text)
    if from_server:
        text = json.loads(from_server[1])
    elif library:
        text = f"the Python package {library['name']} is not installed for {library['path']}"
    return " ".join(text.strip().partition("\n")[0].split()).rstrip(".")


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"kubernetes_error": kubernetes_error}
