"""Bridges between the components of a graph."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import cdist

from geovq.errors import InputError
from geovq.geometry import DATA_EDGES, Latents, bridges, candidates, connect, knn_graph
from geovq.geometry.edges import EuclideanEdges


def clusters(seed, sizes, d):
    rng = np.random.default_rng(seed)
    parts = [100 * rng.normal(size=d) + 1e-3 * rng.normal(size=(size, d)) for size in sizes]
    return rng.permutation(np.concatenate(parts))


def gaps(points, component):
    """Least distance between every two components."""
    exact = cdist(points, points)
    parts = range(component.max() + 1)
    return np.array([[exact[np.ix_(component == a, component == b)].min() for b in parts] for a in parts])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=12),
    d=st.sampled_from([1, 2, 10]),
)
def test_bridges_are_a_spanning_tree_of_the_gaps(seed, sizes, d):
    points = clusters(seed, sizes, d)
    graph = knn_graph(Latents(points), 1)
    n_components, component = connected_components(graph)
    joined, added = connect(graph, Latents(points))
    assert connected_components(joined)[0] == 1
    assert added.count == n_components - 1
    expected = minimum_spanning_tree(gaps(points, component))
    np.testing.assert_allclose(added.total_length, expected.sum(), rtol=1e-9)
    np.testing.assert_allclose(np.sort(added.lengths), np.sort(expected.data), rtol=1e-9)
    assert added.longest == added.lengths.max(initial=0)
    assert (joined != joined.T).nnz == 0
    assert joined.nnz == graph.nnz + 2 * added.count
    assert (joined.multiply(graph.astype(bool)) != graph).nnz == 0


def test_ties_between_components_add_no_ring():
    square = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    points = Latents(np.concatenate([square, square + np.array([0.1, 0])]))
    joined, added = connect(knn_graph(points, 1), points)
    assert added.count == 3
    assert joined.nnz == 8 + 6


def test_a_connected_graph_stays_as_it_is():
    points = Latents(np.random.default_rng(0).normal(size=(100, 2)))
    graph = knn_graph(points, 20)
    joined, added = connect(graph, points)
    assert (added.count, added.total_length, added.longest) == (0, 0.0, 0.0)
    assert (joined != graph).nnz == 0


def test_bridges_have_the_length_of_the_named_edges():
    latents = Latents(np.array([[0.0], [1.0], [50.0], [51.0]]), np.full((4, 1), 0.5))
    graph = knn_graph(latents, 1, DATA_EDGES["precision"])
    _, added = connect(graph, latents, DATA_EDGES["precision"])
    assert added.lengths.tolist() == [98.0]


def test_components_that_touch_are_joined_at_the_floor_of_their_lengths():
    touching = Latents(np.array([[0.0], [1e-20], [0.0], [-1e-20]]))
    graph = csr_matrix(([1e-20] * 4, ([0, 1, 2, 3], [1, 0, 3, 2])), shape=(4, 4))
    joined, added = connect(graph, touching)
    assert added.lengths == pytest.approx([1e-32], rel=1e-9, abs=0)
    assert connected_components(joined)[0] == 1


def test_points_without_any_edge_are_joined_by_a_spanning_tree():
    points = np.random.default_rng(0).normal(size=(40, 3))
    joined, added = connect(csr_matrix((40, 40)), Latents(points))
    assert added.count == 39
    assert added.total_length == pytest.approx(minimum_spanning_tree(cdist(points, points)).sum())
    assert connected_components(joined)[0] == 1


def test_very_many_ways_are_searched_approximately_and_still_connect(monkeypatch):
    monkeypatch.setattr(candidates, "EXACT_POINTS", 100)
    monkeypatch.setattr(candidates, "POINTS_AN_EFFORT", 1)
    points = Latents(clusters(0, [300, 300, 300, 5], 10))
    graph = knn_graph(points, 4)
    expected = connect(graph, points)[1]
    monkeypatch.setattr(bridges, "EXACT_PAIRS", 0)
    joined, added = connect(graph, points)
    assert connected_components(joined)[0] == 1
    assert added.count == expected.count == 3
    assert expected.total_length <= added.total_length < 1.01 * expected.total_length


def test_bridges_that_cannot_be_measured_are_refused():
    class FarIsInfinite(EuclideanEdges):
        name = "short"

        def lengths(self, latents, starts, ends):
            measured = super().lengths(latents, starts, ends)
            return np.where(measured > 10, np.inf, measured)

    latents = Latents(np.array([[0.0], [1.0], [50.0], [51.0]]))
    with pytest.raises(InputError, match=r"edges 'short': 1 of 1 lengths .* inf between rows"):
        connect(knn_graph(latents, 1), latents, FarIsInfinite())
