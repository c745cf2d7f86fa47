"""Lengths from the data alone, against their definitions, and edges by name."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.errors import InputError
from geovq.geometry import DATA_EDGES, DECODER_EDGES, EdgeLengths, Latents, edge_lengths

NAMES = sorted(DATA_EDGES)


def gaussians(seed, n, d):
    rng = np.random.default_rng(seed)
    return Latents(rng.normal(size=(n, d)), np.exp(rng.normal(size=(n, d))))


def by_definition(name, m, s, m2, s2):
    if name == "euclidean":
        return np.sqrt(sum((a - b) ** 2 for a, b in zip(m, m2, strict=True)))
    if name == "wasserstein":
        return np.sqrt(((m - m2) ** 2).sum() + ((s - s2) ** 2).sum())
    return np.sqrt(sum((a - b) ** 2 * (p**-2 + q**-2) / 2 for a, b, p, q in zip(m, m2, s, s2, strict=True)))


@pytest.mark.parametrize("name", NAMES)
def test_edges_have_the_lengths_of_their_definition(name):
    nodes, points = gaussians(0, 40, 3), gaussians(1, 10, 3)
    starts, ends = np.random.default_rng(2).integers(40, size=(2, 100))
    expected = [
        by_definition(name, nodes.means[i], nodes.sigmas[i], nodes.means[j], nodes.sigmas[j])
        for i, j in zip(starts, ends, strict=True)
    ]
    np.testing.assert_allclose(DATA_EDGES[name].lengths(nodes, starts, ends), expected, rtol=1e-12)
    found = np.random.default_rng(3).integers(40, size=(10, 5))
    expected = [
        [by_definition(name, points.means[i], points.sigmas[i], nodes.means[j], nodes.sigmas[j]) for j in row]
        for i, row in enumerate(found)
    ]
    np.testing.assert_allclose(DATA_EDGES[name].lengths_to(points, nodes, found), expected, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(NAMES), d=st.integers(1, 6))
def test_lengths_are_symmetric_and_zero_only_to_itself(seed, name, d):
    latents = gaussians(seed, 12, d)
    starts, ends = np.divmod(np.arange(144), 12)
    table = DATA_EDGES[name].lengths(latents, starts, ends).reshape(12, 12)
    np.testing.assert_array_equal(table, table.T)
    assert (np.diag(table) == 0).all() and (table > 0).sum() == 132


@pytest.mark.parametrize("name", ["euclidean", "wasserstein"])
def test_the_pieces_of_a_straight_line_add_up_to_it(name):
    ends = gaussians(0, 2, 4)
    share = np.linspace(0, 1, 11)[:, None]
    line = Latents(*(share * part[0] + (1 - share) * part[1] for part in (ends.means, ends.sigmas)))
    pieces = DATA_EDGES[name].lengths(line, np.arange(10), np.arange(1, 11))
    whole = DATA_EDGES[name].lengths(ends, np.array([0]), np.array([1]))
    np.testing.assert_allclose(pieces.sum(), whole[0], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_float32_points_far_from_the_origin_keep_their_differences(name):
    means = np.array([[4096.0], [4096.5]], dtype=np.float32)
    latents = Latents(means, np.ones_like(means))
    assert DATA_EDGES[name].lengths(latents, np.array([0]), np.array([1])).tolist() == [0.5]


@pytest.mark.parametrize("name", ["wasserstein", "precision"])
def test_edges_of_gaussians_need_sigma(name):
    with pytest.raises(InputError, match=f"edges '{name}' measure Gaussians.*pass sigma"):
        DATA_EDGES[name].check(Latents(np.zeros((3, 2))))
    DATA_EDGES[name].check(gaussians(0, 3, 2))
    DATA_EDGES["euclidean"].check(Latents(np.zeros((3, 2))))


@pytest.mark.parametrize("name", NAMES)
def test_the_nearest_code_is_that_of_the_shortest_edge(name):
    points, codes = gaussians(0, 60, 3), gaussians(1, 9, 3)
    exact = np.empty((60, 9))
    for i, j in np.ndindex(60, 9):
        # Codes have no precision of their own: they are points.
        sigma = points.sigmas[i] if name == "precision" else codes.sigmas[j]
        exact[i, j] = by_definition(name, points.means[i], points.sigmas[i], codes.means[j], sigma)
    found = DATA_EDGES[name].nearest(torch.tensor(points.means), torch.tensor(points.sigmas), codes)
    np.testing.assert_array_equal(found, exact.argmin(1))


@pytest.mark.parametrize("name", NAMES)
def test_no_other_centre_has_a_smaller_sum_of_squares(name):
    latents, cells = gaussians(0, 30, 2), np.arange(30) % 3
    centers = DATA_EDGES[name].cell_centers(latents, cells, 3)
    weights = latents.sigmas**-2 if name == "precision" else np.ones_like(latents.sigmas)

    def cost(centers):
        return (np.square(latents.means - centers[cells]) * weights).sum()

    rng = np.random.default_rng(1)
    assert all(cost(centers + 0.01 * rng.normal(size=centers.shape)) > cost(centers) for _ in range(20))


def test_names_give_edges_and_objects_stay_themselves():
    for name in [*DATA_EDGES, *DECODER_EDGES]:
        edges = edge_lengths(name)
        assert isinstance(edges, EdgeLengths) and edges.name == name
        assert edge_lengths(edges) is edges


def test_unknown_edges_are_named_with_the_nearest():
    with pytest.raises(InputError, match=r"unknown edges 'waserstein'; did you mean 'wasserstein'.*pullback"):
        edge_lengths("waserstein")


@pytest.mark.parametrize("edges", [None, 3, np.zeros(4), DECODER_EDGES["pullback"]])
def test_anything_but_a_name_or_edges_is_refused(edges):
    with pytest.raises(InputError, match=r"expected one of euclidean, .*PullbackEdges\(decoder, latents\)"):
        edge_lengths(edges)


@pytest.mark.parametrize("name", sorted(DECODER_EDGES))
def test_edges_by_name_alone_say_that_they_need_a_decoder(name):
    edges, latents, none = edge_lengths(name), Latents(np.zeros((3, 2))), np.empty(0, dtype=np.int64)
    message = rf"edges '{name}' need a decoder: pass geovq.geometry.\w+Edges\(decoder, latents\)"
    for call in (
        lambda: edges.check(latents),
        lambda: edges.lengths(latents, none, none),
        lambda: edges.prepared(latents),
    ):
        with pytest.raises(InputError, match=message):
            call()
    assert repr(edges) == f"DetachedEdges('{name}')"


def test_the_class_that_edges_by_name_ask_for_exists():
    import geovq.geometry

    for name, kind in DECODER_EDGES.items():
        assert kind.name == name
        assert getattr(geovq.geometry, kind.__name__) is kind
