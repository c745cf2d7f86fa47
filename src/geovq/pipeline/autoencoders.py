"""The stages that train autoencoders and store the latents of their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geovq.config import Spec, to_json
from geovq.data import chunks_of
from geovq.models.model import AutoencoderModel
from geovq.models.weights import arrays_of, load_arrays
from geovq.pipeline.context import SPLITS, Context
from geovq.registry import build, with_seed
from geovq.seeding import seeded_weights
from geovq.storage.artifact import load_artifact, save_artifact
from geovq.tokenizer.autoencoder import Autoencoder
from geovq.training import ImageSource, TrainingResult, fit
from geovq.vq.collapse import diagnose, settings_of


def model_inputs(run: Context, name: str, seed: int) -> dict[str, Any]:
    """What a trained model is determined by."""
    # The name counts: the initial weights depend on it.
    config = to_json(run.config.models[name])
    return {"name": name, "model": config, "data": run.splits.fingerprint, "seed": seed}


def train_model(run: Context, name: str, seed: int) -> Path:
    """Train one of the run's models; the folder of its weights and log."""
    path = f"checkpoints/{name}/{seed}"
    config = run.config.models[name]

    def make(folder: Path, checkpoints: Path) -> None:
        model = new_model(run, name, seed)
        result = fit(
            model,
            ImageSource(run.splits.train),
            ImageSource(run.splits.validation),
            config.train,
            seed=seed,
            checkpoints=checkpoints,
            progress=run.progress,
        )
        log = {"best_epoch": result.best_epoch, "epochs": result.epochs, "log": result.log}
        collapse = _collapse(model, result, config.train.learning_rate)
        if collapse:
            run.stages.tell(f"{name}, seed {seed}: {collapse['sentence']}")
            log["collapse"] = collapse
        save_artifact(folder, log, arrays_of(model))

    return run.stages.run("train", path, model_inputs(run, name, seed), make, arm=name, seed=seed)


def _collapse(model: AutoencoderModel, result: TrainingResult, learning_rate: float) -> dict[str, Any]:
    """Why the codebook of a trained model's layer collapsed, as JSON values; empty if it did not."""
    settings = None if model.layer is None else settings_of(model.layer, learning_rate)
    found = None if settings is None else diagnose(result.log, settings)
    return {} if found is None else {**to_json(found), "sentence": found.sentence}


def new_model(run: Context, name: str, seed: int) -> AutoencoderModel:
    """One of the run's models with the initial weights of ``seed``."""
    with seeded_weights(seed, f"weights of {name}"):
        model: AutoencoderModel = build(
            "model", model_spec(run, name, seed), image_shape=run.splits.image_shape
        )
    return model


def model_spec(run: Context, name: str, seed: int) -> Spec:
    """The architecture of one of the run's models."""
    return with_seed("model", run.config.models[name].spec, seed)


def trained_model(run: Context, name: str, seed: int) -> AutoencoderModel:
    """A trained model, from its folder."""
    model = new_model(run, name, seed)
    load_arrays(model, load_artifact(run.root / f"checkpoints/{name}/{seed}")[1])
    return model.eval()


def store_latents(run: Context, name: str, seed: int) -> Path:
    """Posterior mean and sigma of every image under a trained model."""

    def make(folder: Path, _: Path) -> None:
        model = trained_model(run, name, seed)
        autoencoder = Autoencoder(model.encoder, model.decoder, run.splits.image_shape)
        latents: dict[str, np.ndarray] = {}
        for split in SPLITS:
            images = run.images(split)
            chunks = [autoencoder.posterior(images.images(rows)) for rows in chunks_of(images)]
            latents[f"{split}.mean"] = np.concatenate([mean for mean, _ in chunks])
            latents[f"{split}.sigma"] = np.concatenate([sigma for _, sigma in chunks])
        save_artifact(folder, {"kind": "latents", "model": name}, latents)

    return run.stages.run(
        "latents", f"latents/{name}/{seed}", model_inputs(run, name, seed), make, arm=name, seed=seed
    )


def load_latents(run: Context, name: str, seed: int) -> dict[str, np.ndarray]:
    """``{"train.mean": (N, *latent_shape), "train.sigma": ..., "validation.mean": ..., ...}``."""
    return load_artifact(run.root / f"latents/{name}/{seed}")[1]
