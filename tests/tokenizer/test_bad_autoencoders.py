"""What is said about an encoder, a decoder or parts of a tokenizer that do not fit; where parts lie."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_tokenizers import with_all_parts
from torch import nn

from geovq.config import AwareConfig
from geovq.errors import InputError
from geovq.evaluation import diagnose
from geovq.geometry import pullback_metrics
from geovq.models.rectifier import Rectifier
from geovq.quantizers import KMeansQuantizer
from geovq.tokenizer import Autoencoder, mean_pullback_map
from geovq.tokenizer import latent as latent_module
from geovq.tokenizer.decoder_aware import refine_by_metric
from geovq.tokenizer.vectors import CodeVectors, codebooks


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, batch):
        return self.function(batch)


@pytest.fixture(scope="module")
def images(digits):
    return digits.test.images(slice(0, 30))


def points(images):
    return images.flatten(1)[:, :4]


def with_row(values, row, number):
    return torch.where(torch.arange(len(values))[:, None] == row, number, values)


ENCODERS = [
    (lambda x: {"mean": points(x)}, r"encoder returned a dict; expected latents or a pair \(mean, sigma\)"),
    (lambda x: (points(x),) * 3, r"returned a tuple of 3 \(Tensor, Tensor, Tensor\); expected latents or"),
    (lambda x: (points(x), None), r"returned a tuple of 2 \(Tensor, NoneType\); expected latents or a pair"),
    (lambda x: (points(x), points(x)[:, :3]), r"latents \(30, 4\) and sigma \(30, 3\) for 30 images; expec"),
    (lambda x: points(x)[:5], r"latents \(5, 4\) for 30 images; expected a latent for every image"),
    (lambda x: points(x).mean(), r"latents \(\) for 30 images; expected a latent for every image"),
    (
        lambda x: (points(x), points(x) - 9),
        r"sigma is negative in 30 .* 0; expected standard deviations, not l",
    ),
    (lambda x: with_row(points(x), 7, torch.nan), r"mean has NaN or infinity in 1 of 30 .* first in image 7"),
    (
        lambda x: (points(x), with_row(points(x), 3, torch.inf)),
        r"sigma has NaN or infinity .* first in image 3",
    ),
]


@pytest.mark.parametrize(("function", "message"), ENCODERS)
def test_an_encoder_that_gives_no_posterior_is_refused(images, function, message):
    with pytest.raises(InputError, match=message) as caught:
        Autoencoder(Function(function), nn.Identity(), images.shape[1:]).posterior(images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pair", [tuple, list])
def test_a_pair_may_be_a_tuple_or_a_list(images, pair):
    encoder = Function(lambda x: pair([points(x), points(x) + 1]))
    mean, sigma = Autoencoder(encoder, nn.Identity(), images.shape[1:]).posterior(images)
    assert np.array_equal(mean, images.reshape(30, -1)[:, :4])
    assert np.array_equal(sigma, mean + 1)


DECODERS = [
    (
        lambda z: (z, z),
        r"decoder Function returned a tuple of 2 \(Tensor, Tensor\) for latents \(30, 8\); exp",
    ),
    (
        lambda z: z @ z.new_zeros(5, 64),
        r"decoder Function failed on latents \(30, 8\): mat1 and mat2 .*; expe",
    ),
    (lambda z: len(z.missing()), None),
    (lambda z: z["a"], r"decoder Function failed on latents"),
    (
        lambda z: z.new_zeros(len(z), 1, 16, 16),
        r"a tensor \(30, 1, 16, 16\) .*expected a tensor \(30, 1, 8, 8\)",
    ),
    (
        lambda z: with_row(z.new_zeros(30, 64), 2, torch.nan).reshape(30, 1, 8, 8),
        "NaN or infinity in 1 of 30 im",
    ),
]


@pytest.mark.parametrize(("function", "message"), DECODERS)
def test_a_decoder_that_gives_no_images_is_refused(tokenizers, images, function, message):
    tokenizer = tokenizers["residual"]
    codes, latents = tokenizer.encode(images), tokenizer.posterior(images)[0]
    broken = tokenizer.changed(decoder=Function(function))
    error = AttributeError if message is None else InputError  # mistakes in its code are its own
    for call in (lambda: broken.decode(codes), lambda: broken.decode_latents(latents)):
        with pytest.raises(error, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_decoder_without_memory_is_not_a_wrong_decoder(tokenizers, images):
    def full(latents):
        raise torch.OutOfMemoryError("out of memory")

    tokenizer = tokenizers["residual"]
    with pytest.raises(torch.OutOfMemoryError):
        tokenizer.changed(decoder=Function(full)).decode(tokenizer.encode(images))


def test_latents_that_are_no_posterior_are_refused(tokenizers, images):
    tokenizer = tokenizers["residual"]
    mean, sigma = tokenizer.posterior(images)
    wrong = mean.copy()
    wrong[4, 0] = np.nan
    for latents, message in (
        ((mean, sigma[:-1]), "29 sigma are given for 30 latents"),
        ((wrong, sigma), "latents' mean has NaN or infinity in 1 of 30 images, first in image 4"),
        ((mean, sigma - 9), "sigma is negative in 30 of 30 images, first in image 0; expected standard dev"),
    ):
        with pytest.raises(InputError, match=message):
            tokenizer.encode_latents(*latents)


def test_images_to_compare_with_are_checked(tokenizers, images):
    tokenizer = tokenizers["residual by image"]
    latents = tokenizer.posterior(images)
    with pytest.raises(InputError, match="images are uint8"):
        tokenizer.encode_latents(*latents, (images * 255).astype(np.uint8))
    with pytest.raises(InputError, match="images run from 0 to 255"):
        tokenizer.encode_latents(*latents, images * 255)


def test_parts_that_do_not_fit_are_refused(tokenizers):
    tokenizer = tokenizers["residual"]
    four_wide, estimator = tokenizers["kmeans"], KMeansQuantizer(n_codes=2, random_state=0)
    other = CodeVectors([torch.zeros(11, 8)] * 3)
    for parts, message in (
        (
            {"quantizer": four_wide.quantizer},
            r"vectors of 2 numbers, but a latent \(8,\) .* tokens of 8; expe",
        ),
        ({"quantizer": estimator.fit(np.eye(8))}, r"is a KMeansQuantizer; .* give quantizer\.as_module\(\)"),
        (
            {"vectors": other},
            r"vectors have levels \[\(11, 8\).*expected \[\(12, 8\), \(12, 8\), \(12, 8\)\]",
        ),
        (
            {"vectors": CodeVectors.of(four_wide.quantizer)},
            r"vectors have levels \[\(16, 2\)\]; expected \[\(12",
        ),
        (
            {"latent_shape": (4, 2)},
            r"latent_shape is \(4, 2\) .*expected \(D,\) of a flat latent or \(D, h, w\)",
        ),
        ({"tokens": (1,)}, r"tokens is \(1,\); expected .* a grid \(height, width\)"),
    ):
        with pytest.raises(InputError, match=message):
            tokenizer.changed(**parts)


def test_all_parts_go_where_the_encoder_is(tokenizers):
    whole = copy.deepcopy(tokenizers["all parts"])
    parts = {name: getattr(whole, name) for name in ("quantizer", "latent_map", "vectors", "rectifier")}
    whole.changed(encoder=whole.encoder.to("meta"), **parts)
    for part in parts.values():
        assert {tensor.device.type for tensor in part.state_dict().values()} == {"meta"}


def test_an_encoder_without_weights_moves_nothing(tokenizers):
    whole = copy.deepcopy(tokenizers["all parts"])
    whole.quantizer.to("meta")
    changed = whole.changed(encoder=nn.Identity())
    assert changed.quantizer.codebook.device.type == "meta"
    assert changed.vectors.levels[0].device.type == "cpu"


@pytest.mark.parametrize("name", ["residual", "kmeans mapped"])
def test_the_decoders_metric_sees_through_the_rectifier(tokenizers, images, name):
    plain = tokenizers[name]
    rectifier = with_all_parts(plain).rectifier
    assert isinstance(rectifier, Rectifier)
    with torch.no_grad():
        for parameter in rectifier.blocks[0][2].parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    mean = plain.posterior(images)[0]
    metrics = torch.from_numpy(pullback_metrics(lambda z: plain.decoder(rectifier(z)), mean))
    mapped, levels = torch.from_numpy(mean), codebooks(plain.quantizer)
    if plain.latent_map is not None:
        inverse = plain.latent_map.inverse
        mapped, metrics = plain.latent_map(mapped), inverse.T @ metrics @ inverse
    tokens = mapped.reshape(30, *((1, 8) if name == "residual" else (4, 2)))
    codes = torch.from_numpy(plain.encode(images)).reshape(*tokens.shape[:2], -1)
    config = AwareConfig("metric", 8, 2)
    expected = refine_by_metric(codes, tokens, levels, metrics, n_candidates=8, sweeps=2).flatten(1).numpy()
    found = plain.changed(rectifier=rectifier, aware=config).encode(images)
    assert (found == expected).mean() > 0.99  # rounding of the metric
    assert (plain.changed(aware=config).encode(images) == expected).mean() < 0.95


@pytest.mark.parametrize("name", ["product by metric", "pullback"])
def test_metrics_are_held_a_few_at_a_time(tokenizers, images, name, monkeypatch):
    tokenizer, held = tokenizers[name], []

    def counted(decoder, latents, tokens):
        metrics = pullback_metrics(decoder, latents, tokens)
        held.append(metrics.size)
        return metrics

    codes = tokenizer.encode(images)
    monkeypatch.setattr(latent_module, "pullback_metrics", counted)
    monkeypatch.setattr(latent_module, "METRIC_NUMBERS_A_BATCH", 200)
    assert np.array_equal(tokenizer.encode(images), codes)
    assert len(held) > 1
    assert max(held) <= 200


def test_a_map_of_latent_maps_says_first_what_the_mean_is_taken_for():
    latents = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"per 'whole' of latents \(5, 3, 4, 4\); expected .* 'shared' or"):
        mean_pullback_map(nn.Flatten(), latents, per="whole", tokens=(4, 4))


def test_a_diagnosis_names_the_metric_when_a_decoder_fails():
    latents = np.eye(4, dtype=np.float32)
    with pytest.raises(InputError, match=r"^pull-back metric: decoder "):
        diagnose(lambda latents: latents * torch.nan, latents)
