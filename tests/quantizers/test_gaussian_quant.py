"""Codes drawn from the prior: the codebook is standard normal, the choice is that of the densities."""

import numpy as np
import pytest
import torch
from quantizer_contract import MEANS, SIGMAS, TEST, TRAIN
from scipy.stats import kstest
from torch.distributions import Normal, kl_divergence

from geovq.errors import InputError
from geovq.quantizers.base import Quantizer
from geovq.quantizers.gaussian_quant import GaussianQuant, normal_codebook


def log_ratios(means, sigmas, codebook, beta):
    """Posterior over prior density of every code, (n, K), from torch's densities."""
    means, sigmas, codes = (torch.from_numpy(array) for array in (means, sigmas, codebook))
    posterior = Normal(means[:, None], sigmas[:, None]).log_prob(codes).sum(2)
    return posterior - beta * Normal(0.0, 1.0).log_prob(codes).sum(1)


@pytest.mark.parametrize("beta", [0, 0.5, 1.0, 3.0])
def test_the_code_has_the_highest_ratio_of_densities(beta):
    quantizer = GaussianQuant(64, beta=beta, random_state=0).fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
    for sigmas in (SIGMAS[TEST], 5 * SIGMAS[TEST]):  # wider than the prior, the best code is an outer one
        expected = log_ratios(MEANS[TEST], sigmas, quantizer.codebook_, beta).argmax(1)
        np.testing.assert_array_equal(quantizer.predict(MEANS[TEST], sigma=sigmas), expected)


def test_without_sigma_it_is_the_limit_of_small_equal_sigmas():
    quantizer = GaussianQuant(64, random_state=0)
    nearest = quantizer.fit_predict(MEANS)
    small = quantizer.fit_predict(MEANS, sigma=np.full_like(MEANS, 1e-4))
    np.testing.assert_array_equal(nearest, small)
    squares = np.square(MEANS[:, None] - quantizer.codebook_).sum(2)
    np.testing.assert_array_equal(nearest, squares.argmin(1))


def test_the_codebook_depends_on_the_seed_and_the_width_alone():
    one = GaussianQuant(32, random_state=4).fit(MEANS[TRAIN])
    other = GaussianQuant(32, random_state=4).fit(100 + MEANS[TEST], sigma=SIGMAS[TEST])
    np.testing.assert_array_equal(one.codebook_, other.codebook_)
    assert not np.array_equal(one.codebook_, GaussianQuant(32, random_state=5).fit(MEANS).codebook_)


@pytest.mark.parametrize(("n_codes", "d"), [(1, 3), (3, 1), (1000, 4), (4096, 2)])
def test_codes_are_finite_different_and_as_many_as_asked_for(n_codes, d):
    codebook = normal_codebook(n_codes, d, seed=0)
    assert codebook.shape == (n_codes, d)
    assert np.isfinite(codebook).all()
    assert len(np.unique(codebook, axis=0)) == n_codes


@pytest.mark.parametrize("d", [3, 21_202])
def test_codes_are_standard_normal_in_any_dimension(d):
    codebook = normal_codebook(64, d, seed=1)
    assert kstest(codebook.ravel(), "norm").pvalue > 0.01
    neighbours = np.corrcoef(codebook[:, :-1].ravel(), codebook[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.2


def test_low_discrepancy_fills_every_coordinate_evenly():
    codebook = normal_codebook(256, 8, seed=2)
    quantiles = np.sort(Normal(0.0, 1.0).cdf(torch.from_numpy(codebook)).numpy(), axis=0)
    steps = np.arange(256)[:, None] / 256
    assert (quantiles >= steps).all()
    assert (quantiles <= steps + 1 / 256).all()  # one code in each of 256 equal parts of the prior


def test_kl_is_stated_in_bits():
    quantizer = GaussianQuant(16).fit(MEANS, sigma=SIGMAS)
    posterior = Normal(torch.from_numpy(MEANS), torch.from_numpy(SIGMAS))
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean() / np.log(2)
    assert quantizer.kl_bits_ == pytest.approx(expected.item(), rel=1e-12)
    assert not hasattr(quantizer.fit(MEANS), "kl_bits_")


def test_codes_lie_within_sigma_once_log2_k_exceeds_the_divergence():
    # The theorem behind the method, on Gaussians whose mean divergence from the prior is 6 bits.
    rng = np.random.default_rng(0)
    sigmas = np.full((2000, 2), 2.0**-3)
    means = rng.normal(size=(2000, 2)) * np.sqrt(1 - sigmas**2)
    shares = {}
    for bits in (2, 10):
        quantizer = GaussianQuant(2**bits, random_state=0).fit(means, sigma=sigmas)
        assert quantizer.kl_bits_ == pytest.approx(6, abs=0.1)
        errors = np.abs(quantizer.transform(means, sigma=sigmas) - means)
        shares[bits] = np.mean(errors < sigmas)
    assert shares[2] < 0.4
    assert shares[10] > 0.95


def test_a_saved_codebook_is_not_drawn_again(tmp_path):
    quantizer = GaussianQuant(16, random_state=0).fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
    quantizer.codebook_[:] = quantizer.codebook_[::-1].copy()
    quantizer.save(tmp_path / "q")
    loaded = Quantizer.load(tmp_path / "q")
    np.testing.assert_array_equal(loaded.codebook_, quantizer.codebook_)
    assert loaded.kl_bits_ == quantizer.kl_bits_


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1.0, 1e30])
def test_float32_has_the_codes_of_float64_for_sigmas_of_any_size(size):
    quantizer = GaussianQuant(64, random_state=0).fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
    codes = quantizer.predict(MEANS[TEST], sigma=size * SIGMAS[TEST])
    narrow = quantizer.predict(MEANS[TEST].astype(np.float32), sigma=size * SIGMAS[TEST])
    assert np.mean(codes == narrow) > 0.99
    assert len(np.unique(narrow)) > (20 if size <= 1 else 0)


@pytest.mark.parametrize("beta", [-0.1, float("nan"), float("inf"), "much", True])
def test_impossible_weights_of_the_prior_are_refused(beta):
    with pytest.raises(InputError, match=r"beta is .*; expected a number of at least 0"):
        GaussianQuant(beta=beta).fit(MEANS)
