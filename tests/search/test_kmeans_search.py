"""k-means with pinned settings, and the groupings it stands on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from geovq.errors import InputError
from geovq.search import cell_means, distinct_rows, kmeans, nearest_codes

DIGITS = load_digits().data


def assign(points, codebook):
    return nearest_codes(torch.from_numpy(points), torch.from_numpy(codebook)).numpy()


def inertia(points, codebook):
    return np.square(points - codebook[assign(points, codebook)]).sum()


def test_as_good_as_scikit_learn_on_digits():
    reference = KMeans(32, n_init=1, init="random", max_iter=25, random_state=0).fit(DIGITS)
    assert inertia(DIGITS, kmeans(DIGITS, 32, seed=0)) < 1.02 * reference.inertia_


def test_codes_are_exact_means_of_the_last_assignment():
    rng = np.random.default_rng(0)
    centers = 100 * np.arange(8.0)[:, None]
    points = np.repeat(centers, 50, axis=0) + rng.normal(size=(400, 3))
    codebook = kmeans(points, 8, seed=1, n_iterations=10)
    means, counts = cell_means(points, assign(points, codebook), 8)
    used = counts > 0
    np.testing.assert_allclose(codebook[used], means[used], atol=1e-10)


def test_deterministic_and_driven_by_the_seed():
    assert np.array_equal(kmeans(DIGITS, 16, seed=3), kmeans(DIGITS, 16, seed=3))
    assert not np.array_equal(kmeans(DIGITS, 16, seed=3), kmeans(DIGITS, 16, seed=4))


def test_keeps_the_dtype():
    assert kmeans(DIGITS.astype(np.float32), 4, seed=0).dtype == np.float32
    assert kmeans(DIGITS, 4, seed=0).dtype == np.float64


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1e20, 1e150])
def test_any_unit_gives_the_same_cells(scale):
    expected = assign(DIGITS, kmeans(DIGITS, 8, seed=0))
    codebook = kmeans(DIGITS * scale, 8, seed=0)
    assert np.array_equal(assign(DIGITS, codebook / scale), expected)


def test_far_from_the_origin_digits_are_kept():
    points = np.random.default_rng(0).normal(size=(300, 2))
    near, far = kmeans(points, 10, seed=0), kmeans(points + 1e8, 10, seed=0) - 1e8
    np.testing.assert_allclose(far, near, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), d=st.integers(1, 5), data=st.data())
def test_no_code_is_empty_if_enough_points_are_distinct(seed, n, d, data):
    n_codes = data.draw(st.integers(1, n))
    # Clumps with outliers make faiss split codes and leave some without points.
    points = np.random.default_rng(seed).normal(size=(n, d)) ** 5
    codebook = kmeans(points, n_codes, seed, n_iterations=2)
    assert codebook.shape == (n_codes, d)
    assert len(distinct_rows(codebook)[0]) == n_codes
    if n_codes == n:
        # Points nearer than the square root of the rounding error share a code.
        np.testing.assert_allclose(codebook[assign(points, codebook)], points, atol=1e-5)


def test_clumps_of_equal_points_each_get_a_code():
    rng = np.random.default_rng(0)
    sites = rng.normal(size=(20, 3))
    points = sites[rng.choice(20, size=2000, p=np.array([0.9, *[0.1 / 19] * 19]))]
    assert len(distinct_rows(points)[0]) == 20
    assert inertia(points, kmeans(points, 20, seed=0)) < 1e-20


def test_fewer_distinct_points_than_codes_warns_and_pads():
    points = np.array([[0.1, 0.7], [0.3, 0.9], [0.1, 0.7], [0.5, 0.2], [0.5, 0.2]])
    with pytest.warns(UserWarning, match="only 3 points are distinct; 2 codes will never be used"):
        codebook = kmeans(points, 5, seed=0)
    assert codebook.shape == (5, 2)
    assert sorted(map(tuple, codebook[:3])) == sorted({tuple(row) for row in points})
    others = np.random.default_rng(0).normal(size=(1000, 2))
    assert assign(others, codebook).max() < 3


def test_means_are_taken_over_all_points_though_a_sample_found_them():
    points = np.random.default_rng(0).normal(size=(5000, 2))
    codebook = kmeans(points, 1, seed=0)
    np.testing.assert_allclose(codebook[0], points.mean(0), atol=1e-12)


@pytest.mark.parametrize("n_codes", [0, 6])
def test_impossible_counts_are_refused(n_codes):
    with pytest.raises(InputError, match="n_samples=5"):
        kmeans(np.zeros((5, 2)), n_codes, seed=0)


def test_cell_means_with_weights_by_hand():
    points = np.array([[0.0], [4.0], [10.0]])
    weights = np.array([[1.0], [3.0], [2.0]])
    means, counts = cell_means(points, np.array([0, 0, 2]), 3, weights)
    assert means.tolist() == [[3.0], [0.0], [10.0]]
    assert counts.tolist() == [2, 0, 1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=40))
def test_distinct_rows_rebuild_the_points(rows):
    points = np.array(rows, dtype=np.float64) * np.array([1.0, -0.0 if rows[0][0] else 1.0])
    first, group = distinct_rows(points)
    assert np.array_equal(points[first][group], points)
    assert len(first) == len({tuple(row + 0.0) for row in points})
    assert (np.diff(first) > 0).all()
    assert all((points[:row] != points[row]).any(1).all() for row in first)
