"""Eager swaps of medoids against brute force on small matrices, and against FasterPAM of another hand."""

import kmedoids
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist
from sklearn.neighbors import kneighbors_graph

from geovq.errors import InputError
from geovq.geometry.swaps import MedoidTable, faster_pam, improve_by_swaps


def cost_of(distances, medoids, weights, power=1):
    return float(weights @ distances[medoids].min(0) ** power)


def brute_changes(costs, medoids, weights):
    """(n, K): the cost with every point in the place of every medoid, less the cost."""
    now = cost_of(costs, medoids, weights)
    changes = np.empty((len(costs), len(medoids)))
    for point in range(len(costs)):
        for position in range(len(medoids)):
            swapped = medoids.copy()
            swapped[position] = point
            changes[point, position] = cost_of(costs, swapped, weights) - now
    return changes


def swapped_with(distances, medoids, **changed):
    n = distances.shape[1]
    given = {"n_points": n, "weights": np.ones(n), "power": 1, "candidates": np.arange(n), **changed}
    return improve_by_swaps(distances.__getitem__, medoids, **given)


def graph_distances(rng, n):
    points = rng.normal(size=(n, 2)) ** 3
    graph = kneighbors_graph(points, 8, mode="distance")
    distances = shortest_path(graph.maximum(graph.T))
    reached = np.isfinite(distances[0])
    return np.ascontiguousarray(distances[reached][:, reached])


@st.composite
def problems(draw, most=40):
    """Distances of points, or of few places on a line with ties; distinct medoids; weights; a generator."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n = draw(st.integers(1, most))
    points = rng.integers(0, 6, size=(n, 1)) if draw(st.booleans()) else rng.normal(size=(n, 3))
    distances = cdist(points, points).astype(draw(st.sampled_from([np.float32, np.float64])))
    medoids = rng.permutation(n)[: draw(st.integers(1, n))]
    weights = rng.uniform(0.5, 3, size=n) if draw(st.booleans()) else np.ones(n)
    return distances, medoids, weights, rng


def with_unknown(distances, medoids, rng, share):
    """Distances of which some are infinite, but every point's to one of the medoids is known."""
    known = rng.random(distances.shape) > share
    columns = np.arange(len(distances))
    known[medoids[rng.integers(len(medoids), size=len(distances))], columns] = True
    return np.where(known, distances, np.inf).astype(distances.dtype)


@settings(max_examples=60, deadline=None)
@given(problem=problems(most=15), share=st.sampled_from([0, 0.3, 0.9]))
def test_changes_are_those_of_brute_force(problem, share):
    distances, medoids, weights, rng = problem
    costs = with_unknown(distances, medoids, rng, share)
    table = MedoidTable(medoids, costs[medoids], weights)
    others = np.setdiff1d(np.arange(len(costs)), medoids)
    for _ in range(3):
        expected = brute_changes(costs.astype(float), table.medoids, weights)[others]
        changes = table.changes(costs[others])
        np.testing.assert_array_equal(np.isinf(changes), np.isinf(expected))
        np.testing.assert_allclose(changes, expected, rtol=1e-12, atol=1e-12)
        possible = np.argwhere(np.isfinite(expected))
        if len(possible) == 0:
            break
        row, position = possible[rng.integers(len(possible))]
        with_it = table.cost_with(position, costs[others[row]])
        assert with_it == pytest.approx(table.cost + expected[row, position], abs=1e-9)
        outgoing = table.medoids[position]
        table.swap(position, others[row], costs[others[row]])
        assert table.cost == pytest.approx(with_it, rel=1e-12, abs=1e-12)
        others[row] = outgoing


@settings(max_examples=60, deadline=None)
@given(problem=problems(), power=st.sampled_from([1, 2]), seed=st.integers(0, 99))
def test_no_single_swap_gains_at_the_end(problem, power, seed):
    distances, start, weights, _ = problem
    found = faster_pam(distances, len(start), seed, start=start, power=power, weights=weights)
    costs = (distances**power).astype(float)
    assert found.converged
    assert found.cost == pytest.approx(cost_of(costs, found.medoids, weights), rel=1e-12)
    assert found.cost <= cost_of(costs, start, weights) * (1 + 1e-15)
    assert len(set(found.medoids)) == len(start)
    # Brute force adds up in another order, so that rounding may show where nothing is to be gained.
    assert brute_changes(costs, found.medoids, weights).min() >= -1e-12 * costs.max() * weights.sum()


@settings(max_examples=60, deadline=None)
@given(problem=problems(), share=st.sampled_from([0.2, 0.7, 1.0]))
def test_unknown_distances_never_make_a_swap_look_better(problem, share):
    distances, medoids, weights, rng = problem
    limited = with_unknown(distances, medoids, rng, share)
    found = swapped_with(limited, medoids, weights=weights, candidates=rng.permutation(len(distances)))
    assert found.cost == pytest.approx(cost_of(limited, found.medoids, weights), rel=1e-6)
    assert found.cost <= cost_of(limited.astype(float), medoids, weights) * (1 + 1e-15)
    assert cost_of(distances.astype(float), found.medoids, weights) <= found.cost * (1 + 1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 25), data=st.data())
def test_a_weight_is_a_point_repeated(seed, n, data):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 50, size=(n, 1))
    times = rng.integers(1, 5, size=n)
    medoids = rng.permutation(n)[: data.draw(st.integers(1, n - 1))]
    order = rng.permutation(n)
    once = swapped_with(
        cdist(points, points), medoids, weights=times.astype(float), candidates=order, power=2
    )
    repeated = cdist(points, np.repeat(points, times, axis=0))
    many = swapped_with(repeated, medoids, candidates=order, power=2)
    np.testing.assert_array_equal(once.medoids, many.medoids)
    assert once.cost == many.cost


def test_power_two_is_power_one_of_squared_distances():
    points = np.random.default_rng(0).normal(size=(300, 3))
    distances = cdist(points, points)
    squared = faster_pam(distances**2, 12, seed=0)
    found = faster_pam(distances, 12, seed=0, power=2)
    np.testing.assert_array_equal(found.medoids, squared.medoids)
    assert found == type(found)(found.medoids, squared.cost, squared.n_swaps, squared.n_columns, True)


@pytest.mark.parametrize("kind", ["uniform", "normal", "graph"])
def test_as_good_as_faster_pam_of_another_hand(kind):
    ours, theirs, n_codes = [], [], 24
    for seed in range(6):
        rng = np.random.default_rng(seed)
        if kind == "graph":
            distances = graph_distances(rng, 600)
        elif kind == "normal":
            points = rng.normal(size=(600, 4))
            distances = cdist(points, points)
        else:
            half = np.triu(rng.random((600, 600)), 1)
            distances = half + half.T
        start = rng.permutation(len(distances))[:n_codes]
        found = faster_pam(distances, n_codes, seed, start=start)
        reference = kmedoids.fasterpam(distances, start.astype(np.uint64), n_cpu=1)
        assert cost_of(distances, reference.medoids.astype(int), np.ones(len(distances))) == pytest.approx(
            reference.loss
        )
        ours.append(found.cost)
        theirs.append(reference.loss)
    assert np.mean(ours) < 1.01 * np.mean(theirs)
    assert min(ours) < 1.01 * min(theirs)


@settings(max_examples=30, deadline=None)
@given(problem=problems())
def test_one_medoid_is_the_best_one(problem):
    distances, _, weights, _ = problem
    found = faster_pam(distances, 1, seed=3, weights=weights)
    expected = (distances.astype(float) @ weights).min()
    assert found.cost == pytest.approx(expected, rel=1e-6)


def test_a_medoid_for_every_point_costs_nothing():
    points = np.random.default_rng(0).normal(size=(20, 2))
    found = faster_pam(cdist(points, points), 20, seed=0)
    assert (found.cost, found.n_swaps, found.converged) == (0, 0, True)
    assert sorted(found.medoids) == list(range(20))


def test_points_that_coincide_share_a_medoid():
    places = np.repeat([[0.0], [5.0], [9.0], [20.0]], 6, axis=0)
    found = faster_pam(cdist(places, places), 4, seed=0, start=np.arange(4))
    assert found.cost == 0
    assert sorted(places[found.medoids, 0]) == [0, 5, 9, 20]


def test_what_only_rounding_gains_is_left():
    found = faster_pam(np.full((30, 30), 0.1), 4, seed=0)
    assert (found.n_swaps, found.converged) == (0, True)
    noise = np.random.default_rng(0).uniform(1 - 1e-15, 1 + 1e-15, size=(30, 30))
    assert faster_pam(noise, 4, seed=0).n_swaps == 0


def test_same_seed_same_result():
    points = np.random.default_rng(0).normal(size=(400, 3))
    distances = cdist(points, points).astype(np.float32)
    once, again, other = (faster_pam(distances, 9, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once.medoids, again.medoids)
    assert (once.cost, once.n_swaps, once.n_columns) == (again.cost, again.n_swaps, again.n_columns)
    assert not np.array_equal(once.medoids, other.medoids)


def test_columns_are_asked_for_in_order_and_counted():
    points = np.random.default_rng(0).normal(size=(500, 2))
    distances, asked = cdist(points, points), []

    def columns(nodes):
        asked.append(nodes)
        return distances[nodes]

    candidates = np.random.default_rng(1).permutation(500)[:90]
    given = {"n_points": 500, "weights": np.ones(500), "power": 1, "candidates": candidates}
    found = improve_by_swaps(columns, np.arange(7), **given)
    tried = np.concatenate(asked)[7:]
    assert len(tried) == found.n_columns > 90
    np.testing.assert_array_equal(tried, np.resize(candidates, len(tried)))
    assert set(found.medoids) <= {*range(7), *candidates}
    assert found.converged


def test_a_search_may_be_cut_short():
    points = np.random.default_rng(0).normal(size=(500, 2))
    distances = cdist(points, points)
    cut = swapped_with(distances, np.arange(20), max_passes=1)
    whole = swapped_with(distances, np.arange(20))
    assert (cut.n_columns, cut.converged) == (500, False)
    assert whole.cost < cut.cost < cost_of(distances, np.arange(20), np.ones(500))


def test_the_given_medoids_are_left_as_they_are():
    distances = cdist(*[np.random.default_rng(0).normal(size=(60, 2))] * 2)
    before, medoids = distances.copy(), np.arange(5)
    assert swapped_with(distances, medoids).n_swaps > 0
    np.testing.assert_array_equal(medoids, np.arange(5))
    np.testing.assert_array_equal(distances, before)


def test_medoids_that_repeat_are_refused():
    with pytest.raises(InputError, match="3 medoids, 2 of them distinct"):
        swapped_with(np.ones((5, 5)), np.array([1, 4, 1]))


def test_points_out_of_reach_of_every_medoid_are_refused():
    distances = np.array([[0, 1, np.inf], [1, 0, np.inf], [np.inf, np.inf, 0]])
    with pytest.raises(InputError, match="1 of 3 points have no known distance to any medoid"):
        swapped_with(distances, np.array([0, 1]))


SQUARE = np.ones((4, 4))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"distances": np.where(np.eye(4) > 0, np.inf, 1.0)}, "in 4 of 4 rows, first in row 0.*disconnected"),
        ({"distances": np.where(np.arange(16).reshape(4, 4) == 9, np.nan, 1.0)}, "first in row 2"),
        ({"distances": -SQUARE}, "negative number in 4 of 4 rows"),
        ({"distances": SQUARE[:3]}, r"shape \(3, 4\); expected floating-point \(n, n\)"),
        ({"distances": SQUARE.astype(int)}, "distances are int64"),
        ({"n_medoids": 5}, "n_medoids is 5 for 4 points"),
        ({"n_medoids": 0}, "n_medoids is 0 for 4 points"),
        ({"start": np.array([0, 1, 2])}, r"start is \[0 1 2\]; expected 2 point numbers"),
        ({"start": np.array([0, 4])}, r"each in 0\.\.3"),
        ({"start": np.array([3, 3])}, "2 medoids, 1 of them distinct"),
        ({"power": 3}, "power is 3; expected 1"),
        ({"weights": np.ones(3)}, r"weights have shape \(3,\); expected 4"),
        ({"weights": np.array([1, 0, 1, 1])}, "expected 4 finite numbers above 0"),
    ],
)
def test_impossible_input_is_refused(changed, message):
    given = {"distances": SQUARE, "n_medoids": 2, "seed": 0, **changed}
    with pytest.raises(InputError, match=message):
        faster_pam(**given)
