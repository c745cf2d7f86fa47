"""The stages that train priors on the best arm of each kind and sample from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from geovq.config import to_json
from geovq.data import to_bytes
from geovq.evaluation.rate import prior_rate
from geovq.evaluation.records import Record
from geovq.pipeline.arms import END_TO_END, POST_HOC, Arm
from geovq.pipeline.context import HELD_OUT, Context
from geovq.pipeline.tokenizers import arm_inputs, codes_of, encodes_slowly, load_tokenizer
from geovq.priors import UniformPrior, load_prior, save_prior
from geovq.registry import build, with_seed
from geovq.storage.artifact import read_json, save_artifact
from geovq.storage.atomic import write_json
from geovq.training import TensorSource, fit

N_SAMPLES = 64


def best_arms(run: Context, records: list[Record]) -> list[Arm]:
    """The post-hoc and the end-to-end arm of lowest validation error, averaged over seeds.

    Arms that encode only part of the training images are left out: a prior learns from all of them.
    """

    def error(arm: Arm) -> float:
        mine = [r for r in records if r.arm == arm.name and r.split == "validation"]
        return float(np.mean([r.values["mse"] for r in mine]))

    best: list[Arm] = []
    for kind in (POST_HOC, END_TO_END):
        candidates = [arm for arm in run.arms if arm.kind == kind and not encodes_slowly(arm)]
        if candidates:
            # Of equals the tuned one, as the report's verdict takes it.
            best.append(min(candidates, key=lambda arm: (error(arm), not arm.tuned, arm.name)))
    return best


def train_prior(run: Context, arm: Arm, seed: int) -> Path:
    """Train the run's prior on an arm's training codes and measure it on held-out ones."""
    path, config = run.arm_path("priors", arm, seed), run.config.prior
    assert config is not None

    def make(folder: Path, checkpoints: Path) -> None:
        codes = codes_of(run, arm, seed)
        prior = build("prior", with_seed("prior", config.spec, seed), layout=codes.layout)
        if hasattr(prior, "loss"):
            train, validation = (
                TensorSource(torch.from_numpy(codes.splits[split])) for split in ("train", "validation")
            )
            result = fit(
                prior,
                train,
                validation,
                config.train,
                seed=seed,
                checkpoints=checkpoints,
                progress=run.progress,
            )
            training = {"best_epoch": result.best_epoch, "epochs": result.epochs, "log": result.log}
        else:
            prior.fit(codes.splits["train"])
            training = {"best_epoch": 0, "epochs": 0, "log": []}
        tokenizer = run.root / run.arm_path("tokenizers", arm, seed)
        save_prior(folder, prior, load_tokenizer(run, arm, seed).fingerprint, tokenizer)
        write_json(folder / "training.json", training)
        values = {split: prior_rate(prior, codes.splits[split]) for split in HELD_OUT}
        write_json(folder / "values.json", values)

    return run.stages.run("prior", path, prior_inputs(run, arm, seed), make, arm=arm.name, seed=seed)


def sample_prior(run: Context, arm: Arm, seed: int) -> Path:
    """Images decoded from codes of the prior, and from uniform codes beside them."""

    def make(folder: Path, _: Path) -> None:
        prior, _info = load_prior(run.root / run.arm_path("priors", arm, seed))
        tokenizer = load_tokenizer(run, arm, seed)
        pictures = {}
        for name, source in (("prior", prior), ("uniform", UniformPrior(prior.layout))):
            images = tokenizer.decode(source.sample(N_SAMPLES, seed=seed))
            pictures[name] = to_bytes(images)
        save_artifact(folder, {"kind": "samples", "arm": arm.name}, pictures)

    path = run.arm_path("samples", arm, seed)
    return run.stages.run("sample", path, prior_inputs(run, arm, seed), make, arm=arm.name, seed=seed)


def prior_values(run: Context, arm: Arm, seed: int) -> dict[str, dict[str, float]]:
    """Held-out bits by split that ``train_prior`` measured; empty for an arm without a prior."""
    path = run.root / run.arm_path("priors", arm, seed) / "values.json"
    return read_json(path) if path.exists() else {}


def prior_inputs(run: Context, arm: Arm, seed: int) -> dict[str, Any]:
    """What an arm's prior is determined by."""
    return {"arm": arm_inputs(run, arm, seed), "prior": to_json(run.config.prior)}
