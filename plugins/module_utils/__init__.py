# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to slipway.node: its interface may change at any time, and other collections must not import it."""
