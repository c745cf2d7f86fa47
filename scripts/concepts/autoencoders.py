"""Small VAEs of MNIST, trained once and kept in a folder, and what they make of some images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geovq.config import DataConfig, TrainConfig, to_json
from geovq.data import ImageSet, ImageSplits, load
from geovq.models.vae import VAE
from geovq.models.weights import arrays_of, load_arrays
from geovq.seeding import seeded_weights
from geovq.storage.artifact import fingerprint, load_artifact, save_artifact
from geovq.tokenizer.autoencoder import Autoencoder
from geovq.training import ImageSource, fit

N_TRAINING, N_VALIDATION = 20_000, 2_000
WIDTHS, BETA = (32, 64), 0.2
TRAIN = TrainConfig(epochs=6, batch_size=128, learning_rate=1e-3, warmup_epochs=2)


@dataclass(frozen=True)
class Encoded:
    """Some images and their posteriors.

    Attributes
    ----------
    images : float32 (n, C, H, W)
    labels : int64 (n,)
    means, sigmas : float32 (n, D)
    """

    images: np.ndarray
    labels: np.ndarray
    means: np.ndarray
    sigmas: np.ndarray


def mnist() -> ImageSplits:
    """MNIST, from the folder that ``GEOVQ_DATA`` names or downloaded."""
    return load(DataConfig("mnist"))


def trained(splits: ImageSplits, latent_dim: int, seed: int, work: Path) -> Autoencoder:
    """The VAE of ``latent_dim`` and ``seed``: taken from ``work``, or trained and stored there."""
    with seeded_weights(seed, f"weights of the VAE with {latent_dim} dimensions"):
        model = VAE(splits.image_shape, latent_dim, WIDTHS, BETA)
    settings = fingerprint(
        {
            "latent_dim": latent_dim,
            "seed": seed,
            "data": splits.fingerprint,
            "rows": [N_TRAINING, N_VALIDATION],
            "widths": WIDTHS,
            "beta": BETA,
            "train": to_json(TRAIN),
        }
    )
    folder = work / f"vae-{latent_dim}-{seed}"
    if not folder.exists():
        training = ImageSource(_first(splits.train, N_TRAINING))
        validation = ImageSource(_first(splits.validation, N_VALIDATION))
        fit(model, training, validation, TRAIN, seed=seed)
        save_artifact(folder, {"settings": settings}, arrays_of(model))
    stored, arrays = load_artifact(folder)
    if stored["settings"] != settings:
        raise SystemExit(f"{folder} was trained with other settings or data; give another --work")
    load_arrays(model, arrays)
    return Autoencoder(model.encoder, model.decoder, splits.image_shape)


def encoded(autoencoder: Autoencoder, images: ImageSet, rows: np.ndarray) -> Encoded:
    """The images of some rows with their labels and posteriors."""
    assert images.labels is not None
    pixels = images.images(rows)
    means, sigmas = autoencoder.posterior(pixels)
    return Encoded(pixels, images.labels[rows], means, sigmas)


def _first(images: ImageSet, count: int) -> ImageSet:
    assert images.labels is not None
    return ImageSet(images.store, images.rows[:count], images.labels[:count])
