# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of the comparison of an image with its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The results of a comparison.
INTACT = "intact"
DAMAGED = "damaged"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Difference:
    """``path`` from the image's root, ``problem``: "missing", "is empty, should have 5 bytes", …; several joined by "; "."""

    path: str
    problem: str


@dataclass(frozen=True)
class Comparison:
    """The result of comparing one image.

    ``differences``: at most 100 of ``count``; ``total``: how many files there should be. ``damaged_blobs``: digests of the
    image's blobs that are missing, cut off or something else. ``unknown``: why the files can't be judged, else empty.
    ``lowest``: the number, from 0, of the lowest layer that has to be unpacked again for the differences to go away.
    ``discarded``: layers that the namespace has given up.
    """

    differences: tuple[Difference, ...] = ()
    total: int = 0
    damaged_blobs: tuple[str, ...] = ()
    unknown: str = ""
    count: int = 0
    lowest: int = 0
    discarded: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        """Whether it is certain that nothing is wrong, at the level of the comparison."""
        return not (self.differences or self.damaged_blobs or self.unknown)

    @property
    def damaged(self) -> bool:
        """Whether files or blobs are known to be wrong."""
        return bool(self.differences or self.damaged_blobs)

    def summary(self) -> str:
        """Return why the image isn't certainly intact; empty if it is."""
        if self.differences:
            first = self.differences[0]
            return f"{self.count} of its {self.total} files are not as in its layers, such as {first.path}: {first.problem}"
        return self.blob_summary()

    def blob_summary(self) -> str:
        """Return the same for the image's blobs alone."""
        if self.damaged_blobs:
            return f"damaged in the content store: {', '.join(self.damaged_blobs)}"
        return self.unknown

    def to_result(self) -> dict[str, Any]:
        """Return the return values of a module."""
        return {
            "integrity": DAMAGED if self.damaged else UNKNOWN if self.unknown else INTACT,
            "differences": {difference.path: difference.problem for difference in self.differences},
            "difference_count": self.count,
            "file_count": self.total,
            "damaged_blobs": list(self.damaged_blobs),
            "integrity_reason": self.unknown,
        }
