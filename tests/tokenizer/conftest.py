"""One small trained VAE and VQ-VAE on real digits, and tokenizers of every kind around them."""

from __future__ import annotations

import pytest

from geovq.config import DataConfig, Spec, TrainConfig
from geovq.data import load
from geovq.data.splits import ImageSplits
from geovq.models.model import AutoencoderModel
from geovq.registry import build
from geovq.seeding import seeded_weights
from geovq.tokenizer import Autoencoder, LatentTokenizer
from geovq.training import ImageSource, fit

ARCHITECTURES = {
    "vae": Spec("vae", {"latent_dim": 8, "widths": [8, 16], "beta": 0.2}),
    "vqvae": Spec(
        "vqvae",
        {
            "layer": {"kind": "ema", "params": {"n_codes": 16}},
            "latent_dim": 8,
            "tokens": [2, 2],
            "widths": [8, 16],
        },
    ),
}
QUANTIZERS = {
    "kmeans": (Spec("kmeans", {"n_codes": 16, "random_state": 0}), (2, 2)),
    "gaussian wasserstein": (
        Spec("gaussian", {"n_codes": 16, "metric": "wasserstein", "random_state": 0}),
        (2, 2),
    ),
    "gaussian precision": (
        Spec("gaussian", {"n_codes": 16, "metric": "precision", "random_state": 0}),
        (4, 1),
    ),
    "geodesic": (Spec("geodesic", {"n_codes": 16, "n_neighbors": 5, "random_state": 0}), (2, 2)),
    "residual": (Spec("residual", {"n_codes": 12, "n_levels": 3, "random_state": 0}), (1, 1)),
}
KINDS = ["ema", *QUANTIZERS]


@pytest.fixture(scope="session")
def digits() -> ImageSplits:
    return load(DataConfig("digits"))


@pytest.fixture(scope="session")
def models(digits: ImageSplits) -> dict[str, AutoencoderModel]:
    trained = {}
    for name, spec in ARCHITECTURES.items():
        with seeded_weights(0, name):
            model = build("model", spec, image_shape=digits.image_shape)
        config = TrainConfig(epochs=15, batch_size=32, learning_rate=5e-3)
        fit(model, ImageSource(digits.train), ImageSource(digits.validation), config, seed=0)
        trained[name] = model
    return trained


@pytest.fixture(scope="session")
def tokenizers(digits: ImageSplits, models: dict[str, AutoencoderModel]) -> dict[str, LatentTokenizer]:
    vae, vqvae = models["vae"], models["vqvae"]
    assert vqvae.layer is not None
    made = {
        "ema": LatentTokenizer(
            vqvae.encoder,
            vqvae.decoder,
            vqvae.layer,
            image_shape=digits.image_shape,
            latent_shape=(8,),
            tokens=(2, 2),
            architecture=ARCHITECTURES["vqvae"],
        )
    }
    floor = Autoencoder(vae.encoder, vae.decoder, digits.image_shape)
    mean, sigma = floor.posterior(digits.train.images(slice(0, 600)))
    for name, (spec, tokens) in QUANTIZERS.items():
        quantizer = build("quantizer", spec)
        dim = 8 // (tokens[0] * tokens[1])
        given = {"sigma": sigma.reshape(-1, dim)} if spec.kind == "gaussian" else {}
        made[name] = LatentTokenizer(
            vae.encoder,
            vae.decoder,
            quantizer.fit(mean.reshape(-1, dim), **given).as_module(),
            image_shape=digits.image_shape,
            latent_shape=(8,),
            tokens=tokens,
            architecture=ARCHITECTURES["vae"],
        )
    return made


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, LatentTokenizer]) -> LatentTokenizer:
    return tokenizers[request.param]
