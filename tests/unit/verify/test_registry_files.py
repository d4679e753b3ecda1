# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.verify.registry_files import docker_files, parse_hosts


def test_the_files_of_a_registry_are_read() -> None:
    text = """
ca = "ca.crt"
[host."https://mirror.example"]
ca = ["/etc/ssl/one.crt", "two.crt"]
client = [["c.crt", "c.key"]]
[host."https://mirror.example".header]
Authorization = "Basic eA=="
"""
    found = parse_hosts(text, "/d", before_2=False)
    assert found.certificates == ("/d/ca.crt", "/etc/ssl/one.crt", "/d/two.crt", "/d/c.crt")
    assert (found.keys, found.credentials, found.problems) == (("/d/c.key",), True, ())


def test_a_mirror_with_an_ipv6_address_is_lost_on_1_x_alone() -> None:
    text = '[host."https://[::1]:5000"]\n'
    assert "IPv6" in parse_hosts(text, "/d", before_2=True).problems[0]
    assert parse_hosts(text, "/d", before_2=False).problems == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('capabilities = ["fetch"]', "the unknown capability 'fetch'"),
        ('capabilities = "pull"', "a capabilities that is no list of texts"),
        ("capabilities = [5]", "a capabilities that is no list of texts"),
        ("ca = 1", "a ca that is no path or list of paths"),
        ('[host."https://a"]\nclient = true', "a client that is no path"),
        ('client = [["a", "b", "c"]]', "a client that is no path"),
        ('skip_verify = "yes"', "a skip_verify that is no true or false"),
        ('override_path = "true"', "an override_path that is no true or false"),
        ('dial_timeout = "abc"', "a dial_timeout that is no duration"),
        ('dial_timeout = "2562048h"', "a dial_timeout that is no duration"),
        ("[header]\nx = 5", "a header that is no table of texts"),
        ('[header]\nx = ["a", 5]', "a header that is no table of texts"),
        ("server = 5", "a server that is no text"),
        ('host = "x"', "a host that is no table of tables"),
        ('[host]\n"https://a" = "x"', "a host that is no table of tables"),
        ('[host."https://a b"]', "has 'https://a b', which is no URL"),
        ('[host."https://a:b"]', "has 'https://a:b', which is no URL"),
        ('server = "ftp://a"', "has 'ftp://a', which is no URL"),
        ('server = "://a"', "has '://a', which is no URL"),
        ('\ufeffserver = "https://a"', "begins with a byte order mark"),
    ],
)
def test_what_containerd_refuses_is_a_problem(text: str, words: str) -> None:
    (problem,) = parse_hosts(text, "/d", before_2=False).problems
    assert words in problem


@pytest.mark.parametrize(
    "text",
    [
        'server = "https://a.example/v2/"\noverride_path = true\nskip_verify = false\ndial_timeout = "1m2.5s"',
        'server = "a.example:5000"\ncapabilities = ["Pull", "resolve"]\nunknown = 5',
        'server = "http://10.0.0.1:5000/path"\ncapabilities = []\n[header]\nx = ["a"]\ny = "b"',
        '[host."https://[fd00::1]:5000"]\nclient = ["a.pem", ["b.crt", "b.key"]]\nca = []',
        '[host."localhost:5000"]\ndial_timeout = ""',
        '[host."localhost:5000"]\ndial_timeout = ".5h"',
        '[host."localhost:5000"]\ndial_timeout = "+0"',
        "",
    ],
)
def test_what_containerd_takes_is_no_problem(text: str) -> None:
    assert parse_hosts(text, "/d", before_2=False).problems == ()


def test_a_key_that_1_x_does_not_know_is_no_problem_there() -> None:
    text = '[host."https://a"]\ndial_timeout = "abc"\n'
    assert parse_hosts(text, "/d", before_2=True).problems == ()
    assert parse_hosts(text, "/d", before_2=False).problems


def test_a_directory_without_a_file_has_certificates_as_docker_names_them() -> None:
    found = docker_files("/d", ["ca.crt", "client.cert", "client.key", "own.cert", "README", "lone.key"])
    assert found.certificates == ("/d/ca.crt", "/d/client.cert", "/d/own.cert")
    assert found.keys == ("/d/client.key", "/d/own.cert")


def test_a_file_without_a_table_of_a_host_is_lost_on_1_x_alone() -> None:
    text = 'server = "https://a.example"\n'
    assert "no table of a host" in parse_hosts(text, "/d", before_2=True).problems[0]
    assert parse_hosts(text, "/d", before_2=False).problems == ()
    assert parse_hosts("# nothing yet\n", "/d", before_2=True).problems == ()


def test_headers_without_secrets_are_no_credentials() -> None:
    assert not parse_hosts('[header]\nUser-Agent = "a"\n', "/d", before_2=False).credentials
