"""Exact neighbours, by tree and by comparison with all."""

import pickle

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from geovq.geometry import NeighborIndex

DIGITS = load_digits().data


@pytest.mark.parametrize("d", [1, 3, 8, 9, 40])
def test_distances_are_the_smallest(d):
    rng = np.random.default_rng(d)
    points, queries = rng.normal(size=(300, d)), rng.normal(size=(50, d))
    exact = cdist(queries, points)
    found = NeighborIndex(points).query(queries, 12)
    np.testing.assert_array_equal(found, np.argsort(exact, axis=1)[:, :12])


@pytest.mark.parametrize("d", [4, 16])
def test_far_from_the_origin_and_in_any_unit(d):
    points = np.random.default_rng(0).normal(size=(200, d))
    expected = NeighborIndex(points).others(5)
    np.testing.assert_array_equal(NeighborIndex(points * 1e-30).others(5), expected)
    np.testing.assert_array_equal(NeighborIndex(points + 1e5).others(5), expected)


@pytest.mark.parametrize("columns", [slice(20, 26), slice(0, 64)])
def test_others_leave_out_the_point_itself(columns):
    points = DIGITS[:, columns]  # six columns hold many equal rows
    others = NeighborIndex(points).others(10)
    assert others.shape == (len(points), 10)
    assert (others != np.arange(len(points))[:, None]).all()
    assert all(len(set(row)) == 10 for row in others)
    found = np.sqrt(np.square(points[:, None] - points[others]).sum(2))
    exact = cdist(points, points)
    np.fill_diagonal(exact, np.inf)
    np.testing.assert_allclose(found, np.sort(exact, axis=1)[:, :10], atol=1e-9)


def test_pickles_without_its_search_structure():
    for d in (2, 12):
        index = NeighborIndex(np.random.default_rng(0).normal(size=(100, d)))
        before = index.others(3)
        copy = pickle.loads(pickle.dumps(index))
        assert set(vars(copy)) == {"points"}
        np.testing.assert_array_equal(copy.others(3), before)


def test_no_queries_give_no_neighbours():
    assert NeighborIndex(np.zeros((5, 2))).query(np.empty((0, 2)), 3).shape == (0, 3)
