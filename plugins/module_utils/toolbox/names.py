# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""States of a toolbox, and labels of its snapshot."""

from __future__ import annotations

PRESENT, MOUNTED, ABSENT = "present", "mounted", "absent"
# Garbage collection keeps objects with this label, and their parents: containerd docs/garbage-collection.md.
PIN_LABEL = "containerd.io/gc.root"
# The name of the image that a toolbox is to be made of, so that others can tell whether it has changed.
IMAGE_LABEL = "slipway.node/image"
