# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The answer of a module whose file is still on the controller, to the action that can send it."""

from __future__ import annotations

# The key of the result, which no user sees. The module has changed nothing.
NEEDS_FILE = "needs_file"
# The module has to read the file: send it and run the module again.
NOW = "now"
# In check mode: the result is complete, but a real run would need the file.
LATER = "later"
