# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's own names of plugins, as its configuration has them."""

from __future__ import annotations

CRI_V2 = "io.containerd.grpc.v1.cri"
CRI_IMAGES = "io.containerd.cri.v1.images"
CRI_RUNTIME = "io.containerd.cri.v1.runtime"
DIFF_SERVICE = "io.containerd.service.v1.diff-service"
TRANSFER = "io.containerd.transfer.v1.local"
METADATA = "io.containerd.metadata.v1.bolt"
IMAGE_VERIFIER = "io.containerd.image-verifier.v1.bindir"
# The namespace of the collection's probe.
PROBE_NAMESPACE = "slipway-probe"


EROFS = "erofs"
SNAPSHOTTER_PREFIX = "io.containerd.snapshotter.v1."
DIFFER_PREFIX = "io.containerd.differ.v1."
RUNC_TYPE = "io.containerd.runc.v2"
# Go's names of the architectures that containerd is released for, by the kernel's (uname -m).
GO_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm/v7",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


# Names of the CRI plugin in disabled_plugins: schema 1 has the short one.
CRI_NAMES = ("cri", CRI_V2)
