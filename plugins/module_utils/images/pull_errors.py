# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The messages of ctr about a failed pull, and their remedies. The texts are those of 1.6.20, 1.7.24, 2.1.9 and 2.3.7."""

from __future__ import annotations

import re

from ansible_collections.slipway.node.plugins.module_utils.store.oci import SCHEMA_1_IMAGE

# The first that fits decides.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"block(ed|ing) pull of .* (with|for) ", "an image verifier of the node refuses it"),
    (r"no space left on device|disk quota exceeded", "the disk is full: free some space, or give containerd a larger root"),
    (
        r"401 Unauthorized|403 Forbidden|no basic auth credentials|authorization failed|pull access denied|access denied",
        "the registry refuses it: set username and password, or correct them",
    ),
    (r"429 Too Many Requests|toomanyrequests", "the registry asks for fewer requests: log in, use a mirror, or try again later"),
    (r"server gave HTTP response to HTTPS client", "the registry speaks plain HTTP: set plain_http, or name it in hosts.toml"),
    (r"x509:|certificate", "the registry's certificate isn't trusted: name its CA in hosts.toml"),
    (
        r"connection re(fused|set)|no such host|i/o timeout|is unreachable|no route to host|handshake timeout|misbehaving",
        "the registry can't be reached: see that it is up, and that the node may reach it",
    ),
    (
        r"transport is closing|reading from server: EOF|error while dialing|cannot access socket|failed to dial|= Unavailable",
        "containerd went away: see why with 'journalctl -u containerd', and run this again",
    ),
    (r"snapshotter not loaded|no unpack platforms defined", "containerd can't unpack for this snapshotter: set it up first"),
    (
        r"unexpected commit digest|failed size validation|unexpected EOF|invalid tar header|gzip: invalid|wrong diff id",
        "the content of a layer doesn't match its digest: push the image again, or use another mirror",
    ),
    (r"distribution\.manifest\.v1|schema 1 image", f"it is {SCHEMA_1_IMAGE}"),
    (
        r"no match for platform",
        "containerd finds nothing in it for this platform: name another platform, or push the image again",
    ),
    (r"fetch content descriptor|content digest .* not found|/blobs/", "a part of it is missing there: push the image again"),
    (r"not found", "there is no such image: correct its name"),
)
_TIMESTAMP = re.compile(r"^time=\"[^\"]*\" level=(?:info|warning|debug) ")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def explain(stderr: str) -> str:
    """Return one sentence without a final full stop: the remedy if it is known, and ctr's last message."""
    lines = [_ESCAPES.sub("", line).strip() for line in stderr.splitlines()]
    lines = [line for line in lines if line and not _TIMESTAMP.match(line)]
    said = lines[-1].removeprefix("ctr: ") if lines else "ctr failed without a message"
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, said):
            return f"{remedy} ({said})"
    return said
