# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.options import (
    absolute_paths,
    at_least,
    duration,
    go_reads_proxy,
    proxy_url,
)


@pytest.mark.parametrize("text", ["5m", "5m0s", "0s", "1h30m", "1.5s", "250ms", "10us", "10µs", "3ns"])
def test_a_duration_is_taken_as_it_is(text: str) -> None:
    assert duration("wait", text) == text


@pytest.mark.parametrize("text", ["", "5", "5 m", "m", "5min", "-5m", "5m\n", "1d", "soon", "٣s"])
def test_what_go_reads_as_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wait has to be a duration with units, such as 90s, 5m or 1h30m, not "):
        duration("wait", text)


def test_each_path_of_a_list_is_checked() -> None:
    assert absolute_paths("dirs", "/etc/a:/etc/b") == "/etc/a:/etc/b"
    with pytest.raises(ValueError, match="dirs has to be an absolute path"):
        absolute_paths("dirs", "/etc/a:")


def test_the_least_number_is_taken() -> None:
    assert at_least(1)("count", 1) == 1
    with pytest.raises(ValueError, match="count has to be 1 or more"):
        at_least(1)("count", 0)


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy:3128",
        "HTTP://proxy",
        "https://proxy.example./",
        "http://my_proxy:3128/path",
        "http://10.0.0.1:3128",
        "http://[fd00::1]:3128",
        "http://[fe80::1%25eth0]",
        "http://user@proxy",
        "http://user:p%25%2F%C3%A4-._~!$&'()*+,;=:@proxy:3128",
        "http://user:p@ss@proxy",
        "http://pröxy.example",
        "socks5://proxy:1080",
    ],
)
def test_a_proxy_that_go_reads_is_taken_as_it_is(url: str) -> None:
    assert proxy_url("proxy", url) == url


def test_a_scheme_that_containerd_1_6_does_not_know_is_written_as_its_equal() -> None:
    assert proxy_url("proxy", "socks5h://user:socks5h@proxy") == "socks5://user:socks5h@proxy"


@pytest.mark.parametrize("character", ["%G4", "%", "\\", "#", "/", "?", '"', "ä", "^", "[", " ", "{", "|", "`", "<", "\n"])
def test_a_password_that_go_can_not_read_is_refused_with_the_way_to_write_it(character: str) -> None:
    for url in (f"http://user:hunter2{character}@proxy:3128", f"http://user:1{character}hunter2@proxy:3128"):
        with pytest.raises(ValueError, match=r"proxy has to be a URL such as .*: write each character .* as % and two") as caught:
            proxy_url("proxy", url)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://proxy:port", "give the port as a number"),
        ("http://proxy:", "give the port as a number"),
        ("http://proxy:65536", "give the port as a number"),
        ("http://[::1]:x", "give the port as a number"),
        ("http://proxy:\u0661", "give the port as a number"),
        ("proxy:3128", "give the scheme"),
        ("ftp://proxy", "give the scheme"),
        ("http://", "give the scheme"),
        ("http:///", "give the scheme"),
        ("http://a b", "give the scheme"),
        ("http://a%41", "give the scheme"),
        ("http://::1", "give the scheme"),
        ("http://a\n", "give the scheme"),
        ("http://proxy/%G4", "remove the part behind"),
        ("http://proxy/?x", "remove the part behind"),
        (["http://proxy"], "give the scheme"),
    ],
)
def test_what_go_reads_as_no_proxy_is_refused(url: object, why: str) -> None:
    with pytest.raises(ValueError, match=f"proxy has to be a URL such as .*: {why}"):
        proxy_url("proxy", url)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "http://proxy:3128",
        "proxy:3128",
        "10.0.0.1:8080",
        "u:p@proxy:1",
        "http://[::1]:3128/",
        "http://[fe80::1%25eth0]:1",
        "https://u:p%25@proxy",
        "socks5://a_b:1",
        "http://proxy:3128/a b",
    ],
)
def test_what_go_takes_for_a_proxy_is_read(value: str) -> None:
    assert go_reads_proxy(value)


@pytest.mark.parametrize(
    "value",
    [
        "http://[bad",
        "http://u:pa#ss@proxy:1",
        "http://u:p%ss@proxy:1",
        "http://u:p^q@proxy:1",
        "http://proxy:port",
        "proxy:abc",
        "http://pro xy",
        " http://proxy",
        '"http://proxy:1"',
        "http://",
        "://proxy",
        "http:/proxy",
    ],
)
def test_what_go_takes_for_no_proxy_is_not_read(value: str) -> None:
    assert not go_reads_proxy(value)
