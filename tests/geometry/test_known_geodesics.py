"""Paths on graphs of surfaces whose geodesics are known, and what moving the points must not change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import dijkstra

from geovq.geometry import DATA_EDGES, Latents, multi_source, neighbor_graph
from geovq.quantizers import GeodesicQuantizer

N, N_NEIGHBORS = 4000, 15


def sphere(rng):
    points = rng.normal(size=(N, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points, lambda i: np.arccos(np.clip(points @ points[i], -1, 1))


def torus(rng):
    """The flat torus in four dimensions, of radii 1 and 1/2."""
    angles, radii = rng.uniform(0, 2 * np.pi, size=(N, 2)), np.array([1.0, 0.5])
    points = np.concatenate([radii * np.cos(angles), radii * np.sin(angles)], axis=1)

    def distances(i):
        turned = np.abs(angles - angles[i])
        return np.linalg.norm(radii * np.minimum(turned, 2 * np.pi - turned), axis=1)

    return points, distances


def swiss_roll(rng):
    turn, height = rng.uniform(1.5 * np.pi, 4.5 * np.pi, N), rng.uniform(0, 20, N)
    points = np.stack([turn * np.cos(turn), height, turn * np.sin(turn)], axis=1)
    length = (turn * np.sqrt(1 + turn**2) + np.arcsinh(turn)) / 2  # of the spiral r = turn
    return points, lambda i: np.hypot(length - length[i], height - height[i])


@pytest.mark.parametrize("surface", [sphere, torus, swiss_roll])
def test_paths_follow_the_surface(surface):
    points, known = surface(np.random.default_rng(0))
    graph = neighbor_graph(Latents(points), N_NEIGHBORS)
    assert graph.report.n_bridges == 0
    for source in range(0, N, 800):
        paths, truth = dijkstra(graph.lengths, indices=source), known(source)
        far = truth > np.quantile(truth, 0.2)  # near points are a step or two away: paths zigzag to them
        ratio = paths[far] / truth[far]
        assert ratio.min() > 0.98  # chords of the surface are shorter than it, but hardly
        assert ratio.max() < 1.15
        assert np.median(ratio) < 1.07
        straight = np.linalg.norm(points[far] - points[source], axis=1)
        assert np.mean(np.abs(straight / truth[far] - 1)) > 2 * np.mean(np.abs(ratio - 1))


def test_lengths_and_not_hops_measure_distance_where_density_changes():
    """Unweighted paths would count a dense stretch as long (Alamgir and von Luxburg 2012)."""
    rng = np.random.default_rng(0)
    points = np.sort(np.concatenate([rng.uniform(0, 1, 1800), rng.uniform(1, 2, 200)]))[:, None]
    graph = neighbor_graph(Latents(points), 6).lengths
    start, middle, end = 0, int(np.searchsorted(points[:, 0], 1)), len(points) - 1
    lengths = dijkstra(graph, indices=middle)
    assert lengths[start] == pytest.approx(lengths[end], rel=0.02)
    hops = dijkstra(graph, indices=middle, unweighted=True)
    assert hops[start] > 5 * hops[end]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), edges=st.sampled_from(sorted(DATA_EDGES)), exponent=st.integers(-20, 20))
def test_what_moves_all_points_alike_changes_no_cell(seed, edges, exponent):
    rng = np.random.default_rng(seed)
    means, sigmas = rng.normal(size=(150, 3)), rng.uniform(0.5, 2, size=(150, 3))
    medoids = rng.permutation(150)[:6]

    def cells(latents, sources):
        return multi_source(neighbor_graph(latents, 5, DATA_EDGES[edges]).lengths, sources)

    distance, label = cells(Latents(means, sigmas), medoids)
    order = rng.permutation(150)
    place = np.argsort(order)
    shuffled = cells(Latents(means[order], sigmas[order]), place[medoids])
    np.testing.assert_array_equal(shuffled[1], label[order])
    np.testing.assert_allclose(shuffled[0], distance[order], rtol=1e-12)
    scale = 2.0**exponent
    scaled = cells(Latents(scale * means, scale * sigmas), medoids)
    np.testing.assert_array_equal(scaled[1], label)
    grown = 1.0 if edges == "precision" else scale  # a precision-weighted length has no unit
    np.testing.assert_allclose(scaled[0], grown * distance, rtol=1e-12)
    moved = cells(Latents(means + 3.0, sigmas), medoids)
    np.testing.assert_allclose(moved[0], distance, rtol=1e-9)
    if edges == "euclidean":
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turned = cells(Latents(means @ rotation), medoids)
        np.testing.assert_allclose(turned[0], distance, rtol=1e-9)
        np.testing.assert_array_equal(turned[1], label)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-10, 10))
def test_scale_changes_no_code(seed, exponent):
    points = np.random.default_rng(seed).normal(size=(200, 3))
    codes = GeodesicQuantizer(8, n_neighbors=6, random_state=0).fit_predict(points)
    scaled = GeodesicQuantizer(8, n_neighbors=6, random_state=0).fit_predict(2.0**exponent * points)
    np.testing.assert_array_equal(scaled, codes)
