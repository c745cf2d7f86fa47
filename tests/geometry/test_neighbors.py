"""Neighbours by tree, by comparison with all and by a graph search, against all distances."""

import pickle

import faiss
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from geovq.errors import InputError
from geovq.geometry import NeighborIndex, candidates

DIGITS = load_digits().data
TIERS = ["tree", "all", "graph"]


def normal(seed, n, d):
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.fixture
def small_graphs(monkeypatch):
    """Graph searches from 500 points on, with any effort."""
    monkeypatch.setattr(candidates, "EXACT_POINTS", 500)
    monkeypatch.setattr(candidates, "POINTS_AN_EFFORT", 1)


@pytest.fixture(params=TIERS)
def width(request):
    """How many dimensions lead to each way of searching."""
    if request.param == "graph":
        request.getfixturevalue("small_graphs")
    return 3 if request.param == "tree" else 12


def clumps(d, width):
    """Five clumps of 40 points, at a distance of about 1 from each other."""
    sites = np.repeat(normal(0, 5, d), 40, axis=0)
    return sites + width * normal(1, 200, d)


@pytest.mark.parametrize("d", [1, 3, 8, 9, 40])
def test_distances_are_the_smallest(d):
    points, queries = normal(d, 300, d), normal(d + 1, 50, d)
    found = NeighborIndex(points).query(queries, 12)
    np.testing.assert_array_equal(found, np.argsort(cdist(queries, points), axis=1)[:, :12])


@pytest.mark.parametrize("d", [4, 16])
def test_far_from_the_origin_and_in_any_unit(d):
    points = normal(0, 200, d)
    expected = NeighborIndex(points).others(5)
    for moved in (points * 1e-30, points * 1e100, points + 1e5):
        np.testing.assert_array_equal(NeighborIndex(moved).others(5), expected)


@pytest.mark.parametrize("d", [3, 12])
def test_neighbours_nearer_than_float32_can_tell_are_found(d):
    points = clumps(d, 1e-7)
    exact = cdist(points, points)
    np.fill_diagonal(exact, np.inf)
    others = NeighborIndex(points).others(6)
    np.testing.assert_array_equal(others, np.argsort(exact, axis=1)[:, :6])


def test_the_result_for_a_query_does_not_depend_on_the_others(width):
    points = np.concatenate([clumps(width, 1e-3), np.round(normal(2, 500, width))])
    index = NeighborIndex(points)
    together = index.query(points[:60], 9)
    alone = [index.query(point[None], 9)[0] for point in points[:60]]
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(index.query(points[59::-1], 9), together[::-1])


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


def test_a_graph_search_finds_nearly_all_neighbours_and_says_how_many(small_graphs):
    points = normal(0, 4000, 40)  # so wide that the least effort does not do
    index = NeighborIndex(points)
    assert index.recall == 1
    others = index.others(15)
    exact = cdist(points, points)
    np.fill_diagonal(exact, np.inf)
    farthest = np.sort(exact, axis=1)[:, 14:15] * (1 + 1e-12)
    found = np.take_along_axis(exact, others.astype(np.int64), axis=1)
    recall = (found <= farthest).mean()
    assert 0.985 < recall < 1
    assert 0.99 <= index.recall < 1
    assert abs(index.recall - recall) < 0.005
    assert index._candidates._efforts[16] > candidates.LEAST_EFFORT
    np.testing.assert_array_equal(
        index.query(points[:200], 10, exact=True), np.argsort(cdist(points[:200], points), axis=1)[:, :10]
    )


def test_points_at_equal_distance_count_alike(small_graphs):
    lattice = np.stack(np.meshgrid(*[np.arange(4.0)] * 5), axis=-1).reshape(-1, 5)
    points = np.concatenate([lattice, np.zeros((len(lattice), 5))], axis=1)
    index = NeighborIndex(points)
    others = index.others(3)  # of five and more neighbours at distance 1
    assert index.recall > 0.99
    assert (np.square(points[:, None] - points[others]).sum(2) == 1).mean() > 0.99


def test_the_same_points_give_the_same_graph_whatever_the_threads(small_graphs):
    points, threads = normal(0, 3000, 12), faiss.omp_get_max_threads()
    links, found = [], []
    try:
        for count in (1, 4, 4):
            faiss.omp_set_num_threads(count)
            index = NeighborIndex(points)
            found.append(index.others(8))
            assert faiss.omp_get_max_threads() == count
            links.append(faiss.vector_to_array(index._candidates._graph.hnsw.neighbors))
    finally:
        faiss.omp_set_num_threads(threads)
    for i in (1, 2):
        assert np.array_equal(links[0], links[i])
        assert np.array_equal(found[0], found[i])


def test_where_threads_would_matter_one_builds_the_graph(small_graphs, monkeypatch):
    monkeypatch.delattr(faiss, "hnsw_add_vertices_deterministic", raising=False)
    add, used, threads = faiss.IndexHNSWFlat.add, [], faiss.omp_get_max_threads()

    def spied(self, points):
        used.append(faiss.omp_get_max_threads())
        add(self, points)

    monkeypatch.setattr(faiss.IndexHNSWFlat, "add", spied)
    try:
        faiss.omp_set_num_threads(3)
        NeighborIndex(normal(0, 600, 12)).others(4)
        assert (used, faiss.omp_get_max_threads()) == ([1], 3)
    finally:
        faiss.omp_set_num_threads(threads)


def test_a_search_that_misses_too_much_gives_way_to_an_exact_one(small_graphs, monkeypatch):
    monkeypatch.setattr(candidates, "POINTS_AN_EFFORT", 10**6)
    points = normal(0, 3000, 60)
    index = NeighborIndex(points)
    with pytest.warns(UserWarning, match=r"found \d\d\.\d% of the nearest neighbours of 3000 points of 60"):
        others = index.others(10)
    exact = cdist(points, points)
    np.fill_diagonal(exact, np.inf)
    np.testing.assert_array_equal(others, np.argsort(exact, axis=1)[:, :10])
    assert index.recall == 1


def test_queries_that_the_graph_leads_nowhere_are_compared_with_all(small_graphs, monkeypatch):
    points = normal(0, 1000, 12)
    index = NeighborIndex(points)
    expected = index.query(points, 6)
    search = candidates.CandidateSearch._searched

    def losing(self, queries, count, effort):
        found = search(self, queries, count, effort)
        found[::3, count - 1 :] = -1
        return found

    monkeypatch.setattr(candidates.CandidateSearch, "_searched", losing)
    np.testing.assert_array_equal(index.query(points, 6)[::3], index.query(points, 6, exact=True)[::3])
    np.testing.assert_array_equal(index.query(points, 6)[1::3], expected[1::3])


def test_pickles_its_points_alone(width):
    index = NeighborIndex(normal(0, 600, width))
    before = index.others(3), index.query(index.points, 3)
    copy = pickle.loads(pickle.dumps(index))
    assert set(vars(copy)) == {"points"}
    np.testing.assert_array_equal(copy.others(3), before[0])
    np.testing.assert_array_equal(copy.query(copy.points, 3), before[1])


def test_no_queries_give_no_neighbours(width):
    assert NeighborIndex(normal(0, 600, width)).query(np.empty((0, width)), 3).shape == (0, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e200])
def test_coordinates_that_cannot_be_compared_are_refused(value, width):
    points = normal(0, 600, width)
    index = NeighborIndex(points)
    points[[4, 7], 1] = value
    with pytest.raises(InputError, match=r"points: 2 of 600 rows .* the first of them row 4"):
        NeighborIndex(points)
    with pytest.raises(InputError, match=r"queries: 1 of 3 rows .* row 2"):
        index.query(points[2:5], 1)


def test_more_neighbours_than_points_are_refused():
    index = NeighborIndex(normal(0, 5, 2))
    with pytest.raises(InputError, match="6 neighbours asked for among 5 points"):
        index.query(np.zeros((1, 2)), 6)
    with pytest.raises(InputError, match="6 neighbours"):
        index.others(5)
