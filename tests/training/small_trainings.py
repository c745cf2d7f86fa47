"""Trainings of a second on real digits, and a digest of all that they leave behind."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from geovq.config import DataConfig, TrainConfig
from geovq.data import load
from geovq.models import VAE, VQVAE
from geovq.models.weights import arrays_of
from geovq.seeding import seeded_weights
from geovq.training import OnEpoch, Progress, TensorSource, TrainingResult, fit

CONFIG = TrainConfig(epochs=3, batch_size=48, learning_rate=3e-3, weight_decay=0.01)
EMA = {"kind": "ema", "params": {"n_codes": 16, "decay": 0.7, "revival": 0.3}}
KINDS = ("vae", "vqvae")
# A bound that some gradients keep and some do not; a decay that the average reaches half-way.
AVERAGED = replace(CONFIG, clip_norm=12.8, ema_decay=0.5)
TRAININGS = {"vae": CONFIG, "vqvae": CONFIG, "averaged": AVERAGED}


def new_model(kind: str, seed: int = 0) -> nn.Module:
    with seeded_weights(seed, "test"):
        if kind == "vae":
            return VAE((1, 8, 8), latent_dim=8, widths=(8, 8), beta=0.2)
        return VQVAE((1, 8, 8), EMA, latent_dim=8, tokens=(2, 2), widths=(8, 8), seed=seed)


def digits(n_train: int = 200, n_validation: int = 60) -> tuple[TensorSource, TensorSource]:
    splits = load(DataConfig("digits"))
    train, validation = (
        splits.train.images(slice(0, n_train)),
        splits.validation.images(slice(0, n_validation)),
    )
    return TensorSource(torch.from_numpy(train)), TensorSource(torch.from_numpy(validation))


def train_small(
    kind: str,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[nn.Module, TrainingResult]:
    """A training of ``TRAININGS``; the averaged one is the VQ-VAE's, whose codebook is a buffer."""
    model = new_model(kind)
    options = {"checkpoints": checkpoints, "progress": progress, "on_epoch": on_epoch}
    return model, fit(model, *digits(), TRAININGS[kind], seed=5, **options)


def weights_digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, array in arrays_of(model).items():
        digest.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def digest_of(model: nn.Module, result: TrainingResult) -> str:
    text = json.dumps([result.log, result.best_epoch, result.epochs], sort_keys=True)
    return hashlib.sha256((weights_digest(model) + text).encode()).hexdigest()
