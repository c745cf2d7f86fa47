"""Geodesic codes under lengths that need a decoder."""

import json

import numpy as np
import pytest
import torch
from quantizer_contract import MEANS, TEST, TRAIN
from sklearn.base import clone
from torch import nn

from geovq.errors import InputError
from geovq.geometry import DECODER_EDGES, ChordEdges, PullbackEdges
from geovq.quantizers import GeodesicQuantizer, LandmarkGeodesicQuantizer, Quantizer

KINDS = sorted(DECODER_EDGES)


def sigmoid_decoder(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, 30), nn.Sigmoid())


def linear_decoder(matrix: np.ndarray) -> nn.Module:
    decoder = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False).double()
    decoder.weight.data = torch.from_numpy(matrix)
    return decoder


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def fitted(kind):
    edges = DECODER_EDGES[kind](sigmoid_decoder(), MEANS[TRAIN])
    return GeodesicQuantizer(12, n_neighbors=8, edges=edges, random_state=0).fit(MEANS[TRAIN])


def test_fitted_points_keep_their_codes(fitted):
    codes = fitted.predict(fitted.nodes_)
    np.testing.assert_array_equal(codes, fitted.node_codes_)
    assert (np.diff(fitted.objectives_) <= 0).all()


def test_saved_and_loaded_it_needs_no_decoder(fitted, kind, tmp_path):
    fitted.save(tmp_path / "q")
    assert json.loads((tmp_path / "q" / "config.json").read_text())["params"]["edges"] == kind
    loaded = Quantizer.load(tmp_path / "q")
    np.testing.assert_array_equal(loaded.predict(MEANS[TEST]), fitted.predict(MEANS[TEST]))
    with pytest.raises(InputError, match="need a decoder"):
        loaded.fit(MEANS[TRAIN])


def test_compact_files_use_the_mean_metric(fitted, tmp_path):
    fitted.save(tmp_path / "q", compact=True)
    loaded = Quantizer.load(tmp_path / "q")
    assert not hasattr(loaded, "nodes_")
    difference = MEANS[TEST][:, None] - fitted.codebook_
    table = np.einsum("nkd,de,nke->nk", difference, fitted.codebook_metric_[0], difference)
    np.testing.assert_array_equal(loaded.predict(MEANS[TEST]), table.argmin(1))
    disagreement = (loaded.predict(MEANS[TRAIN]) != fitted.predict(MEANS[TRAIN])).mean()
    assert fitted.nearest_disagreement_ == pytest.approx(disagreement)


def test_nearest_assignment_is_what_the_compact_file_has(fitted, kind, tmp_path):
    edges = DECODER_EDGES[kind](sigmoid_decoder(), MEANS[TRAIN])
    nearest = GeodesicQuantizer(12, n_neighbors=8, edges=edges, assignment="nearest", random_state=0)
    nearest.fit(MEANS[TRAIN])
    assert "node_metrics_" not in nearest.fitted_state()[0]
    fitted.save(tmp_path / "q", compact=True)
    compact = Quantizer.load(tmp_path / "q")
    np.testing.assert_allclose(nearest.codebook_metric_, compact.codebook_metric_, rtol=1e-6)
    np.testing.assert_array_equal(nearest.predict(MEANS[TEST]), compact.predict(MEANS[TEST]))


def test_as_a_module_it_gives_the_same_codes(fitted):
    module = fitted.as_module()
    codes = module(torch.from_numpy(MEANS[TEST])).codes
    np.testing.assert_array_equal(codes, fitted.predict(MEANS[TEST]))


def test_clones_fit_the_same(fitted):
    again = clone(fitted).fit(MEANS[TRAIN])
    np.testing.assert_array_equal(again.codebook_, fitted.codebook_)


@pytest.mark.parametrize("kind_of_edges", [ChordEdges, PullbackEdges])
@pytest.mark.parametrize("assignment", ["graph", "nearest"])
def test_a_rotation_for_a_decoder_is_euclidean(kind_of_edges, assignment):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    settings = {"n_codes": 12, "n_neighbors": 8, "assignment": assignment, "random_state": 0}
    edges = kind_of_edges(linear_decoder(rotation), MEANS[TRAIN])
    through = GeodesicQuantizer(edges=edges, **settings).fit(MEANS[TRAIN])
    plain = GeodesicQuantizer(edges="euclidean", **settings).fit(MEANS[TRAIN])
    np.testing.assert_allclose(through.objectives_, plain.objectives_, rtol=1e-6)
    np.testing.assert_array_equal(through.codebook_, plain.codebook_)
    np.testing.assert_array_equal(through.predict(MEANS[TEST]), plain.predict(MEANS[TEST]))


def test_tokens_are_measured_inside_their_images():
    """Tokens of one pixel each: the decoder weighs the second position ten times as much."""
    latents = np.random.default_rng(0).normal(size=(150, 2))
    decoder = linear_decoder(np.diag([1.0, 10.0]))
    tokens = latents.reshape(-1, 1)
    edges = PullbackEdges(decoder, latents)
    quantizer = GeodesicQuantizer(6, n_neighbors=4, edges=edges, random_state=0).fit(tokens)
    metrics = dict(zip(quantizer.nodes_[:, 0], quantizer.node_metrics_[:, 0, 0], strict=True))
    assert [metrics[token] for token in tokens[:2, 0]] == pytest.approx([1.0, 100.0])


def test_landmarks_find_their_images():
    latents = MEANS[TRAIN].reshape(200, 8)
    edges = PullbackEdges(sigmoid_decoder(8), latents)
    quantizer = LandmarkGeodesicQuantizer(6, n_landmarks=90, n_neighbors=5, edges=edges, random_state=0)
    quantizer.fit(MEANS[TRAIN])
    assert len(quantizer.nodes_) == 90
    np.testing.assert_array_equal(quantizer.predict(quantizer.nodes_), quantizer.node_codes_)


def test_points_that_are_not_the_tokens_of_the_latents_are_refused():
    edges = ChordEdges(sigmoid_decoder(), MEANS[TRAIN])
    with pytest.raises(InputError):
        GeodesicQuantizer(4, edges=edges).fit(MEANS[TRAIN][::-1])
    with pytest.raises(InputError):
        GeodesicQuantizer(4, edges=edges).fit(MEANS[TRAIN][:-1])


def test_a_decoder_that_returns_nan_is_refused(kind):
    class Broken(nn.Module):
        def forward(self, latents):
            return torch.where(latents[:, :1] > 0, latents.new_tensor(float("nan")), latents.sigmoid())

    edges = DECODER_EDGES[kind](Broken(), MEANS[TRAIN])
    with pytest.raises(InputError, match="decoder"):
        GeodesicQuantizer(4, edges=edges).fit(MEANS[TRAIN])


def test_a_decoder_that_works_in_place_changes_no_latent(kind):
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 16), nn.Sigmoid())
    latents = MEANS[TRAIN].astype(np.float32)
    edges = DECODER_EDGES[kind](decoder, latents)
    GeodesicQuantizer(4, edges=edges, random_state=0).fit(latents)
    np.testing.assert_array_equal(latents, MEANS[TRAIN].astype(np.float32))


def test_a_decoder_that_ignores_its_latents_is_refused(kind):
    decoder = nn.Sequential(nn.Linear(4, 8), nn.Threshold(1e6, 0.5))
    with pytest.raises(InputError, match=r"all \d+ lengths are 0|no derivative"):
        GeodesicQuantizer(4, edges=DECODER_EDGES[kind](decoder, MEANS[TRAIN])).fit(MEANS[TRAIN])


def test_latents_that_are_not_finite_are_named(kind):
    latents = MEANS[TRAIN].copy()
    latents[7, 1] = np.nan
    with pytest.raises(InputError, match="latents have NaN or infinity in 1 of 400 rows, first in row 7"):
        DECODER_EDGES[kind](sigmoid_decoder(), latents)
