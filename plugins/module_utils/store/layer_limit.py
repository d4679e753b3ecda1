# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The number of layers of an image that overlayfs can mount on this node.

The mount options are built as containerd builds them: plugins/snapshots/overlay/overlay.go (mounts) and
core/mount/mount_linux.go (mount, compactLowerdirOption), the same from 1.6 to 2.3.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# OVL_MAX_STACK, Linux fs/overlayfs/params.h.
KERNEL_LAYERS = 500
# Ids of removed snapshots are not given again, and the counter can't be read: a node is taken
# to give less than ten million, which all are as long as this one at most.
_LASTING_ID = 1_000_000
# containerd shortens the options when they come so near to the page, in bytes.
_SHORTEN_WITHIN = 512
# Options that become flags of mount(2) and take no room in its data: core/mount/mount_linux.go, parseMountOptions.
_FLAGS = frozenset(
    f"{no}{flag}" for flag in ("atime", "dev", "diratime", "exec", "mand", "relatime", "strictatime", "suid") for no in ("", "no")
) | {"async", "bind", "dirsync", "rbind", "remount", "ro", "rw", "sync"}


@dataclass(frozen=True)
class Overlay:
    """The overlayfs snapshotter of a node: its directory, the page size in bytes, the options that every mount gets.

    Raises ValueError if the directory isn't absolute or the page size isn't one.
    """

    root: str
    page_size: int
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.root.startswith("/"):
            raise ValueError(f"the snapshotter's root {self.root!r} is not an absolute path")
        if self.page_size < 4096:
            raise ValueError(f"{self.page_size} bytes is no page size")
        object.__setattr__(self, "root", posixpath.normpath("/" + self.root.lstrip("/")))

    def mount_data(self, layers: Sequence[int], writable: int) -> str:
        """Return the data of the mount(2) of a container's file system; empty without layers, which needs no overlay.

        ``layers`` are the snapshot ids of the image's layers, lowest layer first; ``writable`` that of the container's own.
        """
        if not layers:
            return ""
        directory = posixpath.join(self.root, "snapshots")
        lower = [f"{directory}/{number}/fs" for number in reversed(layers)]
        own = [f"workdir={directory}/{writable}/work", f"upperdir={directory}/{writable}/fs"]
        options = [*own, "lowerdir=" + ":".join(lower), *self.options]
        if len(lower) > 1 and sum(map(_size, options)) >= self.page_size - _SHORTEN_WITHIN:
            relative = ":".join(path[len(directory) + 1 :] for path in lower)
            options = [*own, *self.options, "lowerdir=" + relative]
        return ",".join(option for option in options if option not in _FLAGS)

    def excess(self, layers: Sequence[int], writable: int) -> int:
        """Return the bytes by which the mount's data is too long, or 0. The kernel puts a NUL in the page's last byte."""
        return max(0, _size(self.mount_data(layers, writable)) - (self.page_size - 1))


@dataclass(frozen=True)
class Verdict:
    """Whether an image can be mounted; None if unknown. ``reason``: one sentence, empty if it can."""

    mountable: bool | None
    reason: str = ""


@dataclass(frozen=True)
class Headroom:
    """The largest number of layers of an image that is pulled now, and what it comes from.

    ``layers_max`` if the next id is ``next_id``, the least that it can be; ``layers_guaranteed`` while ids have at most 7 digits.
    """

    layers_max: int
    layers_guaranteed: int
    reason: str
    overlay: Overlay
    next_id: int

    @property
    def digits(self) -> int:
        """Those of the next snapshot id."""
        return len(str(self.next_id))

    def to_dict(self) -> dict[str, Any]:
        """Return the values of the result: lengths in characters, the page size in bytes."""
        return {
            "layers_max": self.layers_max,
            "layers_guaranteed": self.layers_guaranteed,
            "reason": self.reason,
            "root": self.overlay.root,
            "root_length": len(self.overlay.root),
            "next_id": self.next_id,
            "digits": self.digits,
            "page_size": self.overlay.page_size,
            "mount_options": list(self.overlay.options),
        }


def next_id(existing: Sequence[int]) -> int:
    """Return the least id that the next snapshot can have, from the ids of the snapshots that are there."""
    return max(existing, default=0) + 1


def headroom(overlay: Overlay, first: int) -> Headroom:
    """Return the limit for an image whose lowest layer gets the id ``first``, and for a container with the next id."""
    count = _most(overlay, first)
    if count == KERNEL_LAYERS:
        reason = f"the kernel accepts {KERNEL_LAYERS} lower directories in one mount"
    else:
        reason = (
            f"the options of a mount have to fit in a page of {overlay.page_size} bytes; {overlay.root} has "
            f"{len(overlay.root)} characters and the snapshot ids have {_digits(*_pulled(count + 1, first))} digits"
        )
    return Headroom(count, _most(overlay, _lasting(first)), reason, overlay, first)


def _most(overlay: Overlay, first: int) -> int:
    def fits(count: int) -> bool:
        return not overlay.excess(*_pulled(count, first))

    # One lower directory is not shortened, so it can be too long where two are not.
    if not fits(2):
        return 1 if fits(1) else 0
    enough, limit = 2, KERNEL_LAYERS + 1
    while limit - enough > 1:
        middle = (enough + limit) // 2
        enough, limit = (middle, limit) if fits(middle) else (enough, middle)
    return enough


def layers_guaranteed(overlay: Overlay) -> int:
    """Return the number of layers that can be mounted with any snapshot ids of at most 7 digits."""
    return _most(overlay, _LASTING_ID)


def judge_pull(overlay: Overlay, layers: int, first: int) -> Verdict:
    """Judge an image of ``layers`` layers, none of which is unpacked yet: they get the ids from ``first`` on.

    Raises ValueError if ``layers`` is negative or ``first`` isn't positive.
    """
    if layers < 0 or first < 1:
        raise ValueError(f"there is no image of {layers} layers whose first snapshot id is {first}")
    return _judge(overlay, *_pulled(layers, first))


def judge_present(overlay: Overlay, layers: int, unpacked: int, existing: Sequence[int]) -> Verdict:
    """Judge an image whose lowest ``unpacked`` layers have snapshots, which are some of the ``existing`` ids.

    Which ones isn't known, nor the id that the next snapshot gets. So the longest and the shortest that they
    can be are tried; if these disagree, the verdict is None.
    """
    if unpacked > len(existing):
        return Verdict(None, f"{unpacked} of its layers have snapshots, but there are only {len(existing)} snapshot directories")
    first = next_id(existing)
    ids = sorted(existing)
    more, writable = _pulled(layers - unpacked, first)
    best = _judge(overlay, [*ids[:unpacked], *more], writable)
    if not best.mountable:
        return best
    more, writable = _pulled(layers - unpacked, _lasting(first))
    if _judge(overlay, [*ids[len(ids) - unpacked :], *more], writable).mountable:
        return best
    return Verdict(
        None,
        f"it depends on the ids of its {layers} layers' snapshots: the greatest on this node is {first - 1}, and those of "
        "removed snapshots are not given again; start a container of it to find out, or use an image with fewer layers",
    )


def _lasting(first: int) -> int:
    """Return an id from which on all are as long as a node's ever get, or longer if ``first`` is."""
    return max(first, _LASTING_ID)


def _pulled(count: int, first: int) -> tuple[range, int]:
    return range(first, first + count), first + count


def _judge(overlay: Overlay, layers: Sequence[int], writable: int) -> Verdict:
    count = len(layers)
    if count > KERNEL_LAYERS:
        return Verdict(
            False,
            f"it has {count} layers and the kernel accepts {KERNEL_LAYERS} lower directories in one mount: "
            "build it with fewer layers",
        )
    excess = overlay.excess(layers, writable)
    if not excess:
        return Verdict(True)
    # The root's path is in the options twice, when they have been shortened.
    shorter = len(overlay.root) - (excess + 1) // 2
    room = shorter >= len("/x")
    remedy = f"move the root to a path of at most {shorter} characters, or build the image" if room else "build it"
    return Verdict(
        False,
        f"the mount options of its {count} layers have {overlay.page_size - 1 + excess} bytes and the kernel accepts "
        f"{overlay.page_size - 1}; {overlay.root} has {len(overlay.root)} characters and the snapshot ids have "
        f"{_digits(layers, writable)} digits: {remedy} with fewer layers",
    )


def _digits(layers: Sequence[int], writable: int) -> str:
    least, most = len(str(min(layers, default=writable))), len(str(max(*layers, writable) if layers else writable))
    return str(most) if least == most else f"{least} to {most}"


def _size(text: str) -> int:
    return len(text.encode())
