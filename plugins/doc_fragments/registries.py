# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The suboptions of a registry."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that configure registries, or compare them. Each describes O(registries) itself."""

    DOCUMENTATION = r"""
options:
  registries:
    suboptions:
      name:
        description: Host name and optional port of the registry, as in image references; V(_default) for all unlisted registries.
        type: str
        required: true
      server:
        description:
          - URL of the registry, used after the mirrors. Default is the registry's own address.
          - Set it to the URL of a mirror to never contact the registry itself.
        type: str
      mirrors:
        description: Mirrors to try first, in this order.
        type: list
        elements: dict
        default: []
        suboptions:
          url:
            description: URL of the mirror. The path V(/v2) is appended unless O(registries[].mirrors[].override_path) is V(true).
            type: str
            required: true
          capabilities:
            description: Operations of the mirror. Use V(resolve) only for a mirror that you trust to map tags to digests.
            type: list
            elements: str
            choices: [pull, resolve, push]
            default: [pull, resolve]
          ca:
            description: PEM certificates of trusted certificate authorities, in addition to the node's own.
            type: list
            elements: str
            default: []
          client_cert:
            description: PEM client certificate.
            type: str
          client_key:
            description: PEM private key of O(registries[].mirrors[].client_cert), without a passphrase.
            type: str
          skip_verify:
            description: Accept any server certificate.
            type: bool
          override_path:
            description: Use the path of the URL as the API path, without appending V(/v2).
            type: bool
            default: false
          headers:
            description: HTTP headers of each request.
            type: dict
          username:
            description: User name for basic authentication, sent as an HTTP header.
            type: str
          password:
            description: Password of O(registries[].mirrors[].username).
            type: str
      capabilities:
        description: Operations of O(registries[].server). Default is all.
        type: list
        elements: str
        choices: [pull, resolve, push]
      ca:
        description: PEM certificates of trusted certificate authorities, in addition to the node's own.
        type: list
        elements: str
        default: []
      client_cert:
        description: PEM client certificate.
        type: str
      client_key:
        description: PEM private key of O(registries[].client_cert), without a passphrase.
        type: str
      skip_verify:
        description: Accept any server certificate.
        type: bool
      override_path:
        description: Use the path of O(registries[].server) as the API path, without appending V(/v2).
        type: bool
        default: false
      headers:
        description: HTTP headers of each request to O(registries[].server).
        type: dict
      username:
        description: User name for basic authentication, sent as an HTTP header.
        type: str
      password:
        description: Password of O(registries[].username).
        type: str
"""
