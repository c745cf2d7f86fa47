"""Codes for diagonal Gaussians against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_contract import MEANS, SIGMAS, TEST, TRAIN

from geovq.errors import InputError
from geovq.quantizers import GaussianQuantizer, KMeansQuantizer
from geovq.quantizers.gaussian import precision_lloyd


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


@pytest.mark.parametrize("metric", ["wasserstein", "precision"])
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
    codebook, objectives = precision_lloyd(means, sigmas, start, n_iterations=200)
    assert (np.diff(objectives) <= 1e-10 * objectives[0] + 1e-20).all()
    codes = precision_table(means, sigmas, codebook).argmin(1)
    weights = sigmas**-2.0
    for code in np.unique(codes):
        cell = codes == code
        centroid = (means[cell] * weights[cell]).sum(0) / weights[cell].sum(0)
        np.testing.assert_allclose(codebook[code], centroid, rtol=1e-7, atol=1e-9)


def test_unknown_metric_is_named_with_the_nearest():
    with pytest.raises(InputError, match="unknown metric 'precison'; did you mean 'precision'"):
        GaussianQuantizer(metric="precison").fit(MEANS)
