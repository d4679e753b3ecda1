"""Sphinx' settings for the site that ``build`` makes of the collection's documentation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "slipway.node"
author = "the slipway.node authors"
project_copyright = author
title = html_short_title = html_title = "slipway.node"

extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
myst_heading_anchors = 4
default_role = "any"
nitpicky = True
# Blocks of code that don't name their language are output of programs.
highlight_language = "none"
pygments_style = "ansible"

html_theme = "sphinx_ansible_theme"
html_theme_options = {"documentation_home_url": "index.html", "topbar_links": {}, "vcs_pageview_mode": "edit"}
html_show_sphinx = False
html_use_index = False
html_copy_source = False

_ANSIBLE = "https://docs.ansible.com/projects/ansible/latest"
_ANSIBLE_PAGES = {
    "action_plugins": f"{_ANSIBLE}/plugins/action.html#action-plugins",
    "ansible_configuration_settings": f"{_ANSIBLE}/reference_appendices/config.html#ansible-configuration-settings",
    "common_return_values": f"{_ANSIBLE}/reference_appendices/common_return_values.html",
}
_PLUGIN = re.compile(r"ansible_collections\.(\w+)\.(\w+)\.(\w+_\w+)")


def ansible_url(label: str) -> str | None:
    """Return the address of a page of Ansible's own documentation; None if the label isn't one of it."""
    plugin = _PLUGIN.fullmatch(label)
    if plugin is not None and plugin.group(1, 2) != ("slipway", "node"):
        return "{}/collections/{}/{}/{}.html".format(_ANSIBLE, *plugin.groups())
    return _ANSIBLE_PAGES.get(label)


def link_ansible(_app: Sphinx, _env: Any, node: Any, content: nodes.TextElement) -> nodes.reference | None:
    """Resolve references to Ansible's documentation without its inventory, which would have to be downloaded."""
    url = ansible_url(node["reftarget"])
    return None if url is None else nodes.reference("", "", content, refuri=url, internal=False)


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", link_ansible)
