# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.images.pull_errors import explain

# What ctr of 1.6.20, 1.7.24 and 2.1.9 printed.
SAID = {
    "ctr: 127.0.99.2:5055/a/img:nope: not found": "there is no such image",
    'ctr: failed to resolve reference "127.0.0.2:5055/a:1": 127.0.0.2:5055/a:1: not found': "there is no such image",
    "ctr: failed to resolve image: 127.0.0.2:5055/a:1: not found": "there is no such image",
    "ctr: pulling from host 127.0.0.2:5056 failed with status code [manifests 1]: 401 Unauthorized": "set username and password",
    "ctr: pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth "
    "credentials": "set username and password",
    "ctr: unexpected status from HEAD request to http://127.0.0.2:5056/v2/a/manifests/1: 401 Unauthorized": "set username",
    'ctr: failed to do request: Head "http://127.0.0.2:5999/v2/a/manifests/1": dial tcp 127.0.0.2:5999: connect: connection '
    "refused": "the registry can't be reached",
    'ctr: failed to do request: Head "http://a.invalid/v2/a/manifests/1": dial tcp: lookup a.invalid on 127.0.0.53:53: no such '
    "host": "the registry can't be reached",
    "ctr: httpReadSeeker: failed open: could not fetch content descriptor sha256:94 (application/vnd.docker.distribution."
    "manifest.v1+prettyjws) from remote: not found": "Docker's manifest schema 1",
    "ctr: schema 1 image manifests are no longer supported: invalid argument": "Docker's manifest schema 1",
    "ctr: httpReadSeeker: failed open: could not fetch content descriptor sha256:a1 (application/vnd.oci.image.layer.v1."
    "tar+gzip) from remote: not found": "a part of it is missing there",
    'ctr: apply layer error for "r.example/a:1": failed to extract layer sha256:b9: failed to get reader from content store: '
    "content digest sha256:4c: not found": "a part of it is missing there",
    "ctr: no match for platform in manifest sha256:58: not found": "for this platform",
    "ctr: unable to initialize unpacker: no unpack platforms defined: invalid argument": "set it up first",
    'ctr: failed to dial "/run/none.sock": context deadline exceeded: connection error: desc = "transport: error while dialing: '
    'dial unix:///run/none.sock: timeout"': "containerd went away",
    "ctr: cannot access socket /run/none.sock: stat /run/none.sock: no such file or directory": "containerd went away",
}


@pytest.mark.parametrize(("stderr", "remedy"), SAID.items())
def test_what_to_do_comes_first_and_what_was_said_follows(stderr: str, remedy: str) -> None:
    noise = 'time="2026-11-21T02:50:27Z" level=info msg="trying next host" error="not found" host="127.0.0.2:5056"\n'
    for text in (stderr, noise + stderr + "\n", stderr + "\n" + noise):
        explained = explain(text)
        assert remedy in explained and stderr.removeprefix("ctr: ") in explained
        assert "trying next host" not in explained and "\n" not in explained


def test_what_is_not_known_is_passed_on() -> None:
    assert explain("ctr: something new\n") == "something new"
    assert explain("") == "ctr failed without a message"
    assert explain("\x1b[32mctr: odd\x1b[0m") == "odd"
