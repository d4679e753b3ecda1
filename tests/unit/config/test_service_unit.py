# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import (
    Service,
    directives,
    drop_in_path,
    environment_files,
    overridden_directives,
    overridden_variables,
)
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.options import unit_name


@pytest.mark.parametrize(("name", "full"), [("containerd", "containerd.service"), ("a@b.service", "a@b.service")])
def test_a_units_full_name(name: str, full: str) -> None:
    assert unit_name(name) == full
    assert drop_in_path(full) == f"/etc/systemd/system/{full}.d/60-slipway.conf"


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "a\n", "../a"])
def test_refuses_what_is_no_units_name(name: str) -> None:
    with pytest.raises(ValueError, match="unit has to be the name of a systemd service"):
        unit_name(name)


def test_nothing_to_say_is_no_drop_in() -> None:
    assert Service.from_params({}, {}).text() is None
    assert Service.from_params({}, {"http": None, "https": "", "no_proxy": ["10.0.0.0/8"]}).text() is None


def test_the_drop_in_is_sorted_and_escaped() -> None:
    service = Service.from_params(
        {"TasksMax": "infinity", "LimitNOFILE": 1048576, "Delegate": True},
        {"http": "http://user:p%40ss%22@proxy.example:3128", "no_proxy": ["10.0.0.0/8", ".example"]},
    )
    assert service.text() == (
        "# Managed by slipway.node: changes made here are lost.\n"
        "[Service]\n"
        "Delegate=true\n"
        "LimitNOFILE=1048576\n"
        "TasksMax=infinity\n"
        'Environment="HTTP_PROXY=http://user:p%%40ss%%22@proxy.example:3128"\n'
        'Environment="NO_PROXY=10.0.0.0/8,.example"\n'
    )
    assert service.environment()["HTTP_PROXY"] == "http://user:p%40ss%22@proxy.example:3128"


@pytest.mark.parametrize(
    ("directives", "message"),
    [
        ({"ExecStart": "/bin/sh"}, r"service_directives\.ExecStart can't be set here"),
        ({"ExecStartPre": "/bin/sh"}, r"service_directives\.ExecStartPre can't be set here"),
        ({"User": "nobody"}, r"service_directives\.User can't be set here"),
        ({"EnvironmentFile": "/x"}, r"service_directives\.EnvironmentFile can't be set here"),
        ({"Limit\nNOFILE": 1}, r"can't be set here"),
        ({"TasksMax": "1\nExecStart=/bin/sh"}, r"service_directives\.TasksMax has to be one line of text"),
        ({"TasksMax": "1\\"}, r"service_directives\.TasksMax has to be one line of text"),
        ({"TasksMax": ""}, r"service_directives\.TasksMax has to be one line of text"),
        ({"TasksMax": None}, r"service_directives\.TasksMax has to be one line of text or a number, not None"),
        ({"TasksMax": [1]}, r"service_directives\.TasksMax has to be one line of text or a number, not \[1\]"),
    ],
)
def test_refuses_directives_that_are_not_for_here(directives: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Service.from_params(directives, {})


@pytest.mark.parametrize("url", ["proxy:3128", "ftp://proxy", "http:///", "http://a b", "http://a\nb", "http://a/\x01"])
@pytest.mark.parametrize("key", ["http", "https"])
def test_refuses_what_is_no_proxy_without_showing_it(key: str, url: str) -> None:
    with pytest.raises(ValueError, match=rf"http_proxy\.{key} has to be a URL such as") as caught:
        Service.from_params({}, {key: url})
    assert url not in str(caught.value)


@pytest.mark.parametrize("entry", ["a,b", "a b", "", "a\n"])
def test_refuses_two_names_in_one_entry(entry: str) -> None:
    with pytest.raises(ValueError, match=r"http_proxy\.no_proxy"):
        Service.from_params({}, {"http": "http://proxy:3128", "no_proxy": [entry]})


OWN = drop_in_path("containerd.service")
DIRECTORY = "/etc/systemd/system/containerd.service.d"
THEIRS = f"{DIRECTORY}/http-proxy.conf"
OURS = "[Service]\nLimitNOFILE=5\nTasksMax=9\nReadWritePaths=/a\n"


def unit(*drop_ins: tuple[str, str]) -> list[Source]:
    return [
        Source("/usr/lib/systemd/system/containerd.service", "[Service]\nLimitNOFILE=7000\n"),
        *(Source(path, f"[Service]\n{text}\n") for path, text in drop_ins),
    ]


def test_a_later_drop_in_that_wins_is_named() -> None:
    files = unit((OWN, "LimitNOFILE=5"), (THEIRS, "LimitNOFILE=6\nTasksMax=9"))
    assert overridden_directives(files, OWN, OURS) == [f"LimitNOFILE=5 of {OWN} is overridden by LimitNOFILE=6 in {THEIRS}"]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (f"{DIRECTORY}/override.conf", "ReadWritePaths=/b"),
        (f"{DIRECTORY}/override.conf", "LimitNOFILE=5"),
        (f"{DIRECTORY}/10-limits.conf", "LimitNOFILE=6"),
        ("/run/systemd/system.control/containerd.service.d/50-TasksMax.conf", "TasksMax=1"),
    ],
)
def test_earlier_files_and_lists_override_nothing(path: str, line: str) -> None:
    assert overridden_directives(unit((path, line)), OWN, OURS) == []


def test_an_empty_line_takes_a_list_back() -> None:
    assert len(overridden_directives(unit((THEIRS, "ReadWritePaths=")), OWN, OURS)) == 1


def test_the_last_assignment_counts() -> None:
    files = unit((f"{DIRECTORY}/z.conf", "LimitNOFILE=5"), (THEIRS, "LimitNOFILE=6"))
    assert overridden_directives(files, OWN, OURS) == []


@pytest.mark.parametrize(
    ("line", "winner"),
    [
        ('Environment="NO_PROXY=a" "HTTPS_PROXY=http://other"', THEIRS),
        ("Environment=HTTPS_PROXY=http://other", THEIRS),
        ("Environment=", THEIRS),
        ("UnsetEnvironment=HTTPS_PROXY", THEIRS),
        ('Environment="HTTPS_PROXY=http://u:p%%40@ours"', None),
        ("Environment=HTTP_PROXY=http://other", None),
    ],
)
def test_the_file_that_sets_a_variable_is_named(line: str, winner: str | None) -> None:
    wanted = {"HTTPS_PROXY": "http://u:p%40@ours"}
    assert overridden_variables(unit((THEIRS, line)), OWN, wanted).get("HTTPS_PROXY") == winner


def test_a_file_of_variables_has_the_last_word() -> None:
    wanted = {"HTTPS_PROXY": "http://ours"}
    files = unit((f"{DIRECTORY}/10-file.conf", "EnvironmentFile=/old\nEnvironmentFile=\nEnvironmentFile=-/etc/default/proxy"))
    assert environment_files(files) == ["/etc/default/proxy"]
    for text, winner in (("# HTTPS_PROXY=a", None), ('HTTPS_PROXY="http://other"', "proxy"), ("HTTPS_PROXY=http://ours\n", None)):
        assert overridden_variables(files, OWN, wanted, [Source("proxy", text)]).get("HTTPS_PROXY") == winner


def test_only_the_section_of_the_service_is_read() -> None:
    text = "[Unit]\nAfter=a\n[Service]\n# Type=simple\nExecStart=a \\\n  b\nLimitNOFILE = 5\n"
    assert directives(text) == [("ExecStart", "a    b"), ("LimitNOFILE", "5")]
