# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.hosts import (
    MARKER,
    directories_of,
    files_of,
    ipv6_mirror,
    parse_config_path,
    parse_names,
    parse_registries,
    toml_string,
)
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.plan import CurrentFile, plan_absent, plan_present


def pem(label: str, body: bytes = b"not really DER") -> str:
    return f"-----BEGIN {label}-----\n{base64.b64encode(body).decode()}\n-----END {label}-----\n"


CA, CERT, KEY = pem("CERTIFICATE", b"ca"), pem("CERTIFICATE", b"cert"), pem("PRIVATE KEY", b"key")
PATH = "/etc/containerd/certs.d"


def registry(**options: Any) -> dict[str, Any]:
    return {"name": "registry.example:5000", **options}


def hosts_toml(entry: dict[str, Any]) -> dict[str, Any]:
    return tomllib.loads(files_of(parse_registries([entry])[0])["hosts.toml"].content.decode())


def made(*entries: dict[str, Any]) -> dict[str, dict[str, CurrentFile]]:
    return {
        parsed.directory: {name: CurrentFile(file.content, file.mode) for name, file in files_of(parsed).items()}
        for parsed in parse_registries(entries)
    }


def present(found: Any, *entries: dict[str, Any], purge: bool = True, adopt: bool = False) -> Any:
    return plan_present(found, parse_registries(entries), config_path=PATH, purge=purge, adopt=adopt)


@pytest.mark.parametrize(
    ("name", "directories"),
    [
        ("docker.io", ("docker.io",)),
        ("_default", ("_default",)),
        ("myregistry.io:5000", ("myregistry.io_5000_", "myregistry.io:5000")),
        ("[::1]:5000", ("[::1]_5000_", "[::1]:5000")),
        ("[::1]", ("[::1]",)),
    ],
)
def test_directory_names_in_the_order_of_containerd(name: str, directories: tuple[str, ...]) -> None:
    assert directories_of(name) == directories


def test_a_whole_registry() -> None:
    parsed = hosts_toml(
        registry(
            server="https://registry.example:5000/",
            username="us",
            password="pä:ss",
            mirrors=[
                {"url": "https://z.example", "capabilities": ["resolve", "pull"], "ca": [CA], "skip_verify": False},
                {"url": "http://a.example:8080/v2/p", "override_path": True, "headers": {"X-Token": 'a"\\b'}},
                {"url": "https://m.example", "client_cert": CERT, "client_key": KEY},
            ],
        )
    )
    assert parsed["server"] == "https://registry.example:5000"
    assert base64.b64decode(parsed["header"]["Authorization"].removeprefix("Basic ")).decode() == "us:pä:ss"
    assert list(parsed["host"]) == ["https://z.example", "http://a.example:8080/v2/p", "https://m.example"]
    first, second, third = parsed["host"].values()
    assert first["capabilities"] == ["pull", "resolve"]
    assert first["skip_verify"] is False
    assert second == {"override_path": True, "header": {"X-Token": 'a"\\b'}}
    assert [name.split("-")[1] for name in third["client"][0]] == ["cert", "key"]


@pytest.mark.parametrize(
    "url",
    [
        "https://my_mirror.example:5000",
        "http://_mirror",
        "https://mirror.example./v2",
        "https://m.example/a+b/c=d/e:f/g@h/i%2Fj/k,l;m!n$o&p'q(r)s*t",
        "http://[fd00::1]:5000/v2",
    ],
)
def test_a_url_that_containerd_reads_is_taken(url: str) -> None:
    assert list(hosts_toml(registry(mirrors=[{"url": url}]))["host"]) == [url]


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        (registry(mirrors=[{"url": "https://a"}, {"url": "http://[fd00::1]:5000/v2"}]), "http://[fd00::1]:5000/v2"),
        (registry(server="https://[fd00::1]"), "https://[fd00::1]"),
        ({"name": "[fd00::1]:5000"}, "https://[fd00::1]:5000"),
        (registry(server="https://[fd00::1]", mirrors=[{"url": "https://a"}]), None),
        (registry(mirrors=[{"url": "https://10.0.0.1:5000"}]), None),
    ],
)
def test_a_mirror_that_containerd_1_can_not_read_is_found(entry: dict[str, Any], url: str | None) -> None:
    assert ipv6_mirror(parse_registries([registry(name="quay.io"), entry])) == url


@pytest.mark.parametrize(
    "odd",
    [
        CA.replace("\n", " \t\n"),
        CA.replace("\n", "\r\n"),
        "\ufeff" + CA,
        "".join(f"  {line}" for line in CA.splitlines(keepends=True)),
        f"\n\n{CA}\n  \n",
    ],
)
def test_blanks_around_the_lines_of_pem_are_removed(odd: str) -> None:
    key = odd.replace("CERTIFICATE", "PRIVATE KEY")
    files = files_of(parse_registries([registry(ca=[odd], client_cert=odd, client_key=key)])[0])
    contents = {name.split("-")[1]: file.content.decode() for name, file in files.items() if name.endswith(".pem")}
    assert contents == {"ca": CA, "cert": CA, "key": CA.replace("CERTIFICATE", "PRIVATE KEY")}


def test_without_mirrors_the_server_is_written_as_a_host_too() -> None:
    assert list(hosts_toml(registry(ca=[CA]))["host"]) == ["https://registry.example:5000"]
    assert list(hosts_toml({"name": "docker.io"})["host"]) == ["https://registry-1.docker.io"]
    assert list(hosts_toml(registry(server="http://other"))["host"]) == ["http://other"]


def test_modes() -> None:
    plain = files_of(parse_registries([registry(client_cert=CERT, client_key=KEY)])[0])
    assert {name.split("-")[1] if "-" in name else name: file.mode for name, file in plain.items()} == {
        "cert": 0o644,
        "key": 0o600,
        "hosts.toml": 0o644,
    }
    for secret in ({"headers": {"a": "b"}}, {"mirrors": [{"url": "https://m", "headers": {"a": "b"}}]}):
        assert files_of(parse_registries([registry(**secret)])[0])["hosts.toml"].mode == 0o600


def test_hosts_toml_comes_after_the_files_that_it_names() -> None:
    files = files_of(parse_registries([registry(client_cert=CERT, client_key=KEY, ca=[CA])])[0])
    assert list(files)[-1] == "hosts.toml"
    assert len(files) == 4


def test_pem_files_named_in_hosts_toml_exist() -> None:
    files = files_of(parse_registries([registry(ca=[CA + CERT, CERT], client_cert=CERT, client_key=KEY)])[0])
    parsed = tomllib.loads(files["hosts.toml"].content.decode())
    assert {*parsed["ca"], *parsed["client"][0], "hosts.toml"} == set(files)
    assert [files[name].content.decode() for name in parsed["ca"]] == [CA + CERT, CERT]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_strings_survive_toml(text: str) -> None:
    assert tomllib.loads(f"a = {toml_string(text)}") == {"a": text}


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9#.'`-]+", fullmatch=True).filter(lambda name: name.lower() != "authorization"),
        st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    )
)
def test_headers_survive(headers: dict[str, str]) -> None:
    parsed = hosts_toml(registry(mirrors=[{"url": "https://m.example", "headers": headers}]))
    assert parsed["host"]["https://m.example"].get("header", {}) == headers


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "../etc"}, r"registries\[0\].name must be a registry host"),
        ({"name": "a/b"}, "must be a registry host"),
        ({"name": ""}, "must be a registry host"),
        ({"name": "a\n"}, "must be a registry host"),
        ({"name": "a:0"}, "must be a registry host"),
        ({"name": "a:70000"}, "must be a registry host"),
        ({"name": "https://a"}, "must be a registry host"),
        ({"name": "-a"}, "must be a registry host"),
        (registry(server="ftp://a"), r"registries\[registry.example:5000\].server must be a URL"),
        (registry(server="https://a\n.example"), "must be a URL"),
        (registry(server='https://a"b'), "must be a URL"),
        (registry(server="https://a/../b"), "must be a URL"),
        (registry(server="https://a?x=1"), "must be a URL"),
        (registry(server="https://a:b"), "must be a URL"),
        (registry(server="https://[::1"), "must be a URL"),
        (registry(server="https://a/%G4"), "must be a URL"),
        (registry(server="https://a/b%"), "must be a URL"),
        (registry(server="https://a/b[c]"), "must be a URL"),
        (registry(server="https://ä.example"), "must be a URL"),
        ({"name": "my_registry:5000"}, "must be a registry host"),
        (registry(ca=[f"x {CA}"]), "ca must be PEM text"),
        (registry(server="https://u:p@a"), "holds credentials"),
        (registry(mirrors=[{"url": "a.example"}]), r"mirrors\[0\].url must be a URL"),
        (registry(mirrors=[{"url": "https://a"}, {"url": "https://a/"}]), "https://a is listed twice"),
        (registry(capabilities=["pull"]), "capabilities has no effect without server"),
        (registry(override_path=True), "override_path has no effect without server"),
        (registry(mirrors=[{"url": "https://a", "capabilities": ["fly"]}]), "capabilities must be some of pull"),
        (registry(ca=["/etc/ssl/ca.pem"]), "ca must be PEM text"),
        (registry(ca=[CA.replace("\n", " ")]), "with its line breaks kept"),
        (registry(ca=[CA + "-----BEGIN CERTIFICATE-----\n"]), "ca must be PEM text"),
        (registry(ca=["-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----"]), "damaged PEM block"),
        (registry(ca=[KEY]), "certificates only, but has a PRIVATE KEY"),
        (registry(client_cert=CERT), "client_cert needs client_key"),
        (registry(client_key=KEY), "client_key needs client_cert"),
        (registry(client_cert=CERT, client_key=CERT), "exactly one private key, but has 0"),
        (registry(client_cert=CERT, client_key=pem("ENCRYPTED PRIVATE KEY")), "is encrypted"),
        (registry(username="u"), "username needs password"),
        (registry(password="p"), "password needs username"),
        (registry(username="a:b", password="p"), "hold a colon"),
        (registry(username="a", password="p\n"), "control character"),
        (registry(username="a", password="p", headers={"authorization": "x"}), "Authorization beside username"),
        (registry(headers={"X-A": "b\r\nX-C: d"}), "value of X-A holds a control character"),
        (registry(headers={"X A": "b"}), "no HTTP header"),
        ({"name": "_default"}, "needs server or mirrors"),
        ({"name": "_default", "mirrors": [{"url": "https://m"}], "username": "u", "password": "p"}, "every registry"),
    ],
)
def test_nonsense_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_registries([entry])
    assert "\n" not in str(caught.value)


def test_no_secret_in_a_refusal() -> None:
    for entry in (registry(username="u", password="hunter2\n"), registry(server="https://u:hunter2@a")):
        with pytest.raises(ValueError, match="registries") as caught:
            parse_registries([entry])
        assert "hunter2" not in str(caught.value)


def test_names_listed_twice() -> None:
    with pytest.raises(ValueError, match=r"Quay.io is listed twice"):
        parse_registries([{"name": "quay.io"}, {"name": "Quay.io"}])


@pytest.mark.parametrize("path", ["etc", "/etc/a:/etc/b", "/etc/a\nb", "/etc/../a"])
def test_config_path(path: str) -> None:
    with pytest.raises(ValueError, match="config_path must be the absolute path"):
        parse_config_path(path)


def test_a_fresh_node_then_nothing() -> None:
    entry = registry(ca=[CA], username="u", password="hunter2")
    plan = present({}, entry)
    assert [change.path.rpartition("/")[0] for change in plan.changes] == [f"{PATH}/registry.example_5000_"] * 2
    assert not present(made(entry), entry).changed


def test_a_changed_key_switches_with_hosts_toml_and_the_old_one_goes_last() -> None:
    before = registry(client_cert=CERT, client_key=KEY)
    plan = present(made(before), registry(client_cert=CERT, client_key=pem("PRIVATE KEY", b"new")))
    assert [(change.path.split("/")[-1].split("-")[:2], change.wanted is not None) for change in plan.changes] == [
        (["slipway", "key"], True),
        (["hosts.toml"], True),
        (["slipway", "key"], False),
    ]
    assert "new" not in str(plan.result())


def test_a_wrong_mode_is_a_change() -> None:
    entry = registry(headers={"a": "hunter2"})
    found = made(entry)
    hosts = found["registry.example_5000_"]["hosts.toml"]
    found["registry.example_5000_"]["hosts.toml"] = CurrentFile(hosts.content, 0o644)
    result = present(found, entry).result()
    assert result["changed"]
    assert "# mode 0644" in result["diff"][0]["before"]
    assert "# mode 0600" in result["diff"][0]["after"]


def test_no_secret_in_the_diff() -> None:
    before = registry(username="u", password="old-secret", mirrors=[{"url": "https://m", "headers": {"k": "old-header"}}])
    after = registry(username="u", password="new-secret", mirrors=[{"url": "https://m", "headers": {"k": "new-header"}}])
    result = present(made(before), after).result()
    shown = str(result["diff"])
    for secret in ("secret", "old-header", "new-header"):
        assert secret not in shown.replace("a secret that is not shown", "")
        assert base64.b64encode(f"u:{secret}".encode()).decode() not in shown
    assert base64.b64encode(b"u:old-secret").decode() not in shown
    assert base64.b64encode(b"u:new-secret").decode() not in shown
    assert result["diff"][0]["before"] != result["diff"][0]["after"]


def test_purge_takes_ours_and_reports_the_others() -> None:
    found = made(registry(ca=[CA]), {"name": "quay.io"})
    found["ghcr.io"] = {"hosts.toml": CurrentFile(b'server = "https://ghcr.io"\n', 0o644)}
    found["empty"] = {}
    plan = present(found, {"name": "quay.io"})
    assert plan.changes[0].path == f"{PATH}/registry.example_5000_/hosts.toml"
    assert all("registry.example_5000_" in change.path and change.wanted is None for change in plan.changes)
    assert plan.emptied == (f"{PATH}/registry.example_5000_",)
    assert plan.foreign == ("ghcr.io",)
    assert not present(found, {"name": "quay.io"}, purge=False).changed


def test_an_admins_file_beside_ours_stays() -> None:
    found = made({"name": "quay.io"})
    found["quay.io"]["notes.txt"] = CurrentFile(None, 0o644)
    assert [change.path for change in present(found).changes] == [f"{PATH}/quay.io/hosts.toml"]


@pytest.mark.parametrize("directory", ["registry.example_5000_", "registry.example:5000"])
@pytest.mark.parametrize("name", ["hosts.toml", "ca.crt"])
def test_a_foreign_configuration_is_refused_by_path(directory: str, name: str) -> None:
    found = {directory: {name: CurrentFile(b"[host]\n", 0o644)}}
    with pytest.raises(ValueError, match=rf"{PATH}/{directory} configures registry.example:5000 and was not created"):
        present(found, registry())
    plan = present(found, registry(), adopt=True)
    assert [change.path for change in plan.changes] == [f"{PATH}/registry.example_5000_/hosts.toml"]
    assert plan.foreign == (() if directory == "registry.example_5000_" else (directory,))


def test_once_adopted_a_shadowed_directory_is_reported_only() -> None:
    found = made(registry())
    found["registry.example:5000"] = {"hosts.toml": CurrentFile(b"[host]\n", 0o644)}
    plan = present(found, registry())
    assert not plan.changed
    assert plan.foreign == ("registry.example:5000",)


def test_a_foreign_file_is_not_shown() -> None:
    found = {"quay.io": {"hosts.toml": CurrentFile(b'[header]\nAuthorization = "hunter2"\n', 0o644)}}
    assert "hunter2" not in str(present(found, {"name": "quay.io"}, adopt=True).result())


def test_what_a_killed_run_left_is_ours() -> None:
    found = {"quay.io": {"slipway-ca-1.pem": CurrentFile(b"", 0o644), ".slipway-x.tmp": CurrentFile(None, 0o600)}}
    assert [change.path.split("/")[-1] for change in present(found, {"name": "quay.io"}).changes] == [
        "hosts.toml",
        ".slipway-x.tmp",
        "slipway-ca-1.pem",
    ]
    assert len(present(found).changes) == 2


def test_absent_takes_the_named_or_all_of_ours() -> None:
    found = made(registry(), {"name": "quay.io"})
    found["ghcr.io"] = {"hosts.toml": CurrentFile(f"# not\n{MARKER}\n".encode(), 0o644)}
    names = parse_names([{"name": "registry.example:5000"}, {"name": "ghcr.io"}])
    plan = plan_absent(found, names, config_path=PATH)
    assert plan.emptied == (f"{PATH}/registry.example_5000_",)
    assert plan.foreign == ("ghcr.io",)
    assert len(plan_absent(found, (), config_path=PATH).emptied) == 2


def test_created_directories_go_with_the_last_registry_of_ours() -> None:
    created = ("/etc/containerd", PATH)
    entries = [registry(), {"name": "docker.io"}]
    found = made(*entries)
    one, both = (plan_absent(found, names, config_path=PATH, created=created) for names in (["docker.io"], []))
    assert (one.released, both.released) == ((), created)
    assert both.result()["removed"][-1] == f"{PATH}/.slipway"
    emptied = plan_present(found, [], config_path=PATH, purge=True, adopt=False, created=created)
    assert emptied.released == created
    kept = plan_present(found, parse_registries(entries), config_path=PATH, purge=True, adopt=False, created=created)
    assert not kept.changed
    new = plan_present({}, parse_registries(entries), config_path=PATH, purge=True, adopt=False, exists=False)
    assert new.result()["files"][0] == f"{PATH}/.slipway"
    # What an interrupted removal left.
    assert plan_absent({}, [], config_path=PATH, created=created).changed
    assert not plan_absent({}, [], config_path=PATH).changed
