"""Standardised images inside a model: the arithmetic, images in [0, 1] outside, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from geovq.config import Spec
from geovq.errors import ConfigError
from geovq.models.normalization import ChannelNormalization
from geovq.models.weights import arrays_of
from geovq.registry import build, check
from geovq.seeding import seeded_weights, torch_generator

EMA = {"kind": "ema", "params": {"n_codes": 8}}
ROWS = [[0.5, 0.4, 0.3], [0.25, 0.2, 0.1]]
MODELS = {
    "vae": {"latent_dim": 4, "widths": [6, 6]},
    "vae of maps": {"latent_dim": 3, "widths": [6, 6], "spatial": True, "blocks": 1},
    "vqvae": {"latent_dim": 8, "widths": [6, 6], "tokens": [2, 2], "layer": EMA},
    "vqvae2": {"latent_dim": 3, "widths": [6], "blocks": 1, "layers": [EMA, EMA]},
}


def images(n: int = 4, channels: int = 3) -> torch.Tensor:
    return torch.rand(n, channels, 8, 8, generator=torch_generator(0, "test"))


def made(name: str, image_shape=(3, 8, 8), **params: object):
    with seeded_weights(0, "test"):
        return build("model", Spec(name.split()[0], {**MODELS[name], **params}), image_shape=image_shape)


def test_images_are_standardised_channel_by_channel():
    given = images()
    found = ChannelNormalization(3, ROWS)(given)
    for channel, (mean, deviation) in enumerate(zip(*ROWS, strict=True)):
        expected = (given[:, channel].double() - mean) / deviation
        torch.testing.assert_close(found[:, channel].double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_channels", [1, 3, 5])
def test_without_numbers_images_run_from_minus_one_to_one(n_channels):
    given = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 1, 3).expand(2, n_channels, 1, 3)
    expected = torch.tensor([-1.0, -0.5, 1.0]).expand(2, n_channels, 1, 3)
    assert torch.equal(ChannelNormalization(n_channels, None)(given), expected)


def test_its_numbers_are_no_weights():
    normalize = ChannelNormalization(3, ROWS)
    assert list(normalize.parameters()) == []
    assert arrays_of(normalize) == {}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_standardised_images_is_the_plain_one_on_those(name):
    """A model without numbers maps x to 2x - 1: it sees the same where that is given the other way round."""
    given = images()
    standardised = (given - torch.tensor(ROWS[0]).view(3, 1, 1)) / torch.tensor(ROWS[1]).view(3, 1, 1)
    plain, normalized = made(name).eval(), made(name, normalization=ROWS).eval()
    of_latents = "kl_nats" if name.startswith("vae") else "commitment"

    def term(model, seen: torch.Tensor) -> float:
        return model.loss((seen,), torch_generator(0, "loss"))[of_latents].item()

    assert term(normalized, given) == pytest.approx(term(plain, (standardised + 1) / 2), rel=1e-4)
    assert term(normalized, given) != pytest.approx(term(plain, given), rel=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_images_outside_stay_between_zero_and_one(name):
    model = made(name, normalization=ROWS).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        decoded = model.reconstruct(images())
    assert decoded.shape == (4, 3, 8, 8)
    assert ((decoded >= 0) & (decoded <= 1)).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_request_for_the_training_images_is_refused_where_there_are_none(name):
    with pytest.raises(ConfigError, match="normalization is 'train' where no training images are at hand"):
        made(name, normalization="train")


@pytest.mark.parametrize("name", MODELS)
def test_numbers_for_other_channels_are_refused_with_both(name):
    with pytest.raises(
        ConfigError, match=r"rows of \[3, 3\] numbers for images of 1 channels; expected 1 means and 1 stan"
    ):
        made(name, image_shape=(1, 8, 8), normalization=ROWS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0.5, 0.5]], r"rows of \[2\] numbers for images of 2 channels"),
        ([[0.5, 0.5], [0.2, 0.2], [1, 1]], r"rows of \[2, 2, 2\] numbers"),
        ([[0.5, 0.5], [0.2]], r"rows of \[2, 1\] numbers"),
        ([[0.5, 0.5], [0.2, 0.0]], "expected finite means and standard deviations above 0"),
        ([[0.5, 0.5], [0.2, -0.1]], "expected finite means and standard deviations above 0"),
        ([[0.5, math.nan], [0.2, 0.2]], r"normalization is \[\[0.5, nan\], .*expected finite means"),
        ([[0.5, 0.5], [math.inf, 0.2]], r"normalization is .*inf.*expected finite means"),
    ],
)
def test_numbers_that_standardise_nothing_are_refused(rows, message):
    with pytest.raises(ConfigError, match=message):
        ChannelNormalization(2, rows)


@pytest.mark.parametrize("value", ["test", 3, [0.5, 0.25], [["a"], [1]], {"mean": [0.5]}])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_no_normalization_is_refused_in_a_config(name, value):
    spec = Spec(name.split()[0], {**MODELS[name], "normalization": value})
    with pytest.raises(ConfigError, match=r"params\.normalization"):
        check("model", spec, ("image_shape",))


@pytest.mark.parametrize("form", ["foo", [0.5, 0.2]])
def test_anything_but_two_rows_is_refused(form):
    with pytest.raises(ConfigError, match=r"expected 'train', or \[\[mean, ...\], \[deviation, ...\]\]"):
        ChannelNormalization(3, form)
