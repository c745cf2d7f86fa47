"""One small trained VAE and VQ-VAE on real digits, and tokenizers of every kind around them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_tokenizers import ARCHITECTURES, AWARE, KINDS, MAPPED, QUANTIZERS, fitted, with_all_parts

from geovq.config import DataConfig, TrainConfig
from geovq.data import load
from geovq.data.splits import ImageSplits
from geovq.models.model import AutoencoderModel
from geovq.registry import build
from geovq.seeding import seeded_weights
from geovq.tokenizer import Autoencoder, LatentTokenizer, mean_pullback_map
from geovq.training import ImageSource, fit


@pytest.fixture(scope="session")
def digits() -> ImageSplits:
    return load(DataConfig("digits"))


@pytest.fixture(scope="session")
def few(digits: ImageSplits) -> ImageSplits:
    """Fewer training images, for what needs no good result."""
    return replace(digits, train=replace(digits.train, rows=digits.train.rows[:256], labels=None))


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
    means = Autoencoder(vae.encoder, vae.decoder, digits.image_shape).posterior(
        digits.train.images(slice(0, 200))
    )[0]
    for name, (spec, tokens) in QUANTIZERS.items():
        made[name] = fitted(models, digits, spec, tokens)
        if name in MAPPED:
            latent_map = mean_pullback_map(vae.decoder, means, tokens=tokens)
            made[f"{name} mapped"] = fitted(models, digits, spec, tokens, latent_map)
    made |= {name: made[start].changed(aware=aware) for name, (start, aware) in AWARE.items()}
    made["all parts"] = with_all_parts(made["kmeans mapped"])
    return made


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, LatentTokenizer]) -> LatentTokenizer:
    return tokenizers[request.param]
