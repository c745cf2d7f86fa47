"""Levels of one coordinate: against published constants, exhaustive search and brute force."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from sklearn.datasets import load_digits

from geovq.search.lloyd_max import SortedValues, nearest_levels

GAUSSIAN = ndtri((np.arange(100_000) + 0.5) / 100_000)  # without the noise of a sample


def lloyd_max(values, n_levels, n_iterations=200):
    return SortedValues(np.asarray(values)).lloyd_max(n_levels, n_iterations)


def mean_squared_error(values, levels):
    return np.square(values[:, None] - levels).min(1).mean()


@pytest.mark.parametrize(
    ("positive_levels", "distortion"),
    [
        ([0.7979], 0.3634),
        ([0.4528, 1.510], 0.1175),
        ([0.2451, 0.7560, 1.344, 2.152], 0.03454),
        ([0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733], 0.009497),
    ],
)
def test_levels_of_the_gaussian_are_those_of_max(positive_levels, distortion):
    levels, error = lloyd_max(GAUSSIAN, 2 * len(positive_levels))
    np.testing.assert_allclose(
        levels, np.concatenate([-np.flip(positive_levels), positive_levels]), rtol=3e-3
    )
    assert error**2 == pytest.approx(distortion, rel=1e-3)


def test_many_levels_reach_the_law_of_high_rates():
    panter_dite = np.sqrt(3) * np.pi / 2  # of the Gaussian, times 1 / K^2
    _, error = lloyd_max(GAUSSIAN, 200)
    assert 0.95 * panter_dite < (200 * error) ** 2 < panter_dite


@settings(max_examples=80, deadline=None)
@given(values=st.lists(st.integers(-9, 9), min_size=1, max_size=12), n_levels=st.integers(1, 5))
def test_few_values_get_the_best_levels_there_are(values, n_levels):
    values = np.sort(np.array(values, dtype=float))
    distinct = len(np.unique(values))
    _, error = lloyd_max(values, n_levels)
    divisions = itertools.combinations(range(1, len(values)), min(n_levels, distinct) - 1)
    best = min(
        sum(np.square(cell - cell.mean()).sum() for cell in np.split(values, division))
        for division in divisions
    )
    assert error**2 == pytest.approx(best / len(values), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n_levels=st.integers(1, 80), power=st.sampled_from([0.5, 1, 3]))
def test_levels_are_the_means_of_their_cells(seed, n_levels, power):
    draws = np.random.default_rng(seed).normal(size=500)
    values = np.sign(draws) * np.abs(draws) ** power
    levels, error = lloyd_max(values, n_levels, n_iterations=2000)
    assert (np.diff(levels) > 0).all()
    codes = np.abs(values[:, None] - levels).argmin(1)
    means = [values[codes == code].mean() for code in range(n_levels)]
    np.testing.assert_allclose(means, levels, rtol=1e-9, atol=1e-9)
    assert error**2 == pytest.approx(mean_squared_error(values, levels), rel=1e-6)


@pytest.mark.parametrize("n_levels", [48, 150])
def test_iterations_lower_the_error(n_levels):
    values = np.random.default_rng(0).exponential(size=5000)
    errors = [lloyd_max(values, n_levels, n_iterations)[1] for n_iterations in (1, 5, 50)]
    assert errors[0] > errors[1] > errors[2]


def test_distant_clusters_get_a_level_each():
    rng = np.random.default_rng(1)
    centers, sizes = [-40.0, -39.0, 0.0, 7.0, 90.0], [9, 900, 90, 5000, 30]
    values = np.concatenate([rng.normal(c, 0.05, size) for c, size in zip(centers, sizes, strict=True)])
    np.testing.assert_allclose(lloyd_max(values, 5)[0], centers, atol=0.1)


def test_no_level_is_wasted_in_a_gap():
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(size=300), 1e4 + rng.normal(size=300)])
    levels, _ = lloyd_max(values, 64)
    codes = np.abs(values[:, None] - levels).argmin(1)
    assert len(np.unique(codes)) == 64


def test_as_many_levels_as_values_are_exact_and_more_are_copies():
    values = np.array([3.0, 1.0, 3.0, 0.1])
    for n_levels, expected in ((3, [0.1, 1.0, 3.0]), (5, [0.1, 1.0, 3.0, 3.0, 3.0])):
        levels, error = lloyd_max(values, n_levels)
        assert levels.tolist() == expected
        assert error == 0


@pytest.mark.parametrize("n_levels", [8, 48])
def test_units_and_origin_do_not_matter(n_levels):
    values = load_digits().data.sum(1) + np.random.default_rng(0).random(1797)
    expected, expected_error = lloyd_max(values, n_levels)
    for scale, shift in ((1e-150, 0.0), (1e150, 0.0), (1.0, 1e6)):
        levels, error = lloyd_max(values * scale + shift, n_levels)
        np.testing.assert_allclose((levels - shift) / scale, expected, rtol=1e-7)
        assert error / scale == pytest.approx(expected_error, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    levels=st.lists(st.integers(-20, 20), min_size=1, max_size=12),
    values=st.lists(st.integers(-50, 50), max_size=30),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_nearest_levels_are_those_of_brute_force_lowest_first(levels, values, dtype):
    levels = torch.tensor(sorted(levels), dtype=dtype)
    values = torch.tensor(values, dtype=dtype) / 2  # halves meet the middles
    expected = [int((value - levels).abs().argmin()) for value in values]
    assert nearest_levels(values, levels).tolist() == expected


def test_nearest_levels_keep_the_shape():
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([-1.0, 0.0, 2.0])
    codes = nearest_levels(values.T, levels)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, (values.T[..., None] - levels).abs().argmin(-1))
