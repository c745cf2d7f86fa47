"""Shortest paths from many sources against all-pairs tables, and the medoids that move on them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import floyd_warshall

from geovq.errors import InputError
from geovq.geometry import (
    Cells,
    connect,
    cut_between_cells,
    improve_medoids,
    knn_graph,
    multi_source,
    snap_to_points,
)


def connected(points, k):
    return connect(knn_graph(points, k), points)[0]


def grid_graph(side):
    """Integer lengths, so that sums are exact and ties are many."""
    index = np.arange(side * side).reshape(side, side)
    pairs = np.concatenate(
        [np.c_[index[:, :-1].ravel(), index[:, 1:].ravel()], np.c_[index[:-1].ravel(), index[1:].ravel()]]
    )
    half = csr_matrix((np.ones(len(pairs)), pairs.T), shape=(side**2, side**2))
    return half + half.T


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 80), data=st.data())
def test_equals_all_pairs(seed, n, data):
    rng = np.random.default_rng(seed)
    graph = connected(rng.normal(size=(n, 3)), data.draw(st.integers(1, min(n - 1, 8))))
    sources = rng.permutation(n)[: data.draw(st.integers(1, n))]
    table = floyd_warshall(graph)[sources]
    distance, label = multi_source(graph, sources)
    np.testing.assert_allclose(distance, table.min(0), rtol=1e-12)
    np.testing.assert_allclose(table[label, np.arange(n)], table.min(0), rtol=1e-12)
    assert label[sources].tolist() == list(range(len(sources)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), side=st.integers(2, 12), n_sources=st.integers(1, 4))
def test_ties_go_to_the_first_source(seed, side, n_sources):
    graph = grid_graph(side)
    sources = np.random.default_rng(seed).permutation(side**2)[:n_sources]
    distance, label = multi_source(graph, sources)
    table = floyd_warshall(graph)[sources]
    np.testing.assert_array_equal(distance, table.min(0))
    np.testing.assert_array_equal(label, table.argmin(0))


def test_repeated_sources_are_refused():
    with pytest.raises(InputError, match="3 sources, 2 of them distinct"):
        multi_source(grid_graph(3), np.array([1, 4, 1]))


def test_unreachable_nodes_are_refused():
    points = np.array([[0.0], [1.0], [10.0], [11.0]])
    with pytest.raises(InputError, match="2 of 4 nodes cannot be reached"):
        multi_source(knn_graph(points, 1), np.array([0]))


def test_cutting_keeps_only_edges_inside_cells():
    graph = grid_graph(6)
    label = np.random.default_rng(0).integers(3, size=36)
    dense = graph.toarray() * (label[:, None] == label)
    np.testing.assert_array_equal(cut_between_cells(graph, label).toarray(), dense)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(5, 120), data=st.data())
def test_moving_medoids_never_costs(seed, n, data):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 2)) ** 3
    graph = connected(points, data.draw(st.integers(1, min(n - 1, 6))))
    weights = rng.integers(1, 4, size=n).astype(float)
    cells = Cells.around(graph, rng.permutation(n)[: data.draw(st.integers(1, n))])
    for step in range(4):
        better = improve_medoids(graph, cells, points, weights, np.random.default_rng(step))
        assert better.mean_square(weights) <= cells.mean_square(weights) * (1 + 1e-12)
        assert len(set(better.medoids)) == len(cells.medoids)
        cells = better


def test_finds_the_medoid_of_a_path():
    points = np.arange(101.0)[:, None]
    graph = connected(points, 2)
    cells = Cells.around(graph, np.array([0]))
    cells = improve_medoids(graph, cells, points, np.ones(101), np.random.default_rng(0))
    assert cells.medoids.tolist() == [50]


def test_pivots_improve_where_the_mean_is_no_guide():
    angle = np.linspace(0, 1.9 * np.pi, 400)  # the mean of an open ring lies in its hole
    points = np.c_[np.cos(angle), np.sin(angle)]
    graph = connected(points, 4)
    cells = Cells.around(graph, np.array([10]))
    for step in range(80):
        cells = improve_medoids(graph, cells, points, np.ones(400), np.random.default_rng(step))
    best = np.square(floyd_warshall(graph)).mean(1).min()
    assert cells.mean_square(np.ones(400)) < 1.02 * best


def test_snapping_gives_every_center_its_own_point():
    points = np.array([[0.0], [0.2], [1.0], [1.1], [9.0]])
    centers = np.array([[0.15], [1.04], [50.0], [70.0]])
    label = np.array([0, 0, 1, 1, 1])
    assert snap_to_points(points, centers, label).tolist() == [1, 2, 4, 0]
