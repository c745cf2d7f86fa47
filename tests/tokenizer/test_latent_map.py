"""Latent maps: undone exactly, Euclidean in the decoder's mean metric, the same after a trip to disk."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geovq.errors import InputError
from geovq.geometry import mean_metric
from geovq.models.cut import cut
from geovq.models.weights import arrays_of
from geovq.search import kmeans, nearest_codes
from geovq.storage.artifact import load_artifact, save_artifact
from geovq.tokenizer.latent_map import LatentMap, mean_pullback_map

SHAPES = {"flat": ((6,), (6, 6)), "shared": ((3, 2, 4), (3, 3)), "site": ((3, 2, 4), (8, 3, 3))}


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def linear_decoder(matrix):
    decoder = nn.Sequential(nn.Flatten(), nn.Linear(matrix.shape[1], len(matrix), dtype=torch.float64))
    decoder[1].weight.data = torch.from_numpy(matrix)
    return decoder


@given(st.sampled_from(sorted(SHAPES)), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_undo_takes_back_forward(kind, seed):
    shape, matrix_shape = SHAPES[kind]
    made = LatentMap(draw(seed, *matrix_shape) + 3 * np.eye(matrix_shape[-1]))
    latents = torch.from_numpy(draw(seed + 1, 5, *shape)).float()
    tolerance = 1e-5 * float(torch.linalg.cond(made.matrix).max())
    torch.testing.assert_close(made.undo(made(latents)), latents, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(made(made.undo(latents)), latents, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", SHAPES)
def test_every_site_is_mapped_by_its_own_matrix_and_sigma_by_its_squares(kind):
    shape, matrix_shape = SHAPES[kind]
    made = LatentMap(draw(0, *matrix_shape))
    latents = torch.from_numpy(draw(1, 4, *shape)).float()
    grid = (1, 1) if kind == "flat" else shape[1:]
    mapped = made(latents)
    assert mapped.shape == latents.shape
    sigma = latents.abs() + 0.1
    for site, (before, after) in enumerate(
        zip(cut(latents, grid).unbind(1), cut(mapped, grid).unbind(1), strict=True)
    ):
        matrix = made.matrix[site] if kind == "site" else made.matrix
        torch.testing.assert_close(after, before @ matrix.T)
        covariance = matrix @ torch.diag_embed(cut(sigma, grid)[:, site].square()) @ matrix.T
        spread = covariance.diagonal(dim1=1, dim2=2).sqrt()
        torch.testing.assert_close(cut(made.sigma(sigma), grid)[:, site], spread)


def test_a_stored_map_is_the_same_bit_for_bit(tmp_path):
    made = LatentMap(draw(0, 8, 3, 3), draw(1, 8, 3))
    save_artifact(tmp_path / "map", {}, arrays_of(made))
    arrays = load_artifact(tmp_path / "map")[1]
    loaded = LatentMap.from_state({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    assert loaded.state_dict().keys() == {"matrix", "inverse", "eigenvalues"}
    for name, value in made.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    assert not list(made.parameters())


@pytest.mark.parametrize("tokens", [(1, 1), (1, 3), (2, 1)])
def test_mapped_distances_are_those_of_a_linear_decoders_images(tokens):
    matrix, latents = draw(0, 9, 6), draw(1, 40, 6)
    made = mean_pullback_map(linear_decoder(matrix), latents, tokens=tokens, floor=1e-6)
    away = latents[:20] - latents[20:]
    mapped = made(torch.from_numpy(away)).square().sum(1).numpy()
    images = np.square(away @ matrix.T).sum(1)
    np.testing.assert_allclose(mapped / mapped.sum(), images / images.sum(), rtol=1e-4)
    values = np.linalg.eigvalsh(matrix.T @ matrix)
    np.testing.assert_allclose(made.eigenvalues, values / values.mean(), rtol=1e-4)
    assert float(made.matrix.double().square().sum()) == pytest.approx(6, rel=1e-5)


@pytest.mark.parametrize("per", ["shared", "site"])
def test_the_map_of_latent_maps_is_the_root_of_their_mean_metric(per):
    decoder, latents = linear_decoder(draw(0, 50, 24)), draw(1, 30, 3, 2, 4)
    metric = mean_metric(decoder, latents, per, seed=5)
    made = mean_pullback_map(decoder, latents, per=per, tokens=(2, 4), floor=1e-9, seed=5)
    squared = (made.matrix.mT @ made.matrix).double().numpy()
    np.testing.assert_allclose(squared, metric / np.linalg.eigvalsh(metric).mean(), rtol=1e-4, atol=1e-5)
    assert torch.equal(made.matrix, made.matrix.mT)


def test_ignored_directions_are_raised_to_the_floor_of_all_sites():
    decoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False, dtype=torch.float64))
    decoder[1].weight.data = torch.tensor([[2.0, 0, 0, 0], [0, 0, 0, 1.0]], dtype=torch.float64)
    made = mean_pullback_map(decoder, draw(0, 10, 4), floor=0.01)
    scale = (4 + 1 + 2 * 0.04) / 4
    expected = np.array([0.04, 0.04, 1, 4]) / scale
    np.testing.assert_allclose(torch.linalg.svdvals(made.matrix).flip(0).square(), expected, rtol=1e-5)
    np.testing.assert_allclose(made.eigenvalues, np.array([0, 0, 1, 4]) / scale, rtol=1e-5, atol=1e-9)
    # Two sites of two channels: channel c of site s is number 2 c + s, so site 1 has only the weaker one.
    of_maps = mean_pullback_map(decoder, draw(0, 500, 2, 1, 2), per="site", floor=0.01)
    np.testing.assert_allclose(of_maps.eigenvalues[:, 0], 0, atol=1e-6)
    least = torch.linalg.svdvals(of_maps.matrix)[:, 1].square()
    np.testing.assert_allclose(least, least[0].expand(2), rtol=1e-4)
    assert float(of_maps.matrix.square().sum()) == pytest.approx(4, rel=1e-4)


def test_chunks_are_uncorrelated_and_of_like_volume():
    latents = draw(0, 4000, 8) * np.array([9.0, 8, 7, 6, 0.6, 0.5, 0.4, 0.3])
    turned = latents @ np.linalg.qr(draw(1, 8, 8))[0]
    made = mean_pullback_map(nn.Identity(), turned, tokens=(1, 4))
    covariance = np.cov(made(torch.from_numpy(turned)).numpy().T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-4 * covariance.max()
    volumes = np.diag(covariance).reshape(4, 2).prod(1)
    assert volumes.max() < 2 * volumes.min()


def test_chunks_of_a_rotated_map_lose_less_of_the_image_than_plain_ones():
    matrix = draw(0, 30, 8) * np.array([5, 4, 3, 2, 0.3, 0.2, 0.1, 0.1])
    train, test = draw(1, 3000, 8), torch.from_numpy(draw(2, 500, 8))
    made = mean_pullback_map(linear_decoder(matrix), train[:500], tokens=(1, 4))

    def image_error(to, back):
        points = to(torch.from_numpy(train)).reshape(-1, 2).numpy()
        codebook = torch.from_numpy(kmeans(points, 32, 0))
        tokens = to(test).reshape(-1, 2)
        quantized = codebook[nearest_codes(tokens, codebook)].reshape(-1, 8)
        return np.square((back(quantized) - test).numpy() @ matrix.T).sum()

    assert image_error(made, made.undo) < 0.6 * image_error(lambda z: z, lambda z: z)


def test_matrices_without_an_inverse_are_refused():
    with pytest.raises(InputError, match=r"matrix of a latent map has shape \(2, 3\); expected \(D, D\)"):
        LatentMap(np.ones((2, 3)))
    with pytest.raises(InputError, match="has no inverse; expected linearly independent rows"):
        LatentMap(np.zeros((4, 3, 3)))
    with pytest.raises(InputError, match="has NaN or infinity; expected finite"):
        LatentMap(np.diag([1.0, np.nan]))


@pytest.mark.parametrize(
    ("matrix", "latents"),
    [((6, 6), (4, 5)), ((6, 6), (4, 6, 2)), ((8, 3, 3), (4, 3)), ((8, 3, 3), (4, 3, 2, 3))],
)
def test_latents_of_another_shape_are_refused(matrix, latents):
    made = LatentMap(np.eye(matrix[-1]) * np.ones(matrix))
    for apply in (made, made.undo, made.sigma):
        with pytest.raises(
            InputError, match=r"latents have shape .*expected the latents that it was made for"
        ):
            apply(torch.zeros(latents))


def test_decoders_floors_and_cuts_that_do_not_fit_are_refused():
    latents = draw(0, 20, 6)
    with pytest.raises(InputError, match=r"decoder Linear failed on a latent of shape \(6,\)"):
        mean_pullback_map(nn.Linear(5, 3), latents)
    for floor in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"floor is .*above 0 and up to 1"):
            mean_pullback_map(nn.Identity(), latents, floor=floor)
    with pytest.raises(InputError, match=r"the mean metric of 20 latents is 0; .*the decoder's weights"):
        mean_pullback_map(linear_decoder(np.zeros((3, 6))), latents)
    with pytest.raises(InputError, match="cannot be cut into 2x2 equal"):
        mean_pullback_map(nn.Identity(), latents, tokens=(2, 2))
