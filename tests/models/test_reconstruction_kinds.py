"""What models minimise between images: the three kinds, in whose units, and the scale that one learns."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli

from geovq.config import Spec
from geovq.errors import ConfigError
from geovq.evaluation.likelihood import PixelLikelihood
from geovq.models.blocks import Decoder
from geovq.models.pixel_likelihood import FIRST_SCALE
from geovq.models.reconstruction import ReconstructionLoss
from geovq.models.weights import arrays_of, load_arrays
from geovq.registry import build, check
from geovq.seeding import seeded_weights, torch_generator

EMA = {"kind": "ema", "params": {"n_codes": 8, "start": "random"}}
ROWS = [[0.5, 0.4], [0.25, 0.1]]
MODELS = {
    "vae": {"latent_dim": 4, "widths": [6, 6], "beta": 0.5},
    "vqvae": {"latent_dim": 8, "widths": [6, 6], "tokens": [2, 2], "layer": EMA},
    "vqvae2": {"latent_dim": 3, "widths": [6], "blocks": 1, "layers": [EMA, EMA]},
}
NAMES = {"bce": "bce_nats", "mse": "squared_error", "logistic": "pixel_nats"}


def images(n: int = 5) -> torch.Tensor:
    """Images (n, 2, 8, 8) of 8 bits, black and white among them."""
    levels = torch.randint(0, 256, (n, 2, 8, 8), generator=torch_generator(0, "test"))
    levels[0, 0, 0, :2] = torch.tensor([0, 255])
    return levels / 255


def made(name: str, **params: object):
    with seeded_weights(0, "test"):
        return build("model", Spec(name, {**MODELS[name], **params}), image_shape=(2, 8, 8))


def error_of(kind, decoder: Decoder, normalization=None) -> ReconstructionLoss:
    return ReconstructionLoss(kind, decoder, 2, normalization)


def decoder_and_latents() -> tuple[Decoder, torch.Tensor]:
    """A decoder that passes logits on, and logits."""
    return Decoder(torch.nn.Identity()), torch.randn(5, 2, 8, 8, generator=torch_generator(0, "logits"))


def test_the_cross_entropy_is_that_of_the_definition():
    decoder, logits = decoder_and_latents()
    name, value = error_of("bce", decoder)(decoder, logits, images())
    expected = -Bernoulli(logits=logits.double(), validate_args=False).log_prob(images().double()).sum() / 5
    assert name == "bce_nats"
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_squared_error_is_in_units_of_intensities():
    decoder, logits = decoder_and_latents()
    name, value = error_of("mse", decoder)(decoder, logits, images())
    expected = (logits.double().sigmoid() - images().double()).square().sum((1, 2, 3)).mean()
    assert name == "squared_error"
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_squared_error_of_standardised_images_is_in_units_of_their_deviations():
    decoder, logits = decoder_and_latents()
    _, value = error_of("mse", decoder, ROWS)(decoder, logits, images())
    by_channel = (logits.double().sigmoid() - images().double()).square().sum((2, 3)).mean(0)
    expected = by_channel[0] / 0.25**2 + by_channel[1] / 0.1**2
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["bce", "logistic"])
def test_nats_do_not_depend_on_how_images_are_standardised(kind):
    decoder, logits = decoder_and_latents()
    other, _ = decoder_and_latents()
    plain = error_of(kind, decoder)(decoder, logits, images())
    standardised = error_of(kind, other, ROWS)(other, logits, images())
    assert plain[0] == standardised[0] == NAMES[kind]
    assert torch.equal(plain[1], standardised[1])


def test_the_logistic_likelihood_is_that_of_the_evaluation():
    decoder, logits = decoder_and_latents()
    error = error_of("logistic", decoder)
    assert decoder.likelihood.scales == pytest.approx((FIRST_SCALE, FIRST_SCALE))
    with torch.no_grad():
        decoder.likelihood.log_scale.copy_(torch.tensor([0.05, 0.3]).log())
    name, value = error(decoder, logits, images())
    bits = PixelLikelihood("logistic", (0.05, 0.3)).bits(logits.sigmoid().numpy(), images().numpy())
    assert name == "pixel_nats"
    assert value.item() == pytest.approx(bits.mean() * math.log(2), rel=1e-5)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", MODELS)
def test_the_total_is_the_error_and_the_other_term(name, kind):
    model = made(name, reconstruction=kind).eval()
    terms = model.loss((images(),), torch_generator(0, "loss"))
    other = 0.5 * terms["kl_nats"] if name == "vae" else terms["commitment"]
    assert set(NAMES.values()) & set(terms) == {NAMES[kind]}
    assert terms["total"].item() == pytest.approx((terms[NAMES[kind]] + other).item(), rel=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_scale_is_learnt_and_kept_with_the_weights(name):
    model = made(name, reconstruction="logistic")
    model.loss((images(),), torch_generator(0, "loss"))["total"].backward()
    assert (model.decoder.likelihood.log_scale.grad.abs() > 0).all()
    with torch.no_grad():
        model.decoder.likelihood.log_scale.copy_(torch.tensor([0.02, 0.04]).log())
    arrays = arrays_of(model)
    assert [key for key in arrays if "log_scale" in key] == ["decoder.likelihood.log_scale"]
    other = made(name, reconstruction="logistic")
    load_arrays(other, arrays)
    assert other.decoder.likelihood.scales == pytest.approx((0.02, 0.04))


@pytest.mark.parametrize("kind", ["bce", "mse"])
@pytest.mark.parametrize("name", MODELS)
def test_other_kinds_have_no_scale(name, kind):
    model = made(name, reconstruction=kind)
    assert model.decoder.likelihood is None
    assert not any("log_scale" in key for key in arrays_of(model))


@pytest.mark.parametrize("name", MODELS)
def test_an_unknown_kind_is_refused_by_the_class_and_in_a_config(name):
    decoder, _ = decoder_and_latents()
    with pytest.raises(ConfigError, match="unknown reconstruction 'mae'; did you mean 'mse'"):
        error_of("mae", decoder)
    spec = Spec(name, {**MODELS[name], "reconstruction": "mae"})
    with pytest.raises(
        ConfigError, match=r'params\.reconstruction\' is "mae"; expected one of bce, mse, log'
    ):
        check("model", spec, ("image_shape",))
