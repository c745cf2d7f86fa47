"""k-NN graphs, their edge lengths and the bridges between their components."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import cdist

from geovq.errors import InputError
from geovq.geometry import EDGES, connect, edge_lengths, knn_graph


def normal(seed, n, d):
    return np.random.default_rng(seed).normal(size=(n, d))


def lengths_by_definition(name, m, s, m2, s2):
    if name == "euclidean":
        return np.linalg.norm(m - m2)
    if name == "wasserstein":
        return np.sqrt(((m - m2) ** 2).sum() + ((s - s2) ** 2).sum())
    return np.sqrt(sum((a - b) ** 2 * (p**-2 + q**-2) / 2 for a, b, p, q in zip(m, m2, s, s2, strict=True)))


@pytest.mark.parametrize("name", sorted(EDGES))
def test_edges_have_the_lengths_of_their_definition(name):
    means, sigmas = normal(0, 40, 3), np.exp(normal(1, 40, 3))
    graph = knn_graph(means, 5, sigmas, edges=EDGES[name]).tocoo()
    expected = [
        lengths_by_definition(name, means[i], sigmas[i], means[j], sigmas[j])
        for i, j in zip(graph.row, graph.col, strict=True)
    ]
    np.testing.assert_allclose(graph.data, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["wasserstein", "precision"])
def test_edges_of_gaussians_need_sigma(name):
    with pytest.raises(InputError, match=f"edges '{name}' measure Gaussians"):
        knn_graph(normal(0, 10, 2), 3, edges=EDGES[name])


def test_unknown_edges_are_named_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'wasserstein'"):
        edge_lengths("waserstein")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 50), d=st.integers(1, 10), data=st.data())
def test_joins_points_if_either_is_near_the_other(seed, n, d, data):
    k = data.draw(st.integers(1, n - 1))
    points = normal(seed, n, d)
    exact = cdist(points, points)
    order = np.argsort(exact + np.diag([-1.0] * n), axis=1)[:, 1 : k + 1]
    near = np.zeros((n, n), dtype=bool)
    np.put_along_axis(near, order, True, axis=1)
    expected = np.where(near | near.T, exact, 0.0)
    np.testing.assert_allclose(knn_graph(points, k).toarray(), expected, rtol=1e-12, atol=1e-15)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), n_sites=st.integers(1, 6), copies=st.integers(2, 5))
def test_points_that_coincide_stay_neighbours(seed, n_sites, copies):
    points = np.tile(normal(seed, n_sites, 2), (copies, 1))
    graph = knn_graph(points, copies - 1)
    assert connected_components(graph)[0] == n_sites
    assert graph.nnz == n_sites * copies * (copies - 1)
    assert (graph.data > 0).all()
    assert graph.data.max() <= 1e-12


def test_mutual_edges_are_not_added_up():
    graph = knn_graph(np.array([[0.0], [1.0], [5.0]]), 1)
    assert graph.toarray().tolist() == [[0, 1, 0], [1, 0, 4], [0, 4, 0]]


@pytest.mark.parametrize("k", [0, 5])
def test_impossible_numbers_of_neighbours_are_refused(k):
    with pytest.raises(InputError, match="expected 1 <= n_neighbors < 5"):
        knn_graph(normal(0, 5, 2), k)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=12),
    d=st.sampled_from([1, 2, 10]),
)
def test_bridges_are_a_spanning_tree_of_the_gaps(seed, sizes, d):
    rng = np.random.default_rng(seed)
    clusters = [100 * rng.normal(size=d) + 1e-3 * rng.normal(size=(size, d)) for size in sizes]
    points = rng.permutation(np.concatenate(clusters))
    graph = knn_graph(points, 1)
    n_components, component = connected_components(graph)
    joined, bridges = connect(graph, points)
    assert connected_components(joined)[0] == 1
    assert bridges.count == n_components - 1
    exact = cdist(points, points)
    gaps = np.array(
        [
            [
                exact[np.ix_(component == a, component == b)].min() if a != b else 0
                for b in range(n_components)
            ]
            for a in range(n_components)
        ]
    )
    expected = minimum_spanning_tree(gaps).sum()
    np.testing.assert_allclose(bridges.total_length, expected, rtol=1e-9)
    assert abs(joined - joined.T).nnz == 0
    assert joined.nnz == graph.nnz + 2 * bridges.count


def test_ties_between_components_add_no_ring():
    square = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    points = np.concatenate([square, square + np.array([0.1, 0])])
    joined, bridges = connect(knn_graph(points, 1), points)
    assert bridges.count == 3
    assert joined.nnz == 8 + 6


def test_a_connected_graph_stays_as_it_is():
    points = normal(0, 100, 2)
    graph = knn_graph(points, 20)
    joined, bridges = connect(graph, points)
    assert (bridges.count, bridges.total_length) == (0, 0.0)
    assert (joined != graph).nnz == 0


def test_bridges_have_the_length_of_the_named_edges():
    means = np.array([[0.0], [1.0], [50.0], [51.0]])
    sigmas = np.full((4, 1), 0.5)
    graph = knn_graph(means, 1, sigmas, EDGES["precision"])
    _, bridges = connect(graph, means, sigmas, EDGES["precision"])
    assert (bridges.count, bridges.total_length) == (1, 98.0)
