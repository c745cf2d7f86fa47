"""Shortest paths against all-pairs tables."""

import tracemalloc
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra, floyd_warshall, minimum_spanning_tree
from some_graphs import connected, grid_graph

from geovq.errors import InputError
from geovq.geometry import Latents, farthest_first, knn_graph, multi_source, shortest_path


def random_graph(rng, n):
    """Connected, of any shape, with integer lengths from 1 to 4."""
    lengths = np.triu(rng.integers(1, 5, size=(n, n)), 1).astype(float)
    tree = minimum_spanning_tree(rng.permutation(n)[:, None] + lengths).toarray() > 0
    kept = np.triu((tree | tree.T) | (rng.random((n, n)) < rng.random() * 0.3), 1)
    return csr_matrix(kept * lengths + (kept * lengths).T)


def farthest_first_by_definition(table, count, start):
    nodes = [start]
    while len(nodes) < count:
        nodes.append(int(table[nodes].min(0).argmax()))
    return nodes


def test_labels_and_distances_are_those_of_all_pairs_on_500_graphs():
    rng = np.random.default_rng(0)
    for _ in range(500):
        n = int(rng.integers(2, 25))
        graph = random_graph(rng, n)
        sources = rng.permutation(n)[: rng.integers(1, n + 1)]
        table = floyd_warshall(graph)[sources]
        distance, label = multi_source(graph, sources)
        np.testing.assert_array_equal(distance, table.min(0))
        np.testing.assert_array_equal(label, table.argmin(0))  # the first of those tied
        assert label.dtype == np.int64


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


def test_memory_does_not_grow_with_the_number_of_sources():
    n, n_sources = 20_000, 2_000
    graph = connected(np.random.default_rng(0).normal(size=(n, 2)), 6)
    sources = np.random.default_rng(1).permutation(n)[:n_sources]
    tracemalloc.start()
    try:
        multi_source(graph, sources)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6  # all distances from all sources would be 320 MB


def test_repeated_sources_are_refused():
    with pytest.raises(InputError, match="3 sources, 2 of them distinct"):
        multi_source(grid_graph(3), np.array([1, 4, 1]))


def test_unreachable_nodes_are_refused():
    points = np.array([[0.0], [1.0], [10.0], [11.0]])
    with pytest.raises(InputError, match="2 of 4 nodes cannot be reached"):
        multi_source(knn_graph(Latents(points), 1), np.array([0]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), data=st.data())
def test_a_shortest_path_has_the_shortest_length(seed, n, data):
    graph = random_graph(np.random.default_rng(seed), n)
    start, end = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    nodes = shortest_path(graph, start, end)
    assert (nodes[0], nodes[-1]) == (start, end)
    assert len(set(nodes.tolist())) == len(nodes)
    steps = [graph[a, b] for a, b in pairwise(nodes)]
    assert all(step > 0 for step in steps)
    assert sum(steps) == floyd_warshall(graph)[start, end]


def test_paths_that_do_not_exist_are_refused():
    graph = knn_graph(Latents(np.array([[0.0], [1.0], [10.0], [11.0]])), 1)
    assert shortest_path(graph, 2, 2).tolist() == [2]
    with pytest.raises(InputError, match="no path joins nodes 0 and 3"):
        shortest_path(graph, 0, 3)
    for nodes in ((0, 4), (-1, 0)):
        with pytest.raises(InputError, match="in a graph of 4 nodes"):
            shortest_path(graph, *nodes)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), data=st.data())
def test_farthest_first_takes_what_its_definition_takes(seed, n, data):
    rng = np.random.default_rng(seed)
    count, start = data.draw(st.integers(1, n)), data.draw(st.integers(0, n - 1))
    graph = random_graph(rng, n)
    found = farthest_first(graph, count, start)
    assert found.tolist() == farthest_first_by_definition(floyd_warshall(graph), count, start)
    assert len(set(found.tolist())) == count


def test_farthest_first_on_measured_lengths_equals_searches_without_a_limit():
    graph = connected(np.random.default_rng(0).normal(size=(1000, 3)), 6)
    table = dijkstra(graph)
    assert farthest_first(graph, 60, 17).tolist() == farthest_first_by_definition(table, 60, 17)


def test_farthest_first_covers_within_twice_the_least_radius():
    rng = np.random.default_rng(0)
    for _ in range(30):
        table = floyd_warshall(random_graph(rng, 9))
        found = farthest_first(csr_matrix(table), 3, int(rng.integers(9)))
        least = min(table[list(chosen)].min(0).max() for chosen in combinations(range(9), 3))
        assert table[found].min(0).max() <= 2 * least


def test_farthest_first_visits_every_component_before_one_twice():
    points = np.array([[0.0], [1.0], [10.0], [11.0], [30.0], [32.0]])
    assert farthest_first(knn_graph(Latents(points), 1), 6, 3).tolist() == [3, 0, 4, 5, 1, 2]


def test_farthest_first_refuses_impossible_counts_and_nodes():
    for count in (0, 10):
        with pytest.raises(InputError, match=f"count is {count} for 9 nodes"):
            farthest_first(grid_graph(3), count, 0)
    with pytest.raises(InputError, match="node 9 in a graph of 9 nodes"):
        farthest_first(grid_graph(3), 2, 9)
