"""Codes for diagonal Gaussians against their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_contract import MEANS, SIGMAS, TEST, TRAIN
from sklearn.cluster import KMeans
from torch.distributions import Normal, kl_divergence

from geovq.errors import InputError
from geovq.quantizers import GaussianQuantizer, KMeansQuantizer
from geovq.quantizers.gaussian_kl import InformationProjection, MomentProjection, gaussian_kl
from geovq.quantizers.lloyd import WeightedSquares, lloyd


def precision_table(means, sigmas, codebook):
    return (np.square(means[:, None] - codebook) / np.square(sigmas[:, None])).sum(2)


def test_wasserstein_is_kmeans_on_mean_and_sigma():
    both = np.concatenate([MEANS, SIGMAS], axis=1)
    kmeans = KMeansQuantizer(16, random_state=3).fit(both[TRAIN])
    gaussian = GaussianQuantizer(16, metric="wasserstein", random_state=3)
    gaussian.fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
    np.testing.assert_array_equal(gaussian.codebook_, kmeans.codebook_[:, :4])
    np.testing.assert_array_equal(gaussian.codebook_sigma_, kmeans.codebook_[:, 4:])
    codes = gaussian.predict(MEANS[TEST], sigma=SIGMAS[TEST])
    np.testing.assert_array_equal(codes, kmeans.predict(both[TEST]))


def test_wasserstein_has_converged_by_the_measure_of_scikit_learn():
    both = np.concatenate([MEANS, SIGMAS], axis=1)
    gaussian = GaussianQuantizer(16, metric="wasserstein", random_state=0).fit(MEANS, sigma=SIGMAS)
    codes = gaussian.predict(MEANS, sigma=SIGMAS)
    codebook = np.concatenate([gaussian.codebook_, gaussian.codebook_sigma_], axis=1)
    oracle = KMeans(16, init=codebook, n_init=1, random_state=0).fit(both)
    assert np.square(both - codebook[codes]).sum() == pytest.approx(oracle.inertia_, rel=0.01)


@pytest.mark.parametrize("metric", ["wasserstein", "precision", "i-projection"])
@pytest.mark.parametrize("sigma", [None, 0.3])
def test_equal_sigmas_are_euclidean(metric, sigma):
    given = {} if sigma is None else {"sigma": np.full_like(MEANS, sigma)}
    codes = GaussianQuantizer(16, metric=metric, random_state=0).fit_predict(MEANS, **given)
    euclidean = KMeansQuantizer(16, n_iterations=50, random_state=0).fit_predict(MEANS)
    agreement = np.mean(codes == euclidean)  # k-means has stopped, or moves a few points more
    assert agreement > 0.95


def test_precision_assigns_by_its_definition():
    quantizer = GaussianQuantizer(16, metric="precision", random_state=0)
    quantizer.fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
    expected = precision_table(MEANS[TEST], SIGMAS[TEST], quantizer.codebook_).argmin(1)
    np.testing.assert_array_equal(quantizer.predict(MEANS[TEST], sigma=SIGMAS[TEST]), expected)


def test_precision_beats_kmeans_at_its_own_objective():
    def objective(codebook):
        return precision_table(MEANS, SIGMAS, codebook).min(1).mean()

    euclidean = KMeansQuantizer(16, random_state=0).fit(MEANS)
    precise = GaussianQuantizer(16, metric="precision", random_state=0).fit(MEANS, sigma=SIGMAS)
    assert precise.objectives_[0] == pytest.approx(objective(euclidean.codebook_))
    assert precise.objectives_[-1] == pytest.approx(objective(precise.codebook_))
    assert objective(precise.codebook_) < 0.97 * objective(euclidean.codebook_)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 80), d=st.integers(1, 5), data=st.data())
def test_precision_objective_never_rises_and_ends_at_centroids(seed, n, d, data):
    rng = np.random.default_rng(seed)
    means, sigmas = rng.normal(size=(n, d)), np.exp(rng.normal(size=(n, d)))
    start = means[: data.draw(st.integers(1, n))]
    codebook, objectives = lloyd(WeightedSquares(means, sigmas**-2.0), start, n_iterations=200)
    assert (np.diff(objectives) <= 1e-10 * objectives[0] + 1e-20).all()
    codes = precision_table(means, sigmas, codebook).argmin(1)
    weights = sigmas**-2.0
    for code in np.unique(codes):
        cell = codes == code
        centroid = (means[cell] * weights[cell]).sum(0) / weights[cell].sum(0)
        np.testing.assert_allclose(codebook[code], centroid, rtol=1e-7, atol=1e-9)


def kl_table(means, sigmas, codebook, code_first):
    """Divergences (n, K) in nats, from torch's densities."""
    n_columns = means.shape[1]
    points = Normal(torch.from_numpy(means)[:, None], torch.from_numpy(sigmas)[:, None])
    codes = Normal(*torch.from_numpy(codebook).split(n_columns, dim=1))
    divergence = kl_divergence(codes, points) if code_first else kl_divergence(points, codes)
    return divergence.sum(2).numpy()


PROJECTIONS = pytest.mark.parametrize(
    ("metric", "projection", "code_first"),
    [("m-projection", MomentProjection, False), ("i-projection", InformationProjection, True)],
)


def test_divergence_is_that_of_torch():
    rng = np.random.default_rng(0)
    means, of_means = rng.normal(size=(2, 50, 3))
    sigmas, of_sigmas = np.exp(rng.normal(size=(2, 50, 3)))
    oracle = kl_divergence(
        *(Normal(*map(torch.from_numpy, pair)) for pair in ((means, sigmas), (of_means, of_sigmas)))
    )
    np.testing.assert_allclose(gaussian_kl(means, sigmas, of_means, of_sigmas), oracle.sum(1), rtol=1e-12)
    np.testing.assert_array_equal(gaussian_kl(means, sigmas, means, sigmas), 0)


@PROJECTIONS
def test_projections_assign_by_their_definition(metric, projection, code_first):
    quantizer = GaussianQuantizer(16, metric=metric, random_state=0)
    quantizer.fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
    codebook = np.concatenate([quantizer.codebook_, quantizer.codebook_sigma_], axis=1)
    expected = kl_table(MEANS[TEST], SIGMAS[TEST], codebook, code_first).argmin(1)
    np.testing.assert_array_equal(quantizer.predict(MEANS[TEST], sigma=SIGMAS[TEST]), expected)
    at_the_end = kl_table(MEANS[TRAIN], SIGMAS[TRAIN], codebook, code_first).min(1).mean()
    assert quantizer.objectives_[-1] == pytest.approx(at_the_end, rel=1e-9)


@PROJECTIONS
def test_projections_beat_wasserstein_at_their_own_objective(metric, projection, code_first):
    def objective(quantizer):
        codebook = np.concatenate([quantizer.codebook_, quantizer.codebook_sigma_], axis=1)
        return kl_table(MEANS, SIGMAS, codebook, code_first).min(1).mean()

    wasserstein = GaussianQuantizer(16, random_state=0).fit(MEANS, sigma=SIGMAS)
    projected = GaussianQuantizer(16, metric=metric, random_state=0).fit(MEANS, sigma=SIGMAS)
    assert projected.objectives_[0] == pytest.approx(objective(wasserstein))
    assert objective(projected) < 0.95 * objective(wasserstein)


@PROJECTIONS
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 60), d=st.integers(1, 5), data=st.data())
def test_projections_never_raise_their_objective_and_end_at_centroids(
    metric, projection, code_first, seed, n, d, data
):
    rng = np.random.default_rng(seed)
    means, sigmas = rng.normal(size=(n, d)), np.exp(rng.normal(size=(n, d)))
    points = np.concatenate([means, sigmas], axis=1)
    start = points[: data.draw(st.integers(1, n))]
    codebook, objectives = lloyd(projection(means, sigmas), start, n_iterations=200)
    assert (np.diff(objectives) <= 1e-10 * (1 + objectives[0])).all()
    best = kl_table(means, sigmas, codebook, code_first)
    codes = best.argmin(1)
    for code in np.unique(codes):
        # No small step away from a code lowers the divergence summed over its cell.
        cell = codes == code
        for step in 1e-3 * np.concatenate([np.eye(2 * d), -np.eye(2 * d)]) * np.tile(codebook[code, d:], 2):
            moved = codebook[[code]] + step
            around = kl_table(means[cell], sigmas[cell], moved, code_first).sum()
            assert around >= best[cell, code].sum() - 1e-9 * (1 + around)


@PROJECTIONS
def test_projections_of_one_cell_have_closed_forms(metric, projection, code_first):
    codes = np.zeros(len(MEANS), dtype=np.int64)
    center = projection(MEANS, SIGMAS).centers(np.zeros((1, 8)), codes)[0]
    if code_first:
        natural = np.stack([MEANS / SIGMAS**2, SIGMAS**-2.0]).mean(1)
        expected = [natural[0] / natural[1], natural[1] ** -0.5]
    else:
        variance = (SIGMAS**2 + MEANS**2).mean(0) - MEANS.mean(0) ** 2
        expected = [MEANS.mean(0), variance**0.5]
    np.testing.assert_allclose(center, np.concatenate(expected), rtol=1e-10, atol=1e-12)


@PROJECTIONS
def test_tiny_sigmas_and_far_means_keep_their_digits(metric, projection, code_first):
    # Squares of means over squares of sigmas are 1e12 here, differences between codes about 1.
    rng = np.random.default_rng(0)
    sigmas = 1e-4 * np.exp(rng.normal(size=(300, 3)))
    means = 100 + 1e-4 * rng.normal(size=(300, 3))
    quantizer = GaussianQuantizer(8, metric=metric, random_state=0).fit(means, sigma=sigmas)
    assert (np.diff(quantizer.objectives_) <= 1e-9 * quantizer.objectives_[0]).all()
    codebook = np.concatenate([quantizer.codebook_, quantizer.codebook_sigma_], axis=1)
    expected = kl_table(means, sigmas, codebook, code_first).argmin(1)
    np.testing.assert_array_equal(quantizer.predict(means, sigma=sigmas), expected)


@PROJECTIONS
def test_cells_of_equal_points_keep_their_sigma(metric, projection, code_first):
    means, sigmas = np.repeat(MEANS[:5], 6, axis=0), np.repeat(SIGMAS[:5], 6, axis=0)
    quantizer = GaussianQuantizer(5, metric=metric, random_state=0).fit(means, sigma=sigmas)
    codes = quantizer.predict(means, sigma=sigmas)
    np.testing.assert_allclose(quantizer.codebook_[codes], means, atol=1e-12)
    np.testing.assert_allclose(quantizer.codebook_sigma_[codes], sigmas, rtol=1e-12)


def test_moment_matching_covers_the_spread_of_a_cell():
    quantizer = GaussianQuantizer(4, metric="m-projection", random_state=0).fit(MEANS)
    codes = quantizer.predict(MEANS)
    for code in range(4):
        expected = np.sqrt(1 + MEANS[codes == code].var(0))  # without sigma it is 1
        np.testing.assert_allclose(quantizer.codebook_sigma_[code], expected, rtol=0.05)


def test_unknown_metric_is_named_with_the_nearest():
    with pytest.raises(InputError, match="unknown metric 'precison'; did you mean 'precision'"):
        GaussianQuantizer(metric="precison").fit(MEANS)


@pytest.mark.parametrize("metric", ["precision", "m-projection", "i-projection"])
@pytest.mark.parametrize("widest", [2, 20])
def test_the_objective_never_rises_however_different_the_sigmas(metric, widest):
    rng = np.random.default_rng(0)
    sigmas = 10.0 ** rng.uniform(-widest, widest, size=MEANS.shape)
    quantizer = GaussianQuantizer(16, metric=metric, random_state=0).fit(MEANS, sigma=sigmas)
    assert np.isfinite(quantizer.codebook_).all()
    assert len(quantizer.objectives_) > 1
    assert (np.diff(quantizer.objectives_) <= 0).all()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_precision_in_float32_has_sigmas_whose_squares_float32_has_not(size):
    narrow = GaussianQuantizer(16, metric="precision", random_state=0)
    codes = narrow.fit_predict(MEANS.astype(np.float32), sigma=(size * SIGMAS).astype(np.float32))
    expected = precision_table(MEANS, SIGMAS, narrow.codebook_).argmin(1)
    assert np.mean(codes == expected) > 0.99


def test_sigmas_that_float32_has_not_are_refused():
    with pytest.raises(InputError, match="sigma has NaN or infinity in 600 of 600 rows"):
        GaussianQuantizer().fit(MEANS.astype(np.float32), sigma=np.full_like(MEANS, 1e300))
    with pytest.raises(InputError, match="sigma has a value of 0 or less in row 0"):
        GaussianQuantizer().fit(MEANS.astype(np.float32), sigma=np.full_like(MEANS, 1e-300))


def test_tensors_that_require_a_gradient_are_refused_with_what_to_do():
    means, sigmas = torch.from_numpy(MEANS), torch.from_numpy(SIGMAS)
    GaussianQuantizer().fit(means, sigma=sigmas)
    with pytest.raises(InputError, match=r"^X: .*requires grad. Use tensor.detach\(\)"):
        GaussianQuantizer().fit(means.clone().requires_grad_(), sigma=sigmas)
    with pytest.raises(InputError, match=r"^sigma is not an array of numbers: .*Use tensor.detach\(\)"):
        GaussianQuantizer().fit(means, sigma=sigmas.clone().requires_grad_())


def test_another_metric_after_the_fit_needs_a_new_one(tmp_path):
    quantizer = GaussianQuantizer(metric="precision", random_state=0).fit(MEANS, sigma=SIGMAS)
    codes = quantizer.predict(MEANS, sigma=SIGMAS)
    quantizer.save(tmp_path / "q")
    for fitted in (quantizer, GaussianQuantizer.load(tmp_path / "q")):
        fitted.set_params(metric="wasserstein")
        with pytest.raises(InputError, match=r"metric is 'wasserstein', but .* was fitted with 'precision'"):
            fitted.predict(MEANS, sigma=SIGMAS)
        fitted.set_params(metric="precision")
        np.testing.assert_array_equal(fitted.predict(MEANS, sigma=SIGMAS), codes)
        fitted.set_params(metric="wasserstein").fit(MEANS, sigma=SIGMAS).predict(MEANS, sigma=SIGMAS)
