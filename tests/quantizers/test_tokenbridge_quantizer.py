"""TokenBridge's levels against their definition and their known errors on N(0, 1)."""

from itertools import pairwise

import numpy as np
import pytest
from quantizer_contract import MEANS, TEST, TRAIN
from scipy.special import ndtri
from scipy.stats import truncnorm

from geovq.errors import InputError
from geovq.quantizers.tokenbridge import TokenBridgeQuantizer, fixed_levels
from geovq.search.lloyd_max import SortedValues

GAUSSIAN = ndtri((np.arange(100_000) + 0.5) / 100_000)[:, None]


@pytest.mark.parametrize(
    ("n_codes", "error", "of_lloyd_max"),
    [(2, 0.633, 1.74), (4, 0.158, 1.34), (16, 0.0103, 1.08), (64, 0.00066, 1.02)],
)
def test_errors_on_the_gaussian_are_the_known_ones(n_codes, error, of_lloyd_max):
    found = -TokenBridgeQuantizer(n_codes).fit(GAUSSIAN).score(GAUSSIAN)
    assert found == pytest.approx(error, rel=0.01)
    best = SortedValues(GAUSSIAN[:, 0]).lloyd_max(n_codes, 200)[1] ** 2
    assert found / best == pytest.approx(of_lloyd_max, abs=0.02)


@pytest.mark.parametrize("n_levels", [1, 2, 3, 5, 16, 100])
def test_levels_are_stretched_means_of_equal_parts_of_the_gaussian(n_levels):
    edges = np.clip(ndtri(np.arange(n_levels + 1) / n_levels), -3, 3)
    means = [truncnorm(low, high).mean() for low, high in pairwise(edges)]
    np.testing.assert_allclose(fixed_levels(n_levels), 5 / 3 * np.array(means), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("n_levels", [1, 2, 7, 64, 740])
def test_levels_ascend_and_are_symmetric(n_levels):
    levels = fixed_levels(n_levels)
    assert (np.diff(levels) > 0).all()
    np.testing.assert_allclose(levels, -levels[::-1], atol=1e-9)


def test_one_code_is_zero():
    assert (TokenBridgeQuantizer(1).fit_transform(MEANS) == 0).all()


def test_only_the_width_of_the_data_matters():
    one, other = TokenBridgeQuantizer(16).fit(MEANS[TRAIN]), TokenBridgeQuantizer(16).fit(7 + 3 * MEANS[TEST])
    np.testing.assert_array_equal(one.codebook_, other.codebook_)


def test_every_coordinate_takes_its_nearest_level():
    quantizer = TokenBridgeQuantizer(16).fit(MEANS[TRAIN])
    assert quantizer.codebook_.shape == (4, 16, 4)
    assert quantizer.planned_sizes(4) == (16,) * 4
    levels = fixed_levels(16)
    nearest = np.abs(MEANS[TEST, :, None] - levels).argmin(2)
    np.testing.assert_array_equal(quantizer.predict(MEANS[TEST]), nearest)
    np.testing.assert_array_equal(quantizer.transform(MEANS[TEST]), levels[nearest])


def test_more_levels_than_fit_into_three_deviations_are_refused():
    with pytest.raises(InputError, match="n_codes is 741; expected at most 740"):
        TokenBridgeQuantizer(741).fit(GAUSSIAN)
