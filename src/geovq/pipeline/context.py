"""What every stage of a run needs to know, and where each puts its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from geovq.config import RunConfig
from geovq.data import ImageSet, ImageSplits
from geovq.pipeline.arms import FLOOR, Arm, arms_of
from geovq.pipeline.stages import Stages
from geovq.training import Progress

SPLITS = ("train", "validation", "test")
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Context:
    """One run: its configuration, images, stages and environment. ``progress`` hears about every step."""

    config: RunConfig
    splits: ImageSplits
    stages: Stages
    environment: Mapping[str, Any]
    progress: Progress | None = None

    @cached_property
    def arms(self) -> list[Arm]:
        """All arms of the run."""
        return arms_of(self.config)

    @property
    def root(self) -> Path:
        """The run folder."""
        return self.stages.root

    def images(self, split: str) -> ImageSet:
        """The images of a split."""
        images: ImageSet = getattr(self.splits, split)
        return images

    def arm_path(self, room: str, arm: Arm, seed: int) -> str:
        """Folder of an arm's stage, as in ``tokenizers/residual/64/0``."""
        bits = "continuous" if arm.kind == FLOOR else f"{self.config.bits:g}"
        return f"{room}/{arm.name}/{bits}/{seed}"
