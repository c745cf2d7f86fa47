"""The fully connected networks: any image shape, any depth, and everything that the convolutional ones do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geovq.config import DataConfig, Spec, TrainConfig
from geovq.data import load
from geovq.data.splits import ImageSplits
from geovq.errors import ConfigError
from geovq.models import VAE, VQVAE
from geovq.models.cut import cut
from geovq.models.dense import DenseDecoder, DenseEncoder
from geovq.models.model import AutoencoderModel
from geovq.quantizers import KMeansQuantizer
from geovq.registry import build, check
from geovq.seeding import seeded_weights, torch_generator
from geovq.tokenizer import Autoencoder, LatentTokenizer
from geovq.training import ImageSource, fit

EMA = {"kind": "ema", "params": {"n_codes": 16}}
DENSE = {"network": "dense", "widths": [64], "latent_dim": 20}
VAE_SPEC = Spec("vae", {**DENSE, "beta": 0.1})
VQVAE_SPEC = Spec("vqvae", {**DENSE, "tokens": [1, 5], "layer": EMA})
DEEPER = {"widths": [24, 16]}


def made(spec: Spec, image_shape=(1, 8, 8)) -> AutoencoderModel:
    with seeded_weights(0, "test"):
        model: AutoencoderModel = build("model", spec, image_shape=image_shape)
    return model


def draws(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch_generator(0, "test"))


def linear_layers(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


@pytest.fixture(scope="module")
def digits() -> ImageSplits:
    return load(DataConfig("digits"))


@settings(max_examples=25, deadline=None)
@given(
    image_shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    hidden=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    latent_dim=st.integers(1, 5),
    stochastic=st.booleans(),
)
def test_images_of_any_shape_pass_through_any_number_of_layers(image_shape, hidden, latent_dim, stochastic):
    with seeded_weights(0, "test"):
        encoder = DenseEncoder(image_shape, hidden, latent_dim, stochastic=stochastic)
        decoder = DenseDecoder(image_shape, hidden, latent_dim)
    images = draws(3, *image_shape)
    mean, sigma = encoder(images)
    assert mean.shape == sigma.shape == (3, latent_dim)
    assert ((sigma > 0) if stochastic else (sigma == 0)).all()
    decoded = decoder(mean)
    assert decoded.shape == images.shape
    assert ((decoded > 0) & (decoded < 1)).all()
    assert torch.equal(decoder.logits(mean).sigmoid(), decoded)


def test_layers_are_those_of_784_400_20_400_784():
    model = made(Spec("vae", {"network": "dense", "widths": [400], "latent_dim": 20}), (1, 28, 28))
    assert linear_layers(model.encoder) == [(784, 400), (400, 2 * 20)]
    assert linear_layers(model.decoder) == [(20, 400), (400, 784)]
    assert model.latent_shape == (20,)


def test_the_decoder_has_the_encoders_widths_in_reverse():
    model = made(Spec("vqvae", {**VQVAE_SPEC.params, **DEEPER}))
    assert linear_layers(model.encoder) == [(64, 24), (24, 16), (16, 20)]
    assert linear_layers(model.decoder) == [(20, 16), (16, 24), (24, 64)]


def test_the_networks_are_those_of_the_definition():
    model, images = made(Spec("vae", {**VAE_SPEC.params, **DEEPER})), draws(5, 1, 8, 8)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}

    def affine(name: str, inputs: torch.Tensor) -> torch.Tensor:
        return inputs @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    hidden = affine("encoder.features.1", images.double().flatten(1)).clamp(min=0)
    outputs = affine("encoder.head", affine("encoder.features.3", hidden).clamp(min=0))
    mean, sigma = model.encoder(images)
    torch.testing.assert_close(mean.double(), outputs[:, :20], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sigma.double(), outputs[:, 20:].exp(), rtol=1e-5, atol=1e-6)
    hidden = affine("decoder.layers.2", affine("decoder.layers.0", outputs[:, :20]).clamp(min=0)).clamp(min=0)
    logits = affine("decoder.layers.4", hidden).reshape(5, 1, 8, 8)
    torch.testing.assert_close(model.decoder.logits(mean).double(), logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("hidden", "latent_dim", "image_shape"),
    [
        ((), 4, (1, 8, 8)),
        ((0,), 4, (1, 8, 8)),
        ((8, -1), 4, (1, 8, 8)),
        ((8,), 0, (1, 8, 8)),
        ((8,), 4, (0, 8, 8)),
    ],
)
def test_sizes_that_no_layer_can_have_are_refused(hidden, latent_dim, image_shape):
    message = rf"hidden widths are \[.*\], latent_dim {latent_dim} and images .*; expected one width or more"
    with pytest.raises(ConfigError, match=message):
        DenseEncoder(image_shape, hidden, latent_dim, stochastic=True)
    with pytest.raises(ConfigError, match=message):
        DenseDecoder(image_shape, hidden, latent_dim)


def test_a_latent_map_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"spatial is true with network 'dense'; .* has no sites"):
        VAE((1, 8, 8), 4, (8,), spatial=True, network="dense")
    with pytest.raises(ConfigError, match=r"spatial is true with network 'dense'; .* has no sites"):
        VQVAE((1, 8, 8), EMA, 4, (1, 1), (8,), spatial=True, network="dense")


@pytest.mark.parametrize("spec", [VAE_SPEC, VQVAE_SPEC], ids=lambda spec: spec.kind)
def test_an_unknown_network_is_refused_in_a_config_and_by_the_class(spec):
    wrong = Spec(spec.kind, {**spec.params, "network": "densee"})
    with pytest.raises(ConfigError, match=r"params\.network' is \"densee\"; expected one of conv, dense"):
        check("model", wrong, ("image_shape",))
    with pytest.raises(ConfigError, match="unknown network 'densee'; did you mean 'dense'"):
        VAE((1, 8, 8), network="densee")


def test_convolutions_point_to_the_network_that_takes_any_sides():
    with pytest.raises(ConfigError, match=r"images are 7x7; .* or take network 'dense'"):
        VAE((1, 7, 7))
    assert made(VAE_SPEC, (1, 7, 7)).encoder(draws(2, 1, 7, 7))[0].shape == (2, 20)


@pytest.mark.parametrize(("tokens", "dim"), [((1, 1), 20), ((1, 5), 4), ((2, 5), 2), ((20, 1), 1)])
def test_its_latent_is_cut_into_any_tokens_that_come_out_even(tokens, dim):
    model = made(Spec("vqvae", {**VQVAE_SPEC.params, "tokens": list(tokens)}))
    assert model.layer.dim == dim
    terms = model.loss((draws(16, 1, 8, 8),), torch_generator(0, "loss"))
    assert terms["total"].item() == pytest.approx((terms["bce_nats"] + terms["commitment"]).item())


@pytest.mark.parametrize("spec", [VAE_SPEC, VQVAE_SPEC], ids=lambda spec: spec.kind)
def test_gradients_reach_every_weight(spec):
    model = made(spec)
    model.loss((draws(32, 1, 8, 8),), torch_generator(0, "loss"))["total"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.fixture(scope="module")
def trained(digits: ImageSplits) -> dict[str, AutoencoderModel]:
    models = {"vae": made(VAE_SPEC), "vqvae": made(VQVAE_SPEC)}
    config = TrainConfig(epochs=12, batch_size=32, learning_rate=5e-3)
    for model in models.values():
        fit(model, ImageSource(digits.train), ImageSource(digits.validation), config, seed=0)
    return models


def tokenizer_of(model: AutoencoderModel, digits: ImageSplits) -> LatentTokenizer:
    """Around a VQ-VAE's own layer, or codes of k-means on a VAE's latents cut into 5 tokens of 4."""
    quantizer, spec = model.layer, VQVAE_SPEC
    if quantizer is None:
        floor = Autoencoder(model.encoder, model.decoder, digits.image_shape)
        means = floor.posterior(digits.train.images(slice(0, 400)))[0]
        points = cut(torch.from_numpy(means), (1, 5)).flatten(0, 1).numpy()
        quantizer, spec = KMeansQuantizer(16, random_state=0).fit(points).as_module(), VAE_SPEC
    return LatentTokenizer(
        model.encoder,
        model.decoder,
        quantizer,
        image_shape=digits.image_shape,
        latent_shape=model.latent_shape,
        tokens=(1, 5),
        architecture=spec,
    )


@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_a_trained_one_reconstructs_better_than_the_mean_image(kind, trained, digits):
    images = digits.validation.images(slice(0, 200))
    reconstructed = tokenizer_of(trained[kind], digits).reconstruct(images)
    mean_image = digits.train.images(slice(0, len(digits.train))).mean(0)
    mse, of_mean_image = (((given - images) ** 2).mean() for given in (reconstructed, mean_image))
    assert mse < 0.8 * of_mean_image


@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_a_tokenizer_comes_back_from_its_folder(kind, trained, digits, tmp_path: Path):
    tokenizer = tokenizer_of(trained[kind], digits)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    loaded = LatentTokenizer.from_pretrained(tmp_path / "tokenizer")
    images = digits.test.images(slice(0, 50))
    codes = tokenizer.encode(images)
    assert codes.shape == (50, 5)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert np.array_equal(loaded.encode(images), codes)
    assert np.array_equal(loaded.decode(codes), tokenizer.decode(codes))
