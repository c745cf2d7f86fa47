"""Optimized product quantization: what a rotation may and may not change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_contract import MEANS, METRICS, SIGMAS, TEST, TRAIN
from sklearn.datasets import load_digits

from geovq.errors import InputError
from geovq.quantizers.optimized_product import OptimizedProductQuantizer, RotatedCodes, balanced_axes, improve
from geovq.quantizers.product import ProductQuantizer, coordinate_groups

DIGITS = load_digits().data


def random_rotation(rng, d):
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


def correlated(seed, n=1500, d=8):
    """Gaussian points of variances 1, 1/4, 1/16, ... along axes that lie askew."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * 0.5 ** np.arange(d) @ random_rotation(rng, d)


def random_codes(rng, points, groups, n_codes):
    rotation = random_rotation(rng, points.shape[1])
    rows = rng.choice(len(points), n_codes, replace=False)
    return RotatedCodes(rotation, [(points[rows] @ rotation)[:, group] for group in groups])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(4, 80), d=st.integers(2, 7), n_groups=st.integers(2, 4))
def test_no_round_raises_the_error(seed, n, d, n_groups):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d)) ** 3
    start = random_codes(rng, points, coordinate_groups(d, n_groups), int(rng.integers(1, n)))
    codes, errors = improve(start, points, n_rounds=12)
    assert errors.shape == (13,)
    assert (np.diff(errors) <= 1e-12 * errors[0]).all()
    assert errors[0] == pytest.approx(start.error(points))
    assert errors[-1] == pytest.approx(codes.error(points))
    np.testing.assert_allclose(codes.rotation.T @ codes.rotation, np.eye(d), atol=1e-12)


def test_a_round_turns_the_axes_to_where_the_points_lie_nearest_to_their_codes():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 4))
    groups = coordinate_groups(4, 2)
    start = random_codes(rng, points, groups, 8)
    end, _ = improve(start, points, n_rounds=1)
    vectors = np.concatenate(
        [book[codes] for (*_, codes), book in zip(start.coded(points), end.books, strict=True)], axis=1
    )

    def error(rotation):
        return np.square(points @ rotation - vectors).sum(1).mean()

    assert error(end.rotation) < error(start.rotation)
    for _ in range(50):
        small = 0.05 * rng.normal(size=(4, 4))
        nearby = end.rotation @ np.linalg.qr(np.eye(4) + small - small.T)[0]
        assert error(end.rotation) <= error(nearby)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("data", ["digits", "latents", "correlated", "independent", "one group"])
def test_never_worse_than_product_codes_of_its_training_points(seed, data):
    points = {
        "digits": DIGITS[:500, 18:30],
        "latents": MEANS,
        "correlated": correlated(seed),
        "independent": np.random.default_rng(seed).uniform(size=(300, 4)),
        "one group": MEANS[:, :1],
    }[data]
    product = ProductQuantizer(8, random_state=seed).fit(points)
    optimized = OptimizedProductQuantizer(8, n_rounds=5, random_state=seed).fit(points)
    assert optimized.score(points) >= (1 + 1e-9) * product.score(points)
    assert (np.diff(optimized.objectives_) <= 1e-12 * optimized.objectives_[0]).all()


def test_much_better_on_correlated_points():
    points = correlated(0, n=3000)
    product = ProductQuantizer(16, random_state=0).fit(points[:2000])
    optimized = OptimizedProductQuantizer(16, random_state=0).fit(points[:2000])
    assert optimized.score(points[:2000]) > 0.6 * product.score(points[:2000])
    assert optimized.score(points[2000:]) > 0.6 * product.score(points[2000:])


def test_better_on_digits_never_seen():
    product = ProductQuantizer(16, n_groups=8, random_state=0).fit(DIGITS[:1400])
    optimized = OptimizedProductQuantizer(16, n_groups=8, random_state=0).fit(DIGITS[:1400])
    assert optimized.score(DIGITS[1400:]) > 0.95 * product.score(DIGITS[1400:])


def test_turning_the_points_hardly_matters():
    points = correlated(1)
    turned = points @ random_rotation(np.random.default_rng(5), 8)
    scores = [OptimizedProductQuantizer(16, random_state=0).fit(X).score(X) for X in (points, turned)]
    assert scores[0] == pytest.approx(scores[1], rel=0.05)
    plain = [ProductQuantizer(16, random_state=0).fit(X).score(X) for X in (points, turned)]
    assert plain[0] != pytest.approx(plain[1], rel=0.05)


def test_codes_are_the_nearest_of_all_sums():
    quantizer = OptimizedProductQuantizer(8, random_state=0).fit(MEANS[TRAIN])
    every = np.stack(np.meshgrid(range(8), range(8), indexing="ij"), axis=2).reshape(-1, 2)
    distances = np.square(MEANS[TEST][:, None] - quantizer.inverse_transform(every)).sum(2)
    np.testing.assert_array_equal(quantizer.predict(MEANS[TEST]), every[distances.argmin(1)])


def test_levels_differ_in_their_own_rotated_coordinates_alone():
    quantizer = OptimizedProductQuantizer(8, n_groups=3, random_state=0).fit(MEANS + 5)
    rotation = quantizer.rotation_
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(4), atol=1e-12)
    for book, group in zip(quantizer.codebook_, coordinate_groups(4, 3), strict=True):
        steps = (book - book[0]) @ rotation
        assert np.abs(steps[:, group]).max() > 0.1
        np.testing.assert_allclose(np.delete(steps, np.r_[group], axis=1), 0, atol=1e-12)
    assert np.abs(quantizer.codebook_[0].mean(0)).min() > 2
    assert np.abs(quantizer.codebook_[1:].mean((0, 1))).max() < 2


def test_far_from_the_origin_float32_codes_stay():
    points = np.float32(MEANS * 4).round() / 4  # exact in float32 even after the shift
    near = OptimizedProductQuantizer(8, random_state=0).fit(points)
    far = OptimizedProductQuantizer(8, random_state=0).fit(points + np.float32(2**14))
    assert far.score(points + np.float32(2**14)) == pytest.approx(near.score(points), rel=0.02)


def test_points_of_extreme_size_are_coded():
    sizes = [OptimizedProductQuantizer(8, random_state=0).fit(s * MEANS) for s in (1.0, 1e-100, 1e100)]
    codes = [q.predict(s * MEANS) for q, s in zip(sizes, (1.0, 1e-100, 1e100), strict=True)]
    assert np.mean(codes[0] == codes[1]) > 0.99
    assert np.mean(codes[0] == codes[2]) > 0.99


def test_principal_axes_are_dealt_out_with_balanced_products():
    rng = np.random.default_rng(0)
    variances = np.array([64.0, 32.0, 16.0, 8.0, 4.0, 2.0])
    points = random_rotation(rng, 6)
    points = np.concatenate([points, -points]) * 1.0  # covariance is a multiple of the identity
    points = points @ np.diag(np.sqrt(variances)) @ random_rotation(rng, 6)
    axes = balanced_axes(points, coordinate_groups(6, 3))
    found = np.square(points @ axes).mean(0) * 6
    np.testing.assert_allclose(found, [64, 2, 32, 4, 16, 8], rtol=1e-10)
    np.testing.assert_allclose(axes.T @ axes, np.eye(6), atol=1e-12)


def test_flat_directions_need_no_variance():
    points = np.concatenate([MEANS, np.zeros((600, 3)), np.ones((600, 1))], axis=1)
    quantizer = OptimizedProductQuantizer(16, n_groups=4, random_state=0).fit(points)  # warns of nothing
    assert quantizer.score(points) > 0.5 * ProductQuantizer(16, random_state=0).fit(MEANS).score(MEANS)


def test_few_points_are_learnt_from_where_many_are_given(monkeypatch):
    monkeypatch.setattr("geovq.quantizers.optimized_product.MAX_POINTS_PER_CODE", 20)
    sampled = OptimizedProductQuantizer(8, random_state=0).fit(correlated(0))
    monkeypatch.undo()
    full = OptimizedProductQuantizer(8, random_state=0).fit(correlated(0))
    assert not np.array_equal(sampled.rotation_, full.rotation_)
    assert sampled.score(correlated(0)) > 1.3 * full.score(correlated(0))


def test_sigma_and_metric_change_nothing():
    plain = OptimizedProductQuantizer(random_state=0).fit(MEANS)
    given = OptimizedProductQuantizer(random_state=0).fit(MEANS, sigma=SIGMAS, metric=METRICS)
    np.testing.assert_array_equal(plain.codebook_, given.codebook_)


def test_the_planned_sizes_are_those_of_the_codes():
    for d in (1, 2, 4):
        quantizer = OptimizedProductQuantizer(8, n_groups=3, n_rounds=2, random_state=0)
        assert quantizer.planned_sizes(d) == (8,) * min(3, d)
        assert quantizer.fit(MEANS[:, :d]).as_module().n_codes == quantizer.planned_sizes(d)


@pytest.mark.parametrize("name", ["n_groups", "n_rounds", "n_iterations"])
def test_numbers_are_whole_and_positive(name):
    with pytest.raises(InputError, match=f"{name} is 0; expected a whole number"):
        OptimizedProductQuantizer(**{name: 0}).fit(MEANS)
