# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults of the files in this directory, as README.md describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Fault = dict[str, Any]
_FILES: list[dict[int, list[Fault]]] = [yaml.safe_load(path.read_text()) for path in sorted(Path(__file__).parent.glob("*.yml"))]
_NUMBERS = sorted({number for rounds in _FILES for number in rounds})
# The rounds in order, each with the faults of all files.
ROUNDS: list[list[Fault]] = [[fault for rounds in _FILES for fault in rounds.get(number, [])] for number in _NUMBERS]
