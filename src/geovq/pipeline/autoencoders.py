"""The stages that train autoencoders and store the latents of their images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from geovq.config import Spec, to_json
from geovq.data import ImageSplits, chunks_of
from geovq.models.model import AutoencoderModel, ImageModel
from geovq.models.weights import arrays_of, load_arrays
from geovq.pipeline.context import SPLITS, Context
from geovq.pipeline.epoch_pictures import draw_epochs
from geovq.registry import build, with_seed
from geovq.reports.epochs import EPOCHS
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
        # Beside the checkpoints, so that a training that goes on has those of all epochs; in the run's
        # figures as well, where they can be watched.
        drawn, watched = checkpoints / EPOCHS, run.root / "figures" / EPOCHS / f"{name}-{seed}"
        result = fit(
            model,
            ImageSource(run.splits.train),
            ImageSource(run.splits.validation),
            config.train,
            seed=seed,
            checkpoints=checkpoints,
            progress=run.progress,
            on_epoch=draw_epochs(run.splits.validation, [drawn, watched]),
        )
        log = {"best_epoch": result.best_epoch, "epochs": result.epochs, "log": result.log}
        collapse = _collapse(model, result, config.train.learning_rate)
        if collapse:
            run.stages.tell(f"{name}, seed {seed}: {collapse['sentence']}")
            log["collapse"] = collapse
        save_artifact(folder, log, arrays_of(model))
        shutil.copytree(drawn, folder / EPOCHS)

    return run.stages.run("train", path, model_inputs(run, name, seed), make, arm=name, seed=seed)


def _collapse(model: ImageModel, result: TrainingResult, learning_rate: float) -> dict[str, Any]:
    """Why the first collapsed codebook of a trained model did, as JSON values; empty if none did."""
    for grid in model.grids:
        settings = settings_of(grid.layer, learning_rate)
        # A model with several layers names what they watch after their grids.
        prefix = f"{grid.name}." if len(model.grids) > 1 else ""
        log = [
            {**row, "name": row["name"].removeprefix(prefix)}
            for row in result.log
            if row["name"].startswith(prefix)
        ]
        found = None if settings is None else diagnose(log, settings)
        if found is not None:
            return {**to_json(found), "sentence": f"{prefix.replace('.', ': ')}{found.sentence}"}
    return {}


def new_model(run: Context, name: str, seed: int) -> ImageModel:
    """One of the run's models with the initial weights of ``seed``."""
    with seeded_weights(seed, f"weights of {name}"):
        model: ImageModel = build("model", model_spec(run, name, seed), image_shape=run.splits.image_shape)
    return model


def model_spec(run: Context, name: str, seed: int) -> Spec:
    """The architecture of one of the run's models, with the numbers that its training images give."""
    spec = with_seed("model", run.config.models[name].spec, seed)
    return with_normalization(spec, run.splits)


def with_normalization(spec: Spec, splits: ImageSplits) -> Spec:
    """``spec`` with the statistics of training images where its normalization is ``train``."""
    if spec.params.get("normalization") != "train":
        return spec
    return Spec(spec.kind, {**spec.params, "normalization": [list(row) for row in splits.channel_statistics]})


def trained_model(run: Context, name: str, seed: int) -> ImageModel:
    """A trained model, from its folder."""
    model = new_model(run, name, seed)
    load_arrays(model, load_artifact(run.root / f"checkpoints/{name}/{seed}")[1])
    return model.eval()


def trained_autoencoder(run: Context, name: str, seed: int) -> AutoencoderModel:
    """A trained model that has an encoder and a decoder around one latent."""
    model = trained_model(run, name, seed)
    assert isinstance(model, AutoencoderModel)
    return model


def store_latents(run: Context, name: str, seed: int) -> Path:
    """Posterior mean and sigma of every image under a trained model."""

    def make(folder: Path, _: Path) -> None:
        model = trained_autoencoder(run, name, seed)
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
