# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps for images, one for each, and their outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.slipway.node.plugins.module_utils.core.host.sync import Synced
from ansible_collections.slipway.node.plugins.module_utils.images import plan
from ansible_collections.slipway.node.plugins.module_utils.images.host.current_images import CurrentImages
from ansible_collections.slipway.node.plugins.module_utils.images.host.repair import RepairResult
from ansible_collections.slipway.node.plugins.module_utils.images.plan import RemoteImage
from ansible_collections.slipway.node.plugins.module_utils.integrity.result import Comparison
from ansible_collections.slipway.node.plugins.module_utils.store.reference import IMPORT_REPOSITORY, ImageName


@dataclass(frozen=True)
class Step:
    """The step for one image. ``image`` is the image after the step; ``missing`` are the bytes to download.

    ``position`` is that of the image in the archive, -1 if it isn't from there. ``damaged`` are blobs that have to be
    fetched again. ``found`` is what came of comparing it with its layers, if that was done. ``alias`` is the name that the
    image has on the node, if it has yet to be given its own.
    """

    name: ImageName
    action: str
    digest: str
    image: RemoteImage
    missing: int = 0
    position: int = -1
    damaged: tuple[str, ...] = ()
    found: Comparison | None = None
    alias: str = ""

    @property
    def staged(self) -> str:
        if self.position >= 0:
            return f"{IMPORT_REPOSITORY}:{self.position}"
        return self.name.staged(self.digest)

    def platform(self, wanted: str) -> str:
        """Return the platform that ctr has to be asked for, so that it takes the image for the ``wanted`` one."""
        return self.image.listed or wanted

    @property
    def comes(self) -> bool:
        """Whether it is fetched, or a part of it."""
        return self.action in (plan.PULL, plan.IMPORT) or (self.action == plan.REPAIR and bool(self.damaged))

    @property
    def present(self) -> str:
        """The name under which it is in the store until it is named."""
        return self.staged if self.action in (plan.PULL, plan.IMPORT) else self.alias or str(self.name)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run, or of a part of it, by name. ``found`` is what images were like that were compared only then."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[str, Comparison] = field(default_factory=dict)
    repaired: tuple[RepairResult, ...] = ()
    synced: tuple[Synced, ...] = ()

    def plus(self, later: Outcome) -> Outcome:
        """Return both; where both know of a name, ``later`` is right."""
        return Outcome(
            seconds={**self.seconds, **later.seconds},
            digests={**self.digests, **later.digests},
            failures={**self.failures, **later.failures},
            found={**self.found, **later.found},
            repaired=(*self.repaired, *later.repaired),
            synced=(*self.synced, *later.synced),
        )

    def successful(self, steps: Iterable[Step]) -> tuple[Step, ...]:
        """Return the steps of images that haven't failed."""
        return tuple(step for step in steps if str(step.name) not in self.failures)


@dataclass(frozen=True)
class ImagePlan:
    """The steps for the images of a request, on a node that has ``current``.

    ``failures`` say by name why images that are damaged stay so.
    """

    current: CurrentImages
    steps: tuple[Step, ...]
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def unfinished(self) -> bool:
        """Whether an earlier run was cut short, so that there is something to be done though nothing is missing."""
        return bool(self.current.pulls)

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return self.unfinished or any(step.action != plan.NONE for step in self.steps)

    @property
    def outcome(self) -> Outcome:
        """What is known to come of it before it is applied."""
        return Outcome(failures=self.failures)
