"""Swaps on graphs: with all pairs, and with searches that end early."""

import numpy as np
import pytest
from scipy.sparse.csgraph import floyd_warshall

from geovq.errors import InputError
from geovq.geometry import (
    Cells,
    Latents,
    all_pairs,
    faster_pam,
    improve_medoids,
    neighbor_graph,
    polish,
    polish_medoids,
    swaps,
)


def some_graph(seed: int, n: int = 400):
    points = np.random.default_rng(seed).normal(size=(n, 3)) ** 3
    return neighbor_graph(Latents(points), 6).lengths, points


def test_all_pairs_are_those_of_floyd_and_warshall():
    graph, _ = some_graph(0, 700)
    np.testing.assert_allclose(all_pairs(graph), floyd_warshall(graph), rtol=1e-6)


def test_too_many_pairs_are_refused(monkeypatch):
    graph, _ = some_graph(0)
    monkeypatch.setattr("geovq.geometry.pairs.MOST_NODES", 399)
    with pytest.raises(InputError, match=r"all pairs of 400 nodes .* fewer landmarks"):
        all_pairs(graph)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_after_swaps_no_single_swap_gains(seed, power):
    graph, points = some_graph(seed)
    weights = np.random.default_rng(seed).integers(1, 4, size=400).astype(float)
    start = Cells.around(graph, np.random.default_rng(seed).permutation(400)[:12])
    lloyd = improve_medoids(graph, start, points, weights, power)
    polished = polish_medoids(graph, lloyd, weights, power, seed)
    assert polished.mean_cost(weights, power) < lloyd.mean_cost(weights, power)
    table = all_pairs(graph)
    again = faster_pam(table, 12, seed, start=polished.medoids, power=power, weights=weights)
    assert again.n_swaps == 0


@pytest.mark.parametrize("power", [1, 2])
def test_searches_that_end_early_never_make_it_worse(power, monkeypatch):
    monkeypatch.setattr(polish, "ALL_POINTS", 100)
    monkeypatch.setattr(swaps, "ALL_POINTS", 100)
    gains = []
    for seed in range(5):
        graph, _ = some_graph(seed)
        start = Cells.around(graph, np.random.default_rng(seed).permutation(400)[:12])
        polished = polish_medoids(graph, start, np.ones(400), power, seed)
        assert len(set(polished.medoids.tolist())) == 12
        np.testing.assert_array_equal(polished.distance, Cells.around(graph, polished.medoids).distance)
        gains.append(polished.mean_cost(np.ones(400), power) / start.mean_cost(np.ones(400), power))
    assert max(gains) <= 1
    assert np.mean(gains) < 0.9


def test_the_same_seed_swaps_the_same():
    graph, _ = some_graph(1)
    start = Cells.around(graph, np.arange(12))
    once, again = (polish_medoids(graph, start, np.ones(400), 2, 7) for _ in range(2))
    np.testing.assert_array_equal(once.medoids, again.medoids)
