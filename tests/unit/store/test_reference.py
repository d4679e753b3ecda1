# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.store.reference import is_staged, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4

# The first part is from github.com/distribution/reference, normalize_test.go.
SPELLED_OUT = {
    "alpine": "docker.io/library/alpine:latest",
    "fooo/bar:8080": "docker.io/fooo/bar:8080",
    "library/alpine:3": "docker.io/library/alpine:3",
    "docker.io/alpine": "docker.io/library/alpine:latest",
    "index.docker.io/user/repo": "docker.io/user/repo:latest",
    "localhost/foo": "localhost/foo:latest",
    "localhost:5000/foo/bar:1": "localhost:5000/foo/bar:1",
    "127.0.0.1:5000/foo": "127.0.0.1:5000/foo:latest",
    "[::1]:5000/foo:1": "[::1]:5000/foo:1",
    "Registry/foo:1": "Registry/foo:1",
    "ghcr.io/a__b/c-d.e:v1.0_x": "ghcr.io/a__b/c-d.e:v1.0_x",
    f"alpine@{DIGEST}": f"docker.io/library/alpine@{DIGEST}",
    f"ghcr.io/a/b:1@{DIGEST}": f"ghcr.io/a/b:1@{DIGEST}",
}
NONSENSE = [
    "", ":", "@", "UPPER", "a b", "-x", "--plain-http", "x:", "x/../y", "a//b", "a/", "/a", "a:b:c/d", "https://ghcr.io/a/b",
    "x:-tag", "x:" + "t" * 129,
    "ghcr.io/" + "a" * 300, "a@sha256:123", f"a@{DIGEST}x", "a_/b", "é", "a\nb", "a:1\n", "a;rm", "[::1/foo",
]  # fmt: skip


@pytest.mark.parametrize(("text", "name"), SPELLED_OUT.items())
def test_names_are_spelled_out_as_docker_does(text: str, name: str) -> None:
    assert str(parse(text)) == name
    assert parse(name) == parse(text)


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"name|digest"):
        parse(text)


@given(st.text(max_size=40))
def test_a_name_never_looks_like_an_option_or_holds_a_space(text: str) -> None:
    try:
        name = str(parse(text))
    except ValueError:
        return
    assert not name.startswith("-") and name.isascii() and name.isprintable() and " " not in name
    assert parse(name) == parse(text)


def test_a_staged_name_is_no_one_elses() -> None:
    staged = parse("ghcr.io/a/b:1").staged(DIGEST)
    assert is_staged(staged) and str(parse(staged)) == staged
    assert not any(is_staged(name) for name in SPELLED_OUT.values())
    assert is_staged("import.slipway.invalid/staged:0")


@pytest.mark.parametrize(
    ("text", "namespace", "name"),
    [
        (f"ghcr.io/a/b:1@{DIGEST}", "k8s.io", f"ghcr.io/a/b@{DIGEST}"),
        (f"ghcr.io/a/b@{DIGEST}", "k8s.io", f"ghcr.io/a/b@{DIGEST}"),
        ("ghcr.io/a/b:1", "k8s.io", "ghcr.io/a/b:1"),
        (f"ghcr.io/a/b:1@{DIGEST}", "default", f"ghcr.io/a/b:1@{DIGEST}"),
    ],
)
def test_in_the_kubelets_namespace_names_are_those_of_cri(text: str, namespace: str, name: str) -> None:
    assert str(parse(text).within(namespace)) == name
