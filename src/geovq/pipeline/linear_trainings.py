"""Trainings of the linear laboratory, each a stage of its run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geovq.config import LaboratoryConfig
from geovq.config.laboratory import WITHOUT_STEPS
from geovq.errors import TrainingError
from geovq.linear import LinearVQVAE, low_rank_gaussian
from geovq.linear.data import Part
from geovq.pipeline.stages import Stages
from geovq.registry import resolve
from geovq.reports.laboratory_files import LinearTraining
from geovq.storage.artifact import file_hash, load_artifact, save_artifact


@dataclass(frozen=True)
class Laboratory:
    """One run of the laboratory: its stages, and its configuration with the settings now in hand."""

    config: LaboratoryConfig
    stages: Stages

    @property
    def root(self) -> Path:
        """The run folder."""
        return self.stages.root

    def trained(self, *, logs: bool = True, **settings: Any) -> list[LinearTraining]:
        """Every method once a seed, with ``settings`` in place of the run's; with the logs or without."""
        found = [
            train_linear(self._with(method, settings), method, seed)[0]
            for seed in self.config.seeds
            for method in self.config.methods
        ]
        return found if logs else [replace(training, logs=()) for training in found]

    def _with(self, method: str, settings: dict[str, Any]) -> Laboratory:
        known = {"K"} if method in WITHOUT_STEPS else settings.keys()
        changes = {name: value for name, value in settings.items() if name in known}
        return replace(self, config=replace(self.config, **changes))


def points(config: LaboratoryConfig, seed: int, part: Part) -> Tensor:
    """The training or evaluation points of a seed, float64 (n, D)."""
    n = config.n_train if part == "train" else config.n_eval
    return low_rank_gaussian(n, config.D, config.rank, seed=seed, part=part)


def train_linear(run: Laboratory, method: str, seed: int) -> tuple[LinearTraining, LinearVQVAE]:
    """What a method learnt and measured at one seed; trained unless this run or an earlier one has it.

    A method without gradient steps is trained once for all settings of the others. A method whose source file
    has changed is trained again; a change in what that file imports is not noticed.

    Raises ``TrainingError`` naming the method and the seed if a training diverges.
    """
    config = run.config
    train = resolve("linear-method", method)
    inputs: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("D", "rank", "m", "K", "n_train", "n_eval", "alpha", "beta")  # the loss that is logged
    }
    beta, steps = None, None
    room, words = f"K{config.K}", f"K {config.K}"
    if method not in WITHOUT_STEPS:
        beta, steps = config.beta, config.steps
        inputs |= {name: getattr(config, name) for name in ("steps", "batch", "lrW", "lrE", "orthonormal")}
        room, words = f"{room}-beta{beta}-steps{steps}", f"{words}, beta {beta:g}, {steps} steps"

    def make(folder: Path, _: Path) -> None:
        try:
            result = train(
                points(config, seed, "train"),
                points(config, seed, "evaluation"),
                config.m,
                config.K,
                steps=config.steps,
                batch=config.batch,
                alpha=config.alpha,
                beta=config.beta,
                lrW=config.lrW,
                lrE=config.lrE,
                orthonormal=config.orthonormal,
                seed=seed,
            )
        except TrainingError as error:
            raise TrainingError(f"{method}, seed {seed}: {error}") from error
        model: LinearVQVAE = result["model"]
        measured = {
            "metrics": _plain(result["metrics"]),
            "orthonormality_error": model.orthonormality_error,
            "logs": [_plain(row) for row in result["logs"]],
        }
        tensors = {"W": np.asarray(model.W.detach()), "E": np.asarray(model.E.detach())}
        save_artifact(folder, {"kind": "linear training", "method": method, **measured}, tensors)

    folder = run.stages.run(
        f"train {words}",
        f"trainings/{method}/{room}/{seed}",
        {**inputs, "method": method, "source": _source_hash(train), "seed": seed},
        make,
        arm=method,
        seed=seed,
    )
    stored, tensors = load_artifact(folder)
    training = LinearTraining(
        method,
        config.K,
        beta,
        steps,
        seed,
        stored["metrics"],
        stored["orthonormality_error"],
        tuple(stored["logs"]),
    )
    return training, LinearVQVAE(torch.from_numpy(tensors["W"]), torch.from_numpy(tensors["E"]))


def _source_hash(train: Callable[..., Any]) -> str | None:
    """SHA-256 of the file of the module that defines ``train``; None if it has none, as in a notebook."""
    file = getattr(sys.modules.get(train.__module__), "__file__", None)
    return file_hash(Path(file)) if file and Path(file).is_file() else None


def _plain(values: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}
