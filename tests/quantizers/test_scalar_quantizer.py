"""Scalar quantization: how bits are allotted, and the sums of levels that come of it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_contract import MEANS, SIGMAS, TEST, TRAIN
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from geovq.errors import InputError
from geovq.quantizers.scalar import ALLOTMENTS, ScalarQuantizer, allot_bits, kl_in_bits, rate_distortion

PROJECTED_DIGITS = PCA(24, random_state=0).fit_transform(load_digits().data)


def gaussians(*deviations, n=4000, seed=0):
    return np.random.default_rng(seed).normal(size=(n, len(deviations))) * deviations


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 4), most=st.integers(0, 4), data=st.data())
def test_allotment_is_that_of_exhaustive_search(seed, d, most, data):
    rng = np.random.default_rng(seed)
    # Falling, but not convex: one more bit may help more than the one before.
    distortions = np.sort(rng.exponential(size=(d, most + 1)), axis=1)[:, ::-1].copy()
    allowed = rng.integers(0, most + 1, size=d)
    distortions[np.arange(most + 1) > allowed[:, None]] = np.inf
    n_bits = data.draw(st.integers(0, int(allowed.sum())))
    bits = allot_bits(distortions, n_bits)
    assert bits.sum() == n_bits
    every = (b for b in itertools.product(range(most + 1), repeat=d) if sum(b) == n_bits)
    best = min(distortions[np.arange(d), list(b)].sum() for b in every)
    assert distortions[np.arange(d), bits].sum() == pytest.approx(best)


@settings(max_examples=30, deadline=None)
@given(
    n_codes=st.integers(1, 20),
    d=st.integers(1, 6),
    allotment=st.sampled_from(ALLOTMENTS),
    seed=st.integers(0, 99),
)
def test_bits_are_the_planned_ones_in_sum(n_codes, d, allotment, seed):
    rng = np.random.default_rng(seed)
    points, sigma = rng.normal(size=(200, d)), np.exp(rng.normal(size=(200, d)))
    quantizer = ScalarQuantizer(n_codes, allotment, n_iterations=3).fit(points, sigma=sigma)
    n_bits = quantizer.bits_.sum()
    assert 2.0**n_bits <= n_codes**d < 2.0 ** (n_bits + 1)
    assert np.prod([float(size) for size in quantizer.planned_sizes(d)]) == 2.0**n_bits
    sizes = [len(level) for level in quantizer.codebook_]
    assert sizes == [2**b for b in quantizer.bits_ if b > 0] or (n_bits == 0 and sizes == [1])


def test_a_doubled_deviation_is_a_bit():
    assert ScalarQuantizer(8).fit(gaussians(1, 4, 2)).bits_.tolist() == [2, 4, 3]


def test_allotment_beyond_the_measured_bits_follows_the_law_of_high_rates():
    assert ScalarQuantizer(2**8).fit(gaussians(4, 1)).bits_.tolist() == [9, 7]


def test_a_bit_beyond_the_measured_ones_halves_the_error():
    errors = rate_distortion(gaussians(1)[:, 0], np.arange(10), n_iterations=50)
    assert (errors[7:] == errors[6] * np.array([0.5, 0.25, 0.125])).all()
    assert np.square(errors[:4]) == pytest.approx([1, 0.3634, 0.1175, 0.03454], rel=0.05)


def test_bits_by_variance_beat_equal_bits_on_held_out_data():
    by_variance, equal = (
        ScalarQuantizer(4, allotment).fit(PROJECTED_DIGITS[:1000]) for allotment in ("variance", "equal")
    )
    assert equal.bits_.tolist() == [2] * 24
    assert by_variance.score(PROJECTED_DIGITS[1000:]) > 0.9 * equal.score(PROJECTED_DIGITS[1000:])


def test_equal_bits_that_do_not_divide_go_to_the_first_coordinates():
    quantizer = ScalarQuantizer(3, "equal")
    assert quantizer.planned_sizes(4) == (4, 4, 2, 2)  # floor(4 log2 3) = 6
    assert quantizer.fit(MEANS).bits_.tolist() == [2, 2, 1, 1]


def test_bits_by_kl_are_the_kl_up_to_one_constant():
    kl = np.array([3.2, 1.1, 5.4, 0.0])
    sigma = np.tile(2.0**-kl, (400, 1))
    signs = np.sign(np.random.default_rng(0).normal(size=(400, 4)))
    # mean^2 + sigma^2 is nearly 1, so the KL is -log2 sigma.
    points = np.sqrt(1 - sigma**2) * signs + 1e-3 * np.arange(400)[:, None]
    np.testing.assert_allclose([kl_in_bits(points[:, j], sigma[:, j]) for j in range(4)], kl, atol=0.07)
    for n_codes, expected in ((2, [1, 0, 3, 0]), (4, [3, 0, 5, 0]), (16, [5, 3, 7, 1])):
        assert ScalarQuantizer(n_codes, "kl").fit(points, sigma=sigma).bits_.tolist() == expected


def test_kl_is_that_of_numerical_integration():
    means, sigma = np.array([0.3, -1.2]), np.array([0.5, 1.4])
    x = np.linspace(-15, 15, 20001)[:, None]
    log_q = -0.5 * np.square((x - means) / sigma) - np.log(sigma)
    densities = np.exp(log_q) / np.sqrt(2 * np.pi)
    expected = (densities * (log_q + 0.5 * x**2)).sum(0) * (x[1] - x[0]) / np.log(2)
    assert kl_in_bits(means, sigma) == pytest.approx(expected.mean(), rel=1e-6)


def test_a_coordinate_the_posterior_ignores_gets_no_bits_by_kl():
    points = gaussians(1, 1, 0.05)
    sigma = np.tile([0.05, 0.05, 1.0], (len(points), 1))
    quantizer = ScalarQuantizer(4, "kl").fit(points, sigma=sigma)
    assert quantizer.takes_sigma
    assert quantizer.bits_.tolist() == [3, 3, 0]


def test_bits_by_kl_are_cheaper_in_the_precision_metric():
    def weighted_distortion(allotment):
        quantizer = ScalarQuantizer(4, allotment).fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
        errors = MEANS[TEST] - quantizer.transform(MEANS[TEST], sigma=SIGMAS[TEST])
        return np.square(errors / SIGMAS[TEST]).sum(1).mean()

    assert weighted_distortion("kl") < 0.8 * weighted_distortion("variance")


def test_kl_without_sigma_is_refused():
    with pytest.raises(InputError, match="allotment is 'kl', but sigma is missing"):
        ScalarQuantizer(allotment="kl").fit(MEANS)


def test_every_coordinate_takes_its_nearest_level_ties_to_the_lowest():
    quantizer = ScalarQuantizer(8).fit(MEANS[TRAIN])
    axes = np.flatnonzero(quantizer.bits_)
    codes = quantizer.predict(MEANS[TEST])
    for level, axis in enumerate(axes):
        levels = quantizer.codebook_[level][:, axis]
        np.testing.assert_array_equal(codes[:, level], np.abs(MEANS[TEST, axis, None] - levels).argmin(1))
    halves = ScalarQuantizer(2).fit(np.array([[0.0], [2.0]]))
    assert halves.predict(np.array([[1.0]])).tolist() == [[0]]


def test_coordinates_without_bits_are_their_means():
    points = gaussians(5, 0.01, 5) + np.array([0.0, 7.0, 0.0])
    quantizer = ScalarQuantizer(2).fit(points)
    assert quantizer.bits_[1] == 0
    assert len(quantizer.codebook_) == quantizer.predict(points).shape[1] == 2
    np.testing.assert_allclose(quantizer.transform(points)[:, 1], points[:, 1].mean())
    for level, axis in zip(quantizer.codebook_, (0, 2), strict=True):
        others = np.delete(level, axis, axis=1)
        assert (others == others[0]).all()


def test_without_bits_the_code_is_the_mean():
    quantizer = ScalarQuantizer(1).fit(MEANS)
    assert quantizer.planned_sizes(4) == (1,)
    assert quantizer.predict(MEANS).shape == (600, 1)
    np.testing.assert_allclose(quantizer.transform(MEANS), np.tile(MEANS.mean(0), (600, 1)))


def test_bits_that_no_value_needs_are_spread_and_announced():
    points = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [0.0, 5.0]])
    with pytest.warns(
        UserWarning, match=r"2 coordinates have 4 bits, .* need only 2; 4 codes will never be used"
    ):
        quantizer = ScalarQuantizer(4).fit(points)  # 4 levels for 3 values, 4 for 1
    assert quantizer.bits_.tolist() == [2, 2]
    np.testing.assert_array_equal(quantizer.transform(points), points)
    assert quantizer.predict(points).max() == 2


def test_levels_that_the_data_fill_only_in_part_are_no_waste():
    points = np.repeat(np.arange(5.0), 10)[:, None]
    quantizer = ScalarQuantizer(8).fit(points)
    np.testing.assert_array_equal(quantizer.transform(points), points)


def test_unknown_allotment_is_named_with_the_nearest():
    with pytest.raises(InputError, match="unknown allotment 'varience'; did you mean 'variance'"):
        ScalarQuantizer(allotment="varience").fit(MEANS)


def test_iterations_are_whole_and_positive():
    with pytest.raises(InputError, match="n_iterations is 0; expected a whole number"):
        ScalarQuantizer(n_iterations=0).fit(MEANS)
