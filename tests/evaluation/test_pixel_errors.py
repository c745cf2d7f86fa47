"""Errors gathered in one pass give the nats of a direct sum, and the scale that a decoder's noise has."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.data import ImageSet, image_set, to_bytes
from geovq.errors import InputError
from geovq.evaluation.likelihood import PixelLikelihood
from geovq.evaluation.pixel_errors import (
    N_BINS,
    SEARCHED,
    PixelErrors,
    fit_likelihood,
    fit_scale,
    pixel_errors,
)

NOISE = {"logistic": np.random.Generator.logistic, "gaussian": np.random.Generator.normal}

both_families = pytest.mark.parametrize("family", ["logistic", "gaussian"])


def noisy(family: str, scales, n: int = 60, seed: int = 0) -> tuple[ImageSet, np.ndarray]:
    """Images (n, C, 32, 32) that lie around decoded ones as the likelihood says, and the decoded ones."""
    rng = np.random.default_rng(seed)
    decoded = rng.random((n, len(scales), 32, 32))
    drawn = decoded + NOISE[family](rng, 0, np.reshape(scales, (-1, 1, 1)), decoded.shape)
    return image_set(to_bytes(drawn)), decoded.astype(np.float32)


def gathered(family: str, scales, **options: int) -> PixelErrors:
    images, decoded = noisy(family, scales, **options)
    return pixel_errors(images, decoded.__getitem__)


@both_families
@pytest.mark.parametrize("scale", [SEARCHED[0], 0.001, 0.05, SEARCHED[1]])
def test_nats_are_those_of_a_direct_sum_over_more_than_one_chunk(family, scale):
    images, decoded = noisy("logistic", (0.001, 0.02, 0.2), n=400)
    likelihood = PixelLikelihood(family, (scale,))
    direct = likelihood.bits(decoded, images.images(slice(None))).mean() * math.log(2)
    found = pixel_errors(images, decoded.__getitem__).nats(likelihood)
    pixels = decoded[0].size
    assert -1e-9 <= (direct - found) / pixels <= 1 / (8 * N_BINS**2 * scale**2) + 1e-9
    assert 1 / (8 * N_BINS**2 * scale**2) / math.log(2) < 1e-4


@both_families
def test_each_channel_keeps_its_own_errors(family):
    images, decoded = noisy(family, (0.003, 0.02, 0.2))
    likelihood = PixelLikelihood(family, (0.02, 0.003, 0.1))
    direct = likelihood.bits(decoded, images.images(slice(None))).mean() * math.log(2)
    errors = pixel_errors(images, decoded.__getitem__)
    assert errors.nats(likelihood) == pytest.approx(direct, rel=1e-7)
    with pytest.raises(InputError, match="2 values for 3 channels"):
        errors.nats(PixelLikelihood(family, (0.02, 0.003)))


def test_pixels_decoded_to_the_same_value_lose_nothing_to_the_bins():
    images = image_set(np.zeros((3, 1, 8, 8), np.uint8))
    decoded = np.full((3, 1, 8, 8), 1.1e-6, np.float32)
    likelihood = PixelLikelihood("gaussian", (0.01,))
    direct = likelihood.bits(decoded, images.images(slice(None))).mean() * math.log(2)
    errors = pixel_errors(images, decoded.__getitem__)
    assert len(errors.count) == 1
    assert errors.nats(likelihood) == pytest.approx(direct, rel=1e-12)


@both_families
@pytest.mark.parametrize("scale", [0.004, 0.02, 0.15])
def test_the_scale_of_the_noise_is_found_and_its_family(family, scale):
    errors = gathered(family, (scale, scale), n=200)
    assert fit_scale(errors, family) == pytest.approx(scale, rel=0.01)
    assert fit_likelihood(errors) == PixelLikelihood(family, (fit_scale(errors, family),))


@settings(max_examples=20)
@given(
    st.sampled_from(["logistic", "gaussian"]),
    st.sampled_from(["logistic", "gaussian"]),
    st.floats(-7, 1).map(math.exp),
    st.integers(0, 2**31),
)
def test_no_other_scale_has_fewer_nats(family, of_noise, scale, seed):
    errors = gathered(of_noise, (scale,), n=2, seed=seed)
    best = errors.nats(PixelLikelihood(family, (fit_scale(errors, family),)))
    for other in np.geomspace(*SEARCHED, 60):
        assert best <= errors.nats(PixelLikelihood(family, (float(other),))) + 1e-6 * abs(best) + 1e-3


def test_a_likelihood_that_the_decoder_has_is_taken_where_it_is_better():
    errors = gathered("logistic", (0.01, 0.2))
    own, stale = PixelLikelihood("logistic", (0.01, 0.2)), PixelLikelihood("logistic", (0.2, 0.01))
    assert fit_likelihood(errors, own) is own
    assert fit_likelihood(errors, stale) == fit_likelihood(errors)


def test_a_perfect_decoder_costs_nothing():
    images, _ = noisy("gaussian", (0.2,))
    errors = pixel_errors(images, images.images)
    assert abs(errors.nats(fit_likelihood(errors))) / 1024 < 1e-9


@both_families
def test_inverted_black_and_white_costs_one_bit_a_pixel(family):
    pixels = np.random.default_rng(0).integers(0, 2, (20, 1, 16, 16)).astype(np.uint8) * 255
    images = image_set(pixels)
    errors = pixel_errors(images, lambda rows: 1 - images.images(rows))
    likelihood = PixelLikelihood(family, (fit_scale(errors, family),))
    assert 1 <= errors.nats(likelihood) / math.log(2) / 256 < 1.15


def test_no_likelihood_fitted_to_noise_needs_less_than_eight_bits_a_pixel():
    rng = np.random.default_rng(0)
    images = image_set(rng.integers(0, 256, (300, 1, 32, 32)).astype(np.uint8))
    decoded = rng.random((300, 1, 32, 32)).astype(np.float32)
    errors = pixel_errors(images, decoded.__getitem__)
    assert errors.nats(fit_likelihood(errors)) / math.log(2) / 1024 > 8


def test_the_scale_of_a_decoder_with_less_error_is_smaller_and_so_are_its_bits():
    little, much = gathered("gaussian", (0.02,)), gathered("gaussian", (0.1,))
    better, worse = fit_likelihood(little), fit_likelihood(much)
    assert better.scales < worse.scales
    assert little.nats(better) < much.nats(worse)
    assert little.nats(better) < little.nats(worse)


def test_images_of_other_levels_are_refused():
    images = image_set(np.full((2, 1, 4, 4), 0.3, np.float32))
    with pytest.raises(InputError, match="no multiples of 1/255"):
        pixel_errors(images, images.images)
