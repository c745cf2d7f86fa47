"""Lengths behind a decoder against geometry that is known, of whole latents and of tokens in their images."""

import numpy as np
import pytest
import torch
from decoder_cases import CUTS, KINDS, STRAIGHT, draw, network, pairs, tokens_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geovq.geometry import ChordEdges, FisherEdges, Latents, PullbackEdges, decoder_calls
from geovq.models.conv import ConvDecoder
from geovq.seeding import seeded_weights


class Sphere(nn.Module):
    """Colatitude and longitude (N, 2) to points of the unit sphere."""

    def forward(self, angles):
        colatitude, longitude = angles.double().T
        ring = colatitude.sin()
        return torch.stack([ring * longitude.cos(), ring * longitude.sin(), colatitude.cos()], dim=1)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", STRAIGHT)
def test_an_identity_decoder_gives_euclidean_lengths(kind, cut):
    shape, dim = CUTS[cut]
    latents = draw(0, 30, *shape)
    points = Latents(tokens_of(latents, dim))
    edges = KINDS[kind](nn.Identity(), latents)
    edges.check(points)
    starts, ends = pairs(len(points), 200)
    distance = np.linalg.norm(points.means[starts] - points.means[ends], axis=1)
    np.testing.assert_allclose(edges.lengths(points, starts, ends), distance, rtol=1e-5)
    nodes = edges.prepared(points)
    assert nodes.metrics.dtype == np.float32
    np.testing.assert_allclose(
        nodes.metrics, np.broadcast_to(np.eye(dim), (len(points), dim, dim)), atol=1e-6
    )
    new = draw(1, 8, dim)
    found = np.random.default_rng(2).integers(len(points), size=(8, 3))
    expected = np.linalg.norm(new[:, None] - points.means[found], axis=2)
    np.testing.assert_allclose(edges.lengths_to(Latents(new), nodes, found), expected, rtol=1e-6)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", STRAIGHT)
def test_a_linear_decoder_gives_mahalanobis_lengths(kind, cut):
    shape, dim = CUTS[cut]
    latents, matrix = draw(0, 20, *shape), draw(1, 15, int(np.prod(shape)))
    decoder = nn.Sequential(nn.Flatten(), nn.Linear(matrix.shape[1], 15, dtype=torch.float64))
    decoder[1].weight.data = torch.from_numpy(matrix)
    points = Latents(tokens_of(latents, dim))
    # What the decoder sees of a token: its columns, which the order of the numbers in a latent tells.
    columns = tokens_of(np.arange(matrix.shape[1]).reshape(1, *shape), dim)
    metrics = np.array([matrix[:, c].T @ matrix[:, c] for c in columns])
    n_tokens = len(columns)
    edges = KINDS[kind](decoder, latents)
    starts, ends = pairs(len(points), 150)
    step = points.means[ends] - points.means[starts]
    both = (metrics[starts % n_tokens] + metrics[ends % n_tokens]) / 2
    expected = np.sqrt(np.einsum("ei,eij,ej->e", step, both, step))
    np.testing.assert_allclose(edges.lengths(points, starts, ends), expected, rtol=1e-10)
    nodes = edges.prepared(points)
    np.testing.assert_allclose(
        nodes.metrics, metrics[np.arange(len(points)) % n_tokens], rtol=1e-5, atol=1e-5
    )
    new, found = draw(2, 9, dim), np.random.default_rng(3).integers(len(points), size=(9, 4))
    away = new[:, None] - points.means[found]
    squares = np.einsum("mci,mcij,mcj->mc", away, metrics[found % n_tokens], away)
    np.testing.assert_allclose(edges.lengths_to(Latents(new), nodes, found), np.sqrt(squares), rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_outputs", [2, 9])
def test_the_nearest_code_is_nearest_in_the_mean_metric(dtype, n_outputs):
    jacobian = draw(0, n_outputs, 4)  # with two outputs, the metric of the four inputs is singular
    metric = (jacobian.T @ jacobian).astype(np.float32)
    points, codes = 100 + draw(1, 300, 4), 100 + draw(2, 12, 4)
    away = points[:, None] - codes
    expected = np.einsum("nki,ij,nkj->nk", away, metric, away).argmin(1)
    edges = PullbackEdges(nn.Identity(), points)
    for code_dtype in (np.float32, np.float64):
        held = Latents(codes.astype(code_dtype), metrics=metric[None])
        found = edges.nearest(torch.from_numpy(points).to(dtype), None, held)
        assert (found.numpy() == expected).mean() > 0.98  # float32 decides a few near ties differently
        assert found.dtype == torch.int64
    if dtype == torch.float64:
        np.testing.assert_array_equal(found, expected)


def test_equal_codes_lose_to_the_first():
    codes = np.tile(draw(0, 6, 5), (3, 1))
    held = Latents(codes, metrics=(draw(1, 5, 5) @ draw(1, 5, 5).T + 5 * np.eye(5))[None])
    found = ChordEdges(nn.Identity(), codes).nearest(torch.from_numpy(codes), None, held)
    assert found.tolist() == list(range(6)) * 3


def test_lengths_on_a_sphere_are_those_of_its_circles():
    quarter = np.pi / 4
    angles = np.array([[quarter, 0.0], [quarter, 1.0], [quarter + 1.0, 0.0]])
    points, starts, ends = Latents(angles), np.array([0, 0]), np.array([1, 2])
    arcs = np.array([np.sin(quarter), 1.0])  # along a parallel, along a meridian
    chords = 2 * np.array([np.sin(quarter), 1.0]) * np.sin(0.5)
    decoder = Sphere().double()
    decoder.register_buffer("radius", torch.ones((), dtype=torch.float64))
    np.testing.assert_allclose(ChordEdges(decoder, angles).lengths(points, starts, ends), chords, rtol=1e-12)
    np.testing.assert_allclose(PullbackEdges(decoder, angles).lengths(points, starts, ends), arcs, rtol=1e-12)
    polyline = ChordEdges(decoder, angles, segments=1000).lengths(points, starts, ends)
    np.testing.assert_allclose(polyline, arcs, rtol=1e-6)


@pytest.mark.parametrize("cut", CUTS)
def test_a_finer_polyline_is_never_shorter_and_settles(cut):
    shape, dim = CUTS[cut]
    latents = 3 * draw(0, 12, *shape)
    points, decoder = Latents(tokens_of(latents, dim)), network(int(np.prod(shape)), wide=True)
    starts, ends = pairs(len(points), 60)
    lengths = [ChordEdges(decoder, latents, 2**k).lengths(points, starts, ends) for k in range(8)]
    gains = np.diff(lengths, axis=0)
    assert (gains > -1e-12 * lengths[-1]).all()
    assert (gains[-1] < gains[-3] / 8).all()  # an error of second order falls by 16 in two doublings
    assert (gains[-1] < 1e-3 * lengths[-1]).all()


@pytest.mark.parametrize("cut", CUTS)
def test_short_edges_have_one_length_by_any_kind(cut):
    shape, dim = CUTS[cut]
    latents = draw(0, 1, *shape) + 1e-3 * draw(1, 10, *shape)
    points, decoder = Latents(tokens_of(latents, dim)), network(int(np.prod(shape)), wide=True)
    n_tokens = len(points) // 10
    starts = np.arange(len(points) - n_tokens)
    ends = starts + n_tokens  # the same token of the next image: all steps are short
    fine = ChordEdges(decoder, latents, 16).lengths(points, starts, ends)
    np.testing.assert_allclose(PullbackEdges(decoder, latents).lengths(points, starts, ends), fine, rtol=1e-5)
    np.testing.assert_allclose(ChordEdges(decoder, latents).lengths(points, starts, ends), fine, rtol=1e-5)
    nodes = PullbackEdges(decoder, latents).prepared(points)
    moved = PullbackEdges(decoder, latents).lengths_to(points.take(starts), nodes, ends[:, None])
    np.testing.assert_allclose(moved[:, 0], fine, rtol=0.02)


def test_tokens_move_within_both_of_their_images():
    latents = draw(0, 9, 6)
    decoder, points = network(6, wide=True), Latents(tokens_of(latents, 2))
    starts, ends = pairs(len(points), 40)
    expected = []
    for i, j in zip(starts, ends, strict=True):
        squares = 0.0
        for here, there in ((i, j), (j, i)):
            image = torch.from_numpy(latents[here // 3])
            moved = image.clone()
            moved[2 * (here % 3) : 2 * (here % 3) + 2] = torch.from_numpy(points.means[there])
            squares += (decoder(image[None]) - decoder(moved[None])).square().sum().item()
        expected.append(np.sqrt(squares / 2))
    np.testing.assert_allclose(
        ChordEdges(decoder, latents).lengths(points, starts, ends), expected, rtol=1e-10
    )


@pytest.mark.parametrize("spatial", [False, True])
def test_metrics_and_midpoint_products_are_those_of_the_full_jacobian(spatial):
    with seeded_weights(1, "decoder"):
        decoder = ConvDecoder((1, 8, 8), (4, 8), 3 if spatial else 6, spatial=spatial).double().eval()
    latents = draw(0, 5, 3, 2, 2) if spatial else draw(0, 5, 6)
    dim, n_tokens = 3, 4 if spatial else 2
    points = Latents(tokens_of(latents, dim))
    columns = tokens_of(np.arange(latents[0].size).reshape(1, *latents.shape[1:]), dim)

    def jacobian(latent, token):
        full = torch.autograd.functional.jacobian(
            lambda z: decoder(z[None]).flatten(), torch.from_numpy(latent)
        )
        return full.flatten(1).numpy()[:, columns[token]]

    nodes = PullbackEdges(decoder, latents).prepared(points)
    for row in range(len(points)):
        own = jacobian(latents[row // n_tokens], row % n_tokens)
        np.testing.assert_allclose(nodes.metrics[row], own.T @ own, rtol=1e-5, atol=1e-8)
    starts, ends = pairs(len(points), 12)
    lengths = PullbackEdges(decoder, latents).lengths(points, starts, ends)
    for i, j, length in zip(starts, ends, lengths, strict=True):
        squares = 0.0
        for here, there in ((i, j), (j, i)):
            middle = latents[here // n_tokens].copy()
            middle.reshape(-1)[columns[here % n_tokens]] = (points.means[here] + points.means[there]) / 2
            step = points.means[there] - points.means[here]
            squares += np.square(jacobian(middle, here % n_tokens) @ step).sum()
        np.testing.assert_allclose(length, np.sqrt(squares / 2), rtol=1e-9)


def test_fisher_lengths_are_the_distances_of_bernoulli_images():
    latents = draw(0, 30, 6)
    decoder, points = network(6, wide=True, last=nn.Sigmoid), Latents(latents)
    starts, ends = pairs(30, 80)
    with torch.no_grad():
        p, q = (decoder(torch.from_numpy(latents[rows])).numpy() for rows in (starts, ends))
    angle = 2 * np.arccos(np.minimum(np.sqrt(p * q) + np.sqrt((1 - p) * (1 - q)), 1))
    expected = np.sqrt(np.square(angle).sum(1))
    np.testing.assert_allclose(
        FisherEdges(decoder, latents).lengths(points, starts, ends), expected, rtol=1e-6
    )
    # To first order it is the Fisher information of the pixels, 1 / (p (1 - p)), pulled back.
    nodes = FisherEdges(decoder, latents).prepared(points)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: decoder(z[None])[0]))(torch.from_numpy(latents))
    with torch.no_grad():
        information = 1 / (decoder(torch.from_numpy(latents)) * (1 - decoder(torch.from_numpy(latents))))
    metrics = torch.einsum("npi,np,npj->nij", jacobian, information, jacobian).detach()
    np.testing.assert_allclose(nodes.metrics, metrics, rtol=1e-4, atol=1e-6)


def test_fisher_metrics_stay_finite_where_pixels_are_black_or_white():
    latents = np.array([[-300.0], [300.0], [0.0]])
    edges = FisherEdges(lambda z: (z * torch.tensor([1.0, 3.0])).sigmoid(), latents)
    nodes = edges.prepared(Latents(latents))
    assert np.isfinite(nodes.metrics).all()
    lengths = edges.lengths(nodes, np.array([0, 0]), np.array([1, 2]))
    np.testing.assert_allclose(lengths, np.sqrt(2) * np.array([np.pi, np.pi / 2]), rtol=2e-3)


def test_chords_cannot_tell_how_far_behind_saturated_pixels():
    switches = torch.linspace(0, 1, 16)
    latents = np.array([[-0.5], [1.5], [-5.0], [6.0]])
    points, starts, ends = Latents(latents), np.array([0, 2]), np.array([1, 3])

    def decoder(z):
        return (100 * (z - switches.to(z.dtype))).sigmoid()

    chord, longer = ChordEdges(decoder, latents).lengths(points, starts, ends)
    np.testing.assert_allclose([chord, longer], 4, rtol=1e-5)  # all 16 pixels switched, near or far
    fine = [ChordEdges(decoder, latents, 2**k).lengths(points, starts, ends)[0] for k in (9, 10)]
    assert fine[0] > 3 * chord  # one after the other, they draw a path of almost 16
    np.testing.assert_allclose(*fine, rtol=1e-2)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(sorted(KINDS)),
    cut=st.sampled_from(sorted(CUTS)),
    batch=st.integers(1, 40),
)
def test_lengths_are_symmetric_whatever_the_batch(seed, kind, cut, batch):
    shape, dim = CUTS[cut]
    latents = draw(seed, 7, *shape).astype(np.float32)
    decoder, points = network(int(np.prod(shape)), last=nn.Sigmoid), Latents(tokens_of(latents, dim))
    starts, ends = pairs(len(points), 50, seed)
    expected = KINDS[kind](decoder, latents).lengths(points, starts, ends)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_calls, "LARGEST_BATCH", batch)
        edges = KINDS[kind](decoder, latents)
        np.testing.assert_allclose(edges.lengths(points, ends, starts), expected, rtol=1e-4, atol=1e-6)
        in_small_batches = edges.prepared(points).metrics
    assert expected.dtype == np.float64 and expected.shape == (50,)
    whole = KINDS[kind](decoder, latents).prepared(points).metrics
    np.testing.assert_allclose(in_small_batches, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", STRAIGHT)
def test_nodes_that_are_some_of_the_rows_keep_their_lengths(kind):
    latents = draw(0, 8, 6)
    everything, chosen = Latents(tokens_of(latents, 2)), np.random.default_rng(1).permutation(24)[:15]
    edges = KINDS[kind](network(6, wide=True), latents)
    some = everything.take(chosen)
    edges.check(some)
    starts, ends = pairs(15, 30)
    expected = edges.lengths(everything, chosen[starts], chosen[ends])
    np.testing.assert_allclose(edges.lengths(some, starts, ends), expected, rtol=1e-12)
    np.testing.assert_array_equal(edges.prepared(some).metrics, edges.prepared(everything).metrics[chosen])
    assert edges.prepared(some).rows.tolist() == chosen.tolist()


def test_no_edges_have_no_lengths():
    none = np.empty(0, dtype=np.int64)
    for kind in KINDS.values():
        assert kind(network(6, last=nn.Sigmoid), draw(0, 4, 6)).lengths(
            Latents(draw(0, 4, 6)), none, none
        ).shape == (0,)
