"""Probabilities of 8-bit images: sums over levels, SciPy's distributions, tails, the bound of a posterior."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import logistic, norm

from geovq.config import DataConfig, from_json, to_json
from geovq.data import image_set, load
from geovq.errors import InputError
from geovq.evaluation.likelihood import (
    SCALES,
    Family,
    PixelLikelihood,
    bits_per_dim,
    is_eight_bit,
    posterior_sample,
)
from geovq.models.likelihood import gaussian_kl_nats

LEVELS = (np.arange(256) / 255).astype(np.float32)
OF_SCIPY = {"logistic": logistic, "gaussian": norm}

families = st.sampled_from(["logistic", "gaussian"])
means = st.floats(0, 1, width=32)
scales = st.floats(math.log(SCALES[0]), math.log(SCALES[1])).map(
    lambda log_scale: min(max(math.exp(log_scale), SCALES[0]), SCALES[1])
)
both_families = pytest.mark.parametrize("family", ["logistic", "gaussian"])


def bits_of_levels(family: Family, scale: float, mean: float) -> np.ndarray:
    """Bits of each of the 256 levels around one mean."""
    images = LEVELS[:, None, None, None]
    return PixelLikelihood(family, (scale,)).bits(np.full_like(images, mean), images)


def bits_by_scipy(family: str, scale: float, mean: float) -> np.ndarray:
    """The same, from whichever tail is the nearer one, by differences of logarithms."""
    law, exact = OF_SCIPY[family], np.arange(256) / 255
    low = np.where(exact == 0, -np.inf, (exact - 1 / 510 - mean) / scale)
    high = np.where(exact == 1, np.inf, (exact + 1 / 510 - mean) / scale)
    mirrored = low + high < 0
    near, far = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    return -(law.logsf(near) + np.log1p(-np.exp(law.logsf(far) - law.logsf(near)))) / math.log(2)


@given(families, scales, means)
def test_the_probabilities_of_all_levels_sum_to_one(family, scale, mean):
    bits = bits_of_levels(family, scale, mean)
    assert np.isfinite(bits).all()
    assert (bits >= -1e-9).all()
    assert np.exp2(-bits).sum() == pytest.approx(1, abs=1e-9)


@both_families
@pytest.mark.parametrize("scale", [0.002, 0.03, 0.4])
@pytest.mark.parametrize("mean", [0.0, 0.25, 0.503, 1.0])
def test_every_level_has_the_probability_that_scipy_gives(family, scale, mean):
    # SciPy's own tail ends where a difference of logarithms is rounded away, well past 1,000 bits.
    expected = bits_by_scipy(family, scale, float(np.float32(mean)))
    np.testing.assert_allclose(bits_of_levels(family, scale, mean), expected, rtol=1e-9, atol=1e-9)


def test_a_wrong_pixel_far_in_the_tail_costs_what_the_tail_says():
    distance, scale = 1 - 1 / 510, 1e-4
    of_logistic = bits_of_levels("logistic", scale, 0.0)[255] * math.log(2)
    assert of_logistic == pytest.approx(distance / scale, rel=1e-9)
    of_gaussian = bits_of_levels("gaussian", scale, 0.0)[255] * math.log(2)
    z = distance / scale  # the first term of Mills' ratio, the next is of order z ** -2
    assert of_gaussian == pytest.approx(z**2 / 2 + math.log(z * math.sqrt(2 * math.pi)), rel=1e-9)


@given(families, scales, means)
def test_a_mirrored_image_costs_the_same(family, scale, mean):
    mean = round(mean * 512) / 512  # so that 1 - mean is exact
    there, back = bits_of_levels(family, scale, mean), bits_of_levels(family, scale, 1 - mean)
    np.testing.assert_allclose(back[::-1], there, rtol=1e-6, atol=1e-9)


def test_a_channel_is_measured_by_its_own_scale():
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (4, 3, 5, 5)) / 255).astype(np.float32)
    decoded = rng.random(images.shape).astype(np.float32)
    own = (0.02, 0.3, 0.1)
    expected = sum(
        PixelLikelihood("logistic", (scale,)).bits(decoded[:, [c]], images[:, [c]])
        for c, scale in enumerate(own)
    )
    np.testing.assert_allclose(PixelLikelihood("logistic", own).bits(decoded, images), expected)
    with pytest.raises(InputError, match="scales has 2 values for 3 channels"):
        PixelLikelihood("logistic", own[:2]).bits(decoded, images)


@both_families
def test_a_decoded_value_outside_the_range_counts_as_the_nearest_inside(family):
    images = LEVELS.reshape(1, 1, 16, 16)
    decoded = np.linspace(-0.5, 1.5, 256, dtype=np.float32).reshape(images.shape)
    likelihood = PixelLikelihood(family, (0.05,))
    np.testing.assert_array_equal(
        likelihood.bits(decoded, images), likelihood.bits(decoded.clip(0, 1), images)
    )


def test_what_cannot_be_measured_is_refused():
    likelihood = PixelLikelihood("gaussian", (0.1,))
    images = LEVELS.reshape(4, 1, 8, 8)
    with pytest.raises(InputError, match=r"shape \(4, 1, 8, 7\); expected \(4, 1, 8, 8\)"):
        likelihood.bits(images[..., :7], images)
    with pytest.raises(InputError, match="no multiples of 1/255"):
        likelihood.bits(images, images * np.float32(0.999))
    with pytest.raises(InputError, match="decoded images hold NaN"):
        likelihood.bits(np.full_like(images, np.nan), images)


@pytest.mark.parametrize("wrong", [(), (0.0,), (-1.0,), (math.nan,), (0.1, math.inf)])
def test_scales_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match="expected one for all channels or one a channel"):
        PixelLikelihood("logistic", wrong)


def test_an_unknown_family_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="unknown family 'gausian'; did you mean 'gaussian'"):
        PixelLikelihood("gausian", (0.1,))


def test_a_likelihood_survives_json():
    likelihood = PixelLikelihood("logistic", (0.0123, 0.5, 0.25))
    assert from_json(PixelLikelihood, to_json(likelihood)) == likelihood


def test_eight_bit_images_are_known_from_others():
    levels = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    assert is_eight_bit(image_set(levels))
    assert is_eight_bit(image_set((levels / 255).astype(np.float32)))
    assert not is_eight_bit(image_set((levels / 256).astype(np.float32)))
    assert not is_eight_bit(load(DataConfig("digits")).validation)


def test_posterior_samples_are_keyed_by_seed_and_split():
    mean = np.zeros((2000, 3), np.float32)
    sigma = np.broadcast_to(np.array([0, 1, 5], np.float32), mean.shape)
    first = posterior_sample(mean, sigma, 0, "test")
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, posterior_sample(mean, sigma, 0, "test"))
    assert not np.array_equal(first, posterior_sample(mean, sigma, 0, "validation"))
    assert not np.array_equal(first, posterior_sample(mean, sigma, 1, "test"))
    np.testing.assert_allclose(first.std(0), [0, 1, 5], rtol=0.1)


@pytest.mark.parametrize("level", [3, 90, 255])
@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 1.0), (0.5, 0.3), (-0.4, 0.7)])
def test_divergence_and_bits_given_a_posterior_sample_bound_the_bits_of_an_image(level, mean, sigma):
    likelihood = PixelLikelihood("gaussian", (0.05,))

    def nats_given(latents: np.ndarray) -> np.ndarray:
        decoded = (1 / (1 + np.exp(-2 * latents))).astype(np.float32)[:, :, None, None]
        return likelihood.bits(decoded, np.full_like(decoded, LEVELS[level])) * math.log(2)

    grid = np.linspace(-9, 9, 20_001)
    joint = norm.pdf(grid) * np.exp(-nats_given(grid[:, None]))
    evidence = -math.log(joint.sum() * (grid[1] - grid[0]))
    means, sigmas = (np.full((5000, 1), value, np.float32) for value in (mean, sigma))
    divergence = float(gaussian_kl_nats(torch.from_numpy(means), torch.from_numpy(sigmas)))
    sampled = nats_given(posterior_sample(means, sigmas, 0, "test"))
    standard_error = sampled.std() / math.sqrt(len(sampled))
    assert divergence + sampled.mean() >= evidence - 4 * standard_error


def test_the_posterior_mean_in_place_of_a_sample_is_no_bound():
    # The prior as posterior has no divergence, and its mean decodes to 128: every such pixel would cost
    # nothing but the decoder's part, less than the evidence allows.
    likelihood = PixelLikelihood("gaussian", (0.05,))
    grid = np.linspace(-9, 9, 20_001)
    decoded = (1 / (1 + np.exp(-2 * grid))).astype(np.float32)[:, None, None, None]
    bits = likelihood.bits(decoded, np.full_like(decoded, LEVELS[128]))
    evidence = -math.log2((norm.pdf(grid) * np.exp2(-bits)).sum() * (grid[1] - grid[0]))
    assert bits[10_000] < evidence - 1


def test_bits_per_dim_are_those_of_codes_and_decoder_together():
    values = bits_per_dim(5760.0, 3072 * 2 * math.log(2), (3, 32, 32))
    assert values == {"bits_per_dim": pytest.approx(3.875), "bits_per_dim_decoder": pytest.approx(2)}
