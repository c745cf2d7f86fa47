"""k-NN graphs, and what is reported of them."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from geovq.errors import InputError
from geovq.geometry import (
    DATA_EDGES,
    Latents,
    NeighborIndex,
    graph,
    hub_statistics,
    knn_graph,
    lengths,
    neighbor_graph,
)
from geovq.geometry.edges import EuclideanEdges


def normal(seed, n, d):
    return np.random.default_rng(seed).normal(size=(n, d))


def gaussians(seed, n, d):
    return Latents(normal(seed, n, d), np.exp(normal(seed + 1, n, d)))


class RecordedEdges(EuclideanEdges):
    """Euclidean lengths of edges that are written down; ``spoiled`` ones are NaN."""

    name = "recorded"

    def __init__(self, spoiled=None):
        self.asked, self.spoiled = [], spoiled

    def lengths(self, latents, starts, ends):
        self.asked += zip(starts.tolist(), ends.tolist(), strict=True)
        measured = super().lengths(latents, starts, ends)
        return measured if self.spoiled is None else np.where(starts == 3, self.spoiled, measured)


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
    np.testing.assert_allclose(knn_graph(Latents(points), k).toarray(), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", sorted(DATA_EDGES))
def test_edges_have_the_lengths_that_the_edges_measure(name):
    latents = gaussians(0, 40, 3)
    joined = knn_graph(latents, 5, DATA_EDGES[name]).tocoo()
    expected = DATA_EDGES[name].lengths(latents, joined.row, joined.col)
    np.testing.assert_allclose(joined.data, expected, rtol=1e-12)


def test_neighbours_are_sought_where_the_edges_say():
    latents = Latents(np.zeros((4, 1)), np.array([[1.0], [2.0], [5.0], [6.0]]))
    joined = knn_graph(latents, 1, DATA_EDGES["wasserstein"])
    assert joined.toarray().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


def test_every_edge_is_measured_once_and_from_its_lower_end():
    edges = RecordedEdges()
    joined = knn_graph(Latents(normal(0, 300, 3)), 7, edges)
    assert len(edges.asked) == len(set(edges.asked)) == joined.nnz // 2
    assert all(start < end for start, end in edges.asked)


def test_is_symmetric_and_sorted_without_a_diagonal():
    joined = knn_graph(gaussians(0, 500, 4), 9, DATA_EDGES["precision"])
    assert (joined != joined.T).nnz == 0
    assert joined.has_canonical_format
    assert joined.diagonal().tolist() == [0] * 500
    assert joined.indices.dtype == joined.indptr.dtype == np.int32
    assert joined.data.dtype == np.float64


def test_mutual_edges_are_not_added_up():
    joined = knn_graph(Latents(np.array([[0.0], [1.0], [5.0]])), 1)
    assert joined.toarray().tolist() == [[0, 1, 0], [1, 0, 4], [0, 4, 0]]


def test_a_graph_of_mutual_neighbours_alone_would_fall_apart():
    points = normal(0, 2000, 8)
    nearest = NeighborIndex(points).others(10)
    near = np.zeros((2000, 2000), dtype=bool)
    np.put_along_axis(near, nearest.astype(np.int64), True, axis=1)
    assert connected_components(near & near.T)[0] > 10
    assert connected_components(knn_graph(Latents(points), 10))[0] == 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), n_sites=st.integers(1, 6), copies=st.integers(2, 5))
def test_points_that_coincide_stay_neighbours(seed, n_sites, copies):
    points = np.tile(normal(seed, n_sites, 2), (copies, 1))
    joined = knn_graph(Latents(points), copies - 1)
    assert connected_components(joined)[0] == n_sites
    assert joined.nnz == n_sites * copies * (copies - 1)
    assert (joined.data > 0).all()
    assert joined.data.max() <= 1e-12


@pytest.mark.parametrize("unit", [2.0**-100, 2.0**100])
def test_lengths_that_vanish_have_the_floor_of_the_unit(unit):
    points = normal(0, 100, 2)
    points[1] = points[0]
    joined, scaled = knn_graph(Latents(points), 5), knn_graph(Latents(unit * points), 5)
    assert joined[0, 1] == pytest.approx(1e-12 * np.median(joined.data), rel=0.1)
    np.testing.assert_array_equal(scaled.toarray(), unit * joined.toarray())


def test_the_size_of_a_chunk_changes_nothing(monkeypatch):
    latents = gaussians(0, 300, 3)
    expected = knn_graph(latents, 6, DATA_EDGES["precision"])
    monkeypatch.setattr(graph, "ROWS_A_CHUNK", 7)
    monkeypatch.setattr(lengths, "COORDINATES_A_CHUNK", 33)
    assert (knn_graph(latents, 6, DATA_EDGES["precision"]) != expected).nnz == 0


def test_an_index_at_hand_is_used():
    latents = Latents(normal(0, 100, 3))
    index = NeighborIndex(latents.means)
    assert (knn_graph(latents, 4, index=index) != knn_graph(latents, 4)).nnz == 0
    with pytest.raises(InputError, match="index: of 100 points, but there are 50 latents"):
        knn_graph(latents.take(slice(50)), 4, index=index)


@pytest.mark.parametrize("build", [knn_graph, neighbor_graph])
@pytest.mark.parametrize("k", [0, 5])
def test_impossible_numbers_of_neighbours_are_refused(build, k):
    with pytest.raises(InputError, match="expected 1 <= n_neighbors < 5"):
        build(Latents(normal(0, 5, 2)), k)


@pytest.mark.parametrize("name", ["wasserstein", "precision"])
def test_latents_that_the_edges_cannot_measure_are_refused(name):
    with pytest.raises(InputError, match=f"edges '{name}' measure Gaussians"):
        knn_graph(Latents(normal(0, 10, 2)), 3, DATA_EDGES[name])


@pytest.mark.parametrize("d", [2, 12])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(d, value):
    points = normal(0, 50, d)
    points[9, 1] = value
    with pytest.raises(InputError, match=r"points: 1 of 50 rows are not finite .* row 9"):
        knn_graph(Latents(points), 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_lengths_that_would_spoil_paths_are_refused(value):
    with pytest.raises(InputError, match=r"edges 'recorded': \d+ of \d+ lengths .* between rows 3 and"):
        knn_graph(Latents(normal(0, 50, 2)), 4, RecordedEdges(value))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), n_clusters=st.integers(1, 4), k=st.integers(1, 5))
def test_the_report_says_what_the_graph_is_like(seed, n_clusters, k):
    points = np.concatenate([100 * i + normal(seed + i, 12, 2) for i in range(n_clusters)])
    separate = knn_graph(Latents(points), k)
    whole = neighbor_graph(Latents(points), k)
    report = whole.report
    assert connected_components(whole.lengths)[0] == 1
    added = (whole.lengths - separate).tocoo()
    bridges = added.data[added.row < added.col]
    hubs = hub_statistics(NeighborIndex(points).others(k))
    assert asdict(report) == {
        "n_nodes": len(points),
        "n_edges": separate.nnz // 2,
        "median_length": pytest.approx(np.median(separate.data)),
        "n_components": connected_components(separate)[0],
        "n_bridges": len(bridges),
        "bridge_length": pytest.approx(bridges.sum()),
        "longest_bridge": pytest.approx(bridges.max(initial=0)),
        "max_in_degree": hubs.max_in_degree,
        "in_degree_skew": hubs.skew,
        "antihubs": hubs.antihubs,
        "recall": 1.0,
    }
    assert report.n_bridges == report.n_components - 1
    assert all(type(value) in (int, float) for value in asdict(report).values())


def test_a_graph_in_pieces_can_be_refused():
    points = np.array([[0.0], [1.0], [2.0], [50.0], [51.0], [80.0], [81.0]])
    message = r"into 3 components, the largest with 3 of 7 points; .* up to 48, .* has 1; raise n_neighbors"
    with pytest.raises(InputError, match=message):
        neighbor_graph(Latents(points), 1, allow_bridges=False)
    refused = neighbor_graph(Latents(points), 4, allow_bridges=False)
    assert (refused.lengths != neighbor_graph(Latents(points), 4).lengths).nnz == 0
    assert refused.report.n_components == 1


def test_an_outlier_is_joined_without_a_bridge():
    points = np.concatenate([normal(0, 100, 2), [[1000.0, 0.0]]])
    assert neighbor_graph(Latents(points), 3).report.n_bridges == 0


def test_a_single_node_is_a_graph_without_edges():
    whole = neighbor_graph(Latents(np.ones((1, 3))), 15, allow_bridges=False)
    assert whole.lengths.shape == (1, 1) and whole.lengths.nnz == 0
    assert (whole.report.n_edges, whole.report.n_components, whole.report.n_bridges) == (0, 1, 0)
    assert all(np.isfinite(value) for value in asdict(whole.report).values())
