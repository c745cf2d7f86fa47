"""The state of a training run, on disk every few seconds.

Weights, buffers, their moving average, optimizer moments, the best weights so far and the log: everything
that the next step depends on. There is no generator state, because every draw is keyed by the step.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from geovq.errors import CorruptArtifactError, StorageError
from geovq.models.weights import arrays_of, load_arrays
from geovq.storage.artifact import load_artifact, save_artifact
from geovq.storage.atomic import remove_leftovers
from geovq.training.averaging import WeightAverage

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, message)``."""


@dataclass
class TrainingState:
    """Where a run stands between two steps."""

    step: int = 0
    best_epoch: int = -1
    best_value: float = float("inf")
    best_weights: dict[str, np.ndarray] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the training terms over the images of the current epoch."""
    log: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    folder: Path,
    fingerprint: str,
    state: TrainingState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
) -> None:
    """Write the checkpoint of ``state.step`` atomically, then drop older ones."""
    tensors = {f"model.{name}": array for name, array in arrays_of(model).items()}
    tensors |= {f"best.{name}": array for name, array in state.best_weights.items()}
    if average is not None:
        tensors |= {f"average.{name}": array for name, array in average.arrays().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value).detach().cpu().numpy()
    config = {
        "training": fingerprint,
        "step": state.step,
        "best_epoch": state.best_epoch,
        # JSON has no infinity: before the first validation there is no best value.
        "best_value": state.best_value if state.best_epoch >= 0 else None,
        "sums": state.sums,
        "log": state.log,
    }
    save_artifact(folder / f"step-{state.step:09d}", config, tensors)
    for other in folder.glob("step-*"):
        if other.name != f"step-{state.step:09d}":
            shutil.rmtree(other, ignore_errors=True)


def load_checkpoint(
    folder: Path,
    fingerprint: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
) -> TrainingState:
    """Restore the newest checkpoint that is whole, or the start if there is none.

    Raises ``StorageError`` if the checkpoint belongs to another training run.
    """
    remove_leftovers(folder)
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        try:
            config, tensors = load_artifact(candidate)
        except CorruptArtifactError:
            continue  # an older one, or none, is still a correct place to go on from
        if config["training"] != fingerprint:
            raise StorageError(f"{candidate}: belongs to another training run; choose another folder")
        load_arrays(model, _under("model.", tensors))
        _load_moments(optimizer, _under("optimizer.", tensors))
        if average is not None:
            average.load(_under("average.", tensors))
        return TrainingState(
            step=config["step"],
            best_epoch=config["best_epoch"],
            best_value=float("inf") if config["best_value"] is None else config["best_value"],
            best_weights=_under("best.", tensors),
            sums=config["sums"],
            log=config["log"],
        )
    return TrainingState()


def _under(prefix: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _load_moments(optimizer: torch.optim.Optimizer, arrays: dict[str, np.ndarray]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, array in arrays.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = torch.from_numpy(array.copy())
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
