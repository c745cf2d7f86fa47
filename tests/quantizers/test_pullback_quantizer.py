"""Codes in the pull-back metric against their definition and against metrics that are known otherwise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_contract import MEANS, METRICS, SIGMAS, TEST, TRAIN

from geovq.errors import InputError
from geovq.quantizers import GaussianQuantizer, KMeansQuantizer
from geovq.quantizers.lloyd import WeightedSquares, lloyd
from geovq.quantizers.pullback import PullbackQuantizer, QuadraticForms


def table(points, metric, codebook):
    """Quadratic forms (n, K), from the definition."""
    errors = points[:, None] - codebook
    return np.einsum("nki,nij,nkj->nk", errors, metric, errors)


def random_metrics(rng, n, d):
    factors = rng.normal(size=(n, d, d)) * np.exp(rng.normal(size=(n, 1, d)))
    return factors @ factors.transpose(0, 2, 1) + 0.01 * np.eye(d)


def test_without_metric_or_with_the_identity_it_is_kmeans():
    kmeans = KMeansQuantizer(16, n_iterations=100, random_state=0).fit_predict(MEANS)
    without = PullbackQuantizer(16, n_iterations=100, random_state=0)
    np.testing.assert_array_equal(without.fit_predict(MEANS), kmeans)
    identity = np.broadcast_to(np.eye(4), (len(MEANS), 4, 4))
    with_identity = PullbackQuantizer(16, n_iterations=100, random_state=0)
    np.testing.assert_array_equal(with_identity.fit_predict(MEANS, metric=identity), kmeans)
    np.testing.assert_allclose(with_identity.codebook_, without.codebook_, atol=1e-12)
    np.testing.assert_allclose(with_identity.objectives_, without.objectives_, rtol=1e-12)


def test_one_linear_decoder_for_all_points_is_kmeans_of_decoded_points():
    decoder = np.random.default_rng(1).normal(size=(7, 4))
    metric = np.broadcast_to(decoder.T @ decoder, (len(MEANS), 4, 4))
    start = MEANS[:16]
    latent, objectives = lloyd(QuadraticForms(MEANS, metric), start, 100)
    decoded_points = MEANS @ decoder.T
    ones = np.ones_like(decoded_points)
    decoded, expected = lloyd(WeightedSquares(decoded_points, ones), start @ decoder.T, 100)
    np.testing.assert_allclose(objectives, expected, rtol=1e-9)
    np.testing.assert_allclose(latent @ decoder.T, decoded, atol=1e-8)


def test_diagonal_metrics_are_the_precision_metric():
    metric = SIGMAS[:, :, None] ** -2 * np.eye(4)
    pullback = PullbackQuantizer(16, random_state=0)
    precision = GaussianQuantizer(16, metric="precision", random_state=0)
    np.testing.assert_array_equal(
        pullback.fit_predict(MEANS, metric=metric), precision.fit_predict(MEANS, sigma=SIGMAS)
    )
    np.testing.assert_allclose(pullback.codebook_, precision.codebook_, atol=1e-9)
    np.testing.assert_allclose(pullback.objectives_, precision.objectives_, rtol=1e-9)


def test_points_go_to_the_nearest_code_in_their_own_metric():
    quantizer = PullbackQuantizer(16, random_state=0).fit(MEANS[TRAIN], metric=METRICS[TRAIN])
    expected = table(MEANS[TEST], METRICS[TEST], quantizer.codebook_).argmin(1)
    np.testing.assert_array_equal(quantizer.predict(MEANS[TEST], metric=METRICS[TEST]), expected)


def test_it_beats_kmeans_at_its_own_objective():
    def objective(codebook):
        return table(MEANS, METRICS, codebook).min(1).mean()

    euclidean = KMeansQuantizer(16, random_state=0).fit(MEANS)
    pullback = PullbackQuantizer(16, random_state=0).fit(MEANS, metric=METRICS)
    assert pullback.objectives_[0] == pytest.approx(objective(euclidean.codebook_))
    assert pullback.objectives_[-1] == pytest.approx(objective(pullback.codebook_))
    assert objective(pullback.codebook_) < 0.9 * objective(euclidean.codebook_)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 60), d=st.integers(1, 5), data=st.data())
def test_the_objective_never_rises_and_ends_at_centroids(seed, n, d, data):
    rng = np.random.default_rng(seed)
    points, metric = rng.normal(size=(n, d)), random_metrics(rng, n, d)
    start = points[: data.draw(st.integers(1, n))]
    codebook, objectives = lloyd(QuadraticForms(points, metric), start, n_iterations=200)
    assert (np.diff(objectives) <= 1e-10 * objectives[0] + 1e-20).all()
    codes = table(points, metric, codebook).argmin(1)
    for code in np.unique(codes):
        cell = codes == code
        pull = np.einsum("nij,nj->i", metric[cell], points[cell])
        centroid = np.linalg.solve(metric[cell].sum(0), pull)
        np.testing.assert_allclose(codebook[code], centroid, rtol=1e-6, atol=1e-8)


def test_codes_that_lose_their_points_move_to_the_worst_served():
    points = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [0.0, 9.0]])
    metric = np.array([np.diag([1.0, 1.0])] * 3 + [np.diag([1.0, 100.0])])
    start = np.array([[0.0, 0.0], [50.0, 50.0], [50.0, 50.0]])
    codebook, objectives = lloyd(QuadraticForms(points, metric), start, 1)
    np.testing.assert_array_equal(codebook[1:], points[[3, 2]])
    assert objectives[1] < objectives[0] / 100


def test_directions_that_no_metric_sees_keep_their_start():
    flat = np.array([1.0, 0.0, 2.0, 0.0])
    metric = np.broadcast_to(np.outer(flat, flat), (len(MEANS), 4, 4))
    start = MEANS[:8]
    codebook, objectives = lloyd(QuadraticForms(MEANS, metric), start, 50)
    assert (np.diff(objectives) <= 1e-12).all()
    np.testing.assert_allclose(codebook[:, [1, 3]], start[:, [1, 3]], atol=1e-9)
    across = np.array([2.0, 0.0, -1.0, 0.0])
    np.testing.assert_allclose(codebook @ across, start @ across, atol=1e-9)


def test_metrics_of_float32_and_points_far_from_the_origin():
    far = (MEANS + 4096).astype(np.float32)
    metric = METRICS.astype(np.float32)
    codes = PullbackQuantizer(16, random_state=0).fit_predict(MEANS, metric=METRICS)
    quantizer = PullbackQuantizer(16, random_state=0)
    assert np.mean(quantizer.fit_predict(far, metric=metric) == codes) > 0.95
    assert quantizer.codebook_.dtype == np.float32


def test_the_metric_that_is_wrong_is_named_in_any_chunk(monkeypatch):
    monkeypatch.setattr("geovq.quantizers.validation.NUMBERS_A_CHUNK", 7 * 16)
    skew, negative = METRICS.copy(), METRICS.copy()
    skew[250, 0, 1] += 1
    negative[251] -= 1e3 * np.eye(4)
    with pytest.raises(InputError, match="metric is not symmetric in row 250; expected M = M'"):
        PullbackQuantizer().fit(MEANS, metric=skew)
    with pytest.raises(InputError, match=r"metric has the eigenvalue -.* in row 251; expected positive"):
        PullbackQuantizer().fit(MEANS, metric=negative)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-35, 1e-10, 1e10, 1e35])
def test_metrics_of_rank_one_and_any_size_are_metrics(size, dtype):
    # What J'J of float32 rounds to where all but one direction is flat: some eigenvalues are below 0.
    rows = np.random.default_rng(0).normal(size=(len(MEANS), 4)).astype(np.float32)
    metric = rows[:, :, None] * rows[:, None] * np.float32(size)
    quantizer = PullbackQuantizer(16, random_state=0)
    codes = quantizer.fit_predict(MEANS.astype(dtype), metric=metric)
    assert (np.diff(quantizer.objectives_) <= 0).all()
    costs = table(MEANS.astype(dtype).astype(float), metric.astype(float) / size, quantizer.codebook_)
    chosen = costs[np.arange(len(codes)), codes]
    np.testing.assert_allclose(chosen, costs.min(1), rtol=1e-4, atol=1e-5)
