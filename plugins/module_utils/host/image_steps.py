# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be done for each image of a task, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.slipway.node.plugins.module_utils.host.integrity import Comparison
from ansible_collections.slipway.node.plugins.module_utils.host.mending import Mended
from ansible_collections.slipway.node.plugins.module_utils.host.syncing import Synced
from ansible_collections.slipway.node.plugins.module_utils.model import image_plan as plan
from ansible_collections.slipway.node.plugins.module_utils.model.image_plan import Offer
from ansible_collections.slipway.node.plugins.module_utils.model.reference import IMPORT_REPOSITORY, ImageName


@dataclass(frozen=True)
class Step:
    """What one image needs. ``offer`` is the image as it will be; ``missing`` are bytes that have to come.

    ``position`` is that of the image in the archive, -1 if it isn't from there. ``damaged`` are blobs that have to be
    fetched again. ``found`` is what came of comparing it with its layers, if that was done.
    """

    name: ImageName
    action: str
    digest: str
    offer: Offer
    missing: int = 0
    position: int = -1
    damaged: tuple[str, ...] = ()
    found: Comparison | None = None

    @property
    def staged(self) -> str:
        if self.position >= 0:
            return f"{IMPORT_REPOSITORY}:{self.position}"
        return self.name.staged(self.digest)

    @property
    def comes(self) -> bool:
        """Whether it is fetched, or a part of it."""
        return self.action in (plan.PULL, plan.IMPORT) or (self.action == plan.REPAIR and bool(self.damaged))

    @property
    def present(self) -> str:
        """The name under which it is in the store until it is named."""
        return self.staged if self.action in (plan.PULL, plan.IMPORT) else str(self.name)


@dataclass
class Outcome:
    """What came of one run, by name; ``found`` is what images were like that were compared only then."""

    seconds: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    found: dict[str, Comparison] = field(default_factory=dict)
    mended: tuple[Mended, ...] = ()
    synced: tuple[Synced, ...] = ()
