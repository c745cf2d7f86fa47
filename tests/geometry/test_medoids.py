"""Medoids of the cells of a graph, and how they move."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import floyd_warshall
from some_graphs import connected, grid_graph

from geovq.geometry import Cells, cut_between_cells, improve_medoids, snap_to_points


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
    power = data.draw(st.sampled_from([1, 2]))
    cells = Cells.around(graph, rng.permutation(n)[: data.draw(st.integers(1, n))])
    for _ in range(4):
        better = improve_medoids(graph, cells, points, weights, power)
        assert better.mean_cost(weights, power) <= cells.mean_cost(weights, power) * (1 + 1e-12)
        assert len(set(better.medoids)) == len(cells.medoids)
        cells = better


def test_finds_the_medoid_of_a_path():
    points = np.arange(101.0)[:, None]
    graph = connected(points, 2)
    cells = Cells.around(graph, np.array([0]))
    cells = improve_medoids(graph, cells, points, np.ones(101), 2)
    assert cells.medoids.tolist() == [50]


def test_the_power_says_how_far_points_count():
    """On a line with most points at one end, the median minimises lengths and the mean their squares."""
    points = np.concatenate([np.linspace(0, 1, 80), np.linspace(1, 10, 21)[1:]])[:, None]
    graph = connected(points, 2)
    found = {}
    for power in (1, 2):
        cells = Cells.around(graph, np.array([0]))
        for _ in range(30):
            cells = improve_medoids(graph, cells, points, np.ones(100), power)
        found[power] = float(points[cells.medoids[0], 0])
        costs = (np.abs(points - points.T) ** power).mean(1)
        assert cells.mean_cost(np.ones(100), power) <= 1.02 * costs.min()
    assert found[1] < 0.8 < found[2]


def test_a_step_looks_beyond_no_cell():
    """Medoids are compared on the graph cut between cells, where no path is shorter than on the whole."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 2))
    graph = connected(points, 5)
    cells = Cells.around(graph, rng.permutation(200)[:8])
    inside = floyd_warshall(cut_between_cells(graph, cells.label))
    whole = floyd_warshall(graph)
    together = cells.label[:, None] == cells.label
    assert (inside[together] >= whole[together]).all()
    # From a medoid itself they are equal: a shortest path to a medoid never leaves its cell.
    for label, medoid in enumerate(cells.medoids):
        members = cells.label == label
        np.testing.assert_allclose(inside[medoid, members], whole[medoid, members], rtol=1e-12)


def test_paths_lead_where_the_mean_is_no_guide():
    angle = np.linspace(0, 1.9 * np.pi, 400)  # the mean of an open ring lies in its hole
    points = np.c_[np.cos(angle), np.sin(angle)]
    graph = connected(points, 4)
    cells = Cells.around(graph, np.array([10]))
    for _ in range(20):
        cells = improve_medoids(graph, cells, points, np.ones(400), 2)
    best = np.square(floyd_warshall(graph)).mean(1).min()
    assert cells.mean_cost(np.ones(400), 2) < 1.02 * best


def test_snapping_gives_every_center_its_own_point():
    points = np.array([[0.0], [0.2], [1.0], [1.1], [9.0]])
    centers = np.array([[0.15], [1.04], [50.0], [70.0]])
    label = np.array([0, 0, 1, 1, 1])
    assert snap_to_points(points, centers, label).tolist() == [1, 2, 4, 0]
