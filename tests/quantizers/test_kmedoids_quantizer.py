"""Euclidean k-medoids against brute force in every cell, and against FasterPAM of another hand."""

import doctest

import kmedoids
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_contract import MEANS, SIGMAS
from scipy.spatial.distance import cdist

import geovq.quantizers.kmedoids
from geovq.errors import InputError
from geovq.geometry import snap_to_points, swaps
from geovq.quantizers import KMeansQuantizer, KMedoidsQuantizer
from geovq.quantizers.kmedoids import medoid_of


def objective(points, codebook, power):
    return float((cdist(points, codebook).min(1) ** power).mean())


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("polish", [False, True])
def test_codes_are_fitted_points_and_the_objective_is_theirs(power, polish):
    quantizer = KMedoidsQuantizer(16, power=power, polish=polish, random_state=0).fit(MEANS)
    assert quantizer.medoids_.dtype == np.int64
    assert len(set(quantizer.medoids_)) == 16
    np.testing.assert_array_equal(quantizer.codebook_, MEANS[quantizer.medoids_])
    assert (np.diff(quantizer.objectives_) < 0).all()
    assert quantizer.objectives_[-1] == pytest.approx(objective(MEANS, quantizer.codebook_, power), rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_the_start_is_k_means_moved_to_points(power):
    means = KMeansQuantizer(16, random_state=0).fit(MEANS)
    snapped = MEANS[snap_to_points(MEANS, means.codebook_, means.predict(MEANS))]
    quantizer = KMedoidsQuantizer(16, power=power, random_state=0).fit(MEANS)
    assert quantizer.objectives_[0] == pytest.approx(objective(MEANS, snapped, power), rel=1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_every_code_is_the_exact_medoid_of_its_cell(power):
    quantizer = KMedoidsQuantizer(16, power=power, random_state=0).fit(MEANS)
    codes = quantizer.predict(MEANS)
    for code in range(16):
        cell = MEANS[codes == code]
        sums = (cdist(cell, cell) ** power).sum(1)
        np.testing.assert_array_equal(cell[sums.argmin()], quantizer.codebook_[code])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 300), d=st.sampled_from([1, 2, 5]), whole=st.booleans())
def test_bounds_lose_no_medoid(seed, n, d, whole):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 9, size=(n, d)).astype(float) if whole else 1e3 + rng.normal(size=(n, d)) ** 3
    weights = rng.integers(1, 6, size=n).astype(float)
    sums = cdist(points, points) @ weights
    assert sums[medoid_of(points, weights)] == pytest.approx(sums.min(), rel=1e-12)


def test_bounds_save_most_of_the_distances(monkeypatch):
    points = np.random.default_rng(0).uniform(size=(4000, 2))
    asked = []
    monkeypatch.setattr(geovq.quantizers.kmedoids, "cdist", lambda a, b: asked.append(len(a)) or cdist(a, b))
    medoid_of(points, np.ones(4000))
    assert sum(asked) < 400


@pytest.mark.parametrize("power", [1, 2])
def test_polished_no_swap_gains(power):
    points = MEANS[:60]
    quantizer = KMedoidsQuantizer(5, power=power, polish=True, random_state=0).fit(points)
    costs = cdist(points, points) ** power
    now = costs[quantizer.medoids_].min(0).sum()
    for position in range(5):
        kept = np.delete(quantizer.medoids_, position)
        swapped = np.minimum(costs[kept].min(0), costs).sum(1)  # with every point in this place
        assert swapped.min() > now * (1 - 1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_polished_it_is_as_good_as_searches_by_swaps_from_random_points(power):
    costs = cdist(MEANS, MEANS) ** power
    seeds = range(6)
    reference = np.mean([kmedoids.fasterpam(costs, 24, random_state=s, n_cpu=1).loss for s in seeds])
    polished, plain = (
        np.mean(
            [
                KMedoidsQuantizer(24, power=power, polish=polish, random_state=s).fit(MEANS).objectives_[-1]
                for s in seeds
            ]
        )
        for polish in (True, False)
    )
    assert polished * len(MEANS) < 1.01 * reference
    assert polished < 0.99 * plain


def test_many_points_are_polished_with_a_sample_of_them(monkeypatch):
    points = np.random.default_rng(0).normal(size=(1500, 2)).astype(np.float32) ** 3
    plain, whole = (
        KMedoidsQuantizer(6, power=1, polish=polish, random_state=0).fit(points).objectives_
        for polish in (False, True)
    )
    monkeypatch.setattr(swaps, "ALL_POINTS", 1000)
    sampled = KMedoidsQuantizer(6, power=1, polish=True, random_state=0).fit(points).objectives_
    assert whole[-1] < sampled[-1] < plain[-1]


def test_copies_of_points_weigh():
    points = np.random.default_rng(0).normal(size=(60, 2))
    copied = np.concatenate([points, np.repeat(points[:1], 400, axis=0)])
    for power in (1, 2):
        quantizer = KMedoidsQuantizer(4, power=power, random_state=0).fit(copied)
        assert 0 in quantizer.medoids_
        assert quantizer.objectives_[-1] == pytest.approx(objective(copied, quantizer.codebook_, power))


@pytest.mark.parametrize("power", [1, 2])
def test_points_closer_than_rounding_keep_codes_of_their_own(power):
    rng = np.random.default_rng(0)
    points = 1e3 + np.concatenate([rng.normal(size=(20, 2)), 1e-9 * rng.normal(size=(20, 2))])
    quantizer = KMedoidsQuantizer(38, power=power, random_state=0).fit(points)
    assert len(set(quantizer.medoids_)) == 38


def test_codes_that_are_left_over_are_never_used():
    points = np.repeat(MEANS[:3], 5, axis=0)
    with pytest.warns(UserWarning, match="only 3 points are distinct; 5 codes will never be used"):
        quantizer = KMedoidsQuantizer(8, polish=True, random_state=0).fit(points)
    assert set(quantizer.predict(np.random.default_rng(0).normal(size=(100, 4)))) <= {0, 1, 2}
    np.testing.assert_array_equal(quantizer.codebook_, points[quantizer.medoids_])


def test_sigma_changes_nothing():
    plain = KMedoidsQuantizer(16, random_state=0).fit(MEANS)
    given = KMedoidsQuantizer(16, random_state=0).fit(MEANS, sigma=SIGMAS)
    np.testing.assert_array_equal(plain.codebook_, given.codebook_)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"power": 3}, "power is 3"),
        ({"polish": "yes"}, "polish is 'yes'"),
        ({"n_iterations": 0}, "n_iterations is 0"),
    ],
)
def test_impossible_parameters_are_refused(params, message):
    with pytest.raises(InputError, match=message):
        KMedoidsQuantizer(**params).fit(MEANS)


def test_example_of_the_docstring():
    result = doctest.testmod(geovq.quantizers.kmedoids)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("exponent", [-80, 66])
@pytest.mark.parametrize("power", [1, 2])
def test_float32_codes_are_the_same_in_any_unit(exponent, power):
    points = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    scaled = points * np.float32(2.0**exponent)
    settings_ = {"n_codes": 12, "power": power, "polish": True, "random_state": 0}
    plain, other = KMedoidsQuantizer(**settings_).fit(points), KMedoidsQuantizer(**settings_).fit(scaled)
    np.testing.assert_array_equal(other.medoids_, plain.medoids_)
    np.testing.assert_array_equal(other.predict(scaled), plain.predict(points))
