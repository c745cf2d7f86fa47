"""Diagnoses: what is measured equals what linear decoders and Gaussians have, and every rule has its case."""

import dataclasses
import doctest
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_swiss_roll
from torch import nn

import geovq.evaluation.latent_geometry
import geovq.evaluation.rate_distortion
from geovq.config import from_json, to_json
from geovq.errors import InputError
from geovq.evaluation import Diagnosis, diagnose
from geovq.evaluation.rate_distortion import expected_error, water_filled
from geovq.evaluation.recommendation import AGREEMENT, BENT, CHANGING_SHAPE, GRAPH_HOLDS, LEAST_GAIN
from geovq.quantizers import KMeansQuantizer
from geovq.seeding import seeded_weights


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def linear(matrix):
    """The decoder z -> matrix z, in float64."""
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(matrix))
    return layer


def orthonormal(rows, columns, seed=0):
    return np.linalg.qr(draw(rows, columns, seed=seed))[0]


def network(n_inputs, gain, n_outputs=40):
    with seeded_weights(0, "decoder"):
        layers = nn.Sequential(nn.Linear(n_inputs, 30), nn.Tanh(), nn.Linear(30, n_outputs)).double()
    with torch.no_grad():
        layers[0].weight.mul_(gain)
    return layers


@pytest.fixture(scope="module")
def steep():
    """The diagnosis of 8 latent dimensions of which the decoder stretches some much more."""
    scales = np.geomspace(10, 0.1, 8)
    latents = draw(2000, 8)
    sigma = np.broadcast_to(1 / np.sqrt(1 + scales**2), latents.shape)
    return diagnose(linear(orthonormal(20, 8) * scales), latents, sigma, tokens=(2, 2), bits=16.0)


def test_a_stretching_decoder_asks_for_its_mean_metric(steep):
    text = steep.recommendation
    assert text.startswith("Quantize in the mean pull-back metric (eigenvalues of E[J'J] spread 10,000:1")
    np.testing.assert_allclose(steep.eigenvalues, np.geomspace(100, 0.01, 8), rtol=1e-4)
    assert steep.spread == pytest.approx(1e4, rel=1e-3)
    assert steep.spread_to_median == pytest.approx(100 / np.median(np.geomspace(100, 0.01, 8)), rel=1e-3)
    shares = np.geomspace(100, 0.01, 8) / np.geomspace(100, 0.01, 8).sum()
    assert steep.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)
    assert steep.mean_metric_error < 0.5
    assert steep.metric_change < 1e-3 and steep.shape_change < 1e-3
    assert "assignment in one metric for all is enough" in text


def test_precision_that_follows_the_decoder_is_named_as_its_substitute(steep):
    assert steep.precision_across == pytest.approx(1.0)
    assert steep.precision_within is None  # no image differs from another
    assert (
        "posterior precision is the alternative without a decoder (rank correlation" in steep.recommendation
    )


def test_precision_that_contradicts_the_decoder_is_not_named():
    scales = np.geomspace(10, 0.1, 8)
    sigma = np.broadcast_to(0.9 * scales / 10, (2000, 8))
    found = diagnose(linear(orthonormal(20, 8) * scales), draw(2000, 8), sigma, bits=16.0)
    assert found.precision_across == pytest.approx(-1.0) and found.precision_error > 1
    assert "mean pull-back metric" in found.recommendation and "precision" not in found.recommendation


def test_precision_that_follows_the_decoder_from_image_to_image_is_seen():
    latents = draw(1000, 3)

    def cubed(z):
        return z + z**3

    steepness = (1 + 3 * latents**2) ** 2
    found = diagnose(cubed, latents, steepness**-0.5, bits=6.0)
    assert found.precision_within == pytest.approx(1.0)
    shuffled = np.random.default_rng(1).permutation(steepness)
    assert abs(diagnose(cubed, latents, shuffled**-0.5, bits=6.0).precision_within) < 0.15


def test_a_decoder_that_keeps_lengths_asks_for_euclidean_distance():
    found = diagnose(linear(orthonormal(20, 8)), draw(2000, 8), tokens=(2, 4), bits=16.0)
    assert found.spread == pytest.approx(1.0, abs=1e-4)
    assert found.effective_rank == pytest.approx(8.0) and found.entropy_bits == pytest.approx(3.0)
    assert found.mean_metric_error == pytest.approx(1.0)
    assert found.recommendation.startswith("Quantize by Euclidean distance (eigenvalues of E[J'J] spread 1:1")


def test_chunks_that_differ_in_spread_are_coded_together_and_equal_ones_apart():
    decoder = linear(orthonormal(20, 8))
    equal = diagnose(decoder, draw(5000, 8), tokens=(2, 2), bits=32.0)
    assert equal.apart_error == pytest.approx(1.0, abs=0.02)
    assert "with one code of each of the 2x2 tokens (8 bits each)" in equal.recommendation
    unequal = diagnose(decoder, draw(5000, 8) * np.repeat([4, 1, 1, 0.1], 2), tokens=(2, 2), bits=32.0)
    assert unequal.apart_error > 2
    assert "with residual codes of the whole latent (2x2 tokens coded apart are" in unequal.recommendation


def test_one_token_gets_one_code_up_to_eight_bits():
    decoder = linear(orthonormal(6, 4))
    assert "with one code of the whole latent" in diagnose(decoder, draw(500, 4), bits=8.0).recommendation
    more = diagnose(decoder, draw(500, 4), bits=9.0)
    assert more.apart_error is None and "with residual codes of the whole latent;" in more.recommendation


def test_maps_have_the_metric_of_one_site():
    matrix = orthonormal(12, 3) * [5.0, 1.0, 0.2]
    decoder = nn.Conv2d(3, 12, 1, bias=False).double()
    with torch.no_grad():
        decoder.weight.copy_(torch.from_numpy(matrix)[..., None, None])
    latents = draw(300, 3, 2, 4)
    found = diagnose(decoder, latents, np.full(latents.shape, 0.1), bits=48.0)
    np.testing.assert_allclose(found.eigenvalues, [25.0, 1.0, 0.04], rtol=1e-4)
    assert found.tokens == (2, 4) and found.n_sites == 8 and len(found.kl_bits) == 3
    assert found.active_dimensions == 3 and found.apart_error is None and found.paths.dim == 3
    assert "with one code of each of the 2x4 tokens (6 bits each); 3 of 3 channels" in found.recommendation
    metric, covariance = np.diag([25, 1, 0.04]), np.cov(latents.transpose(1, 0, 2, 3).reshape(3, -1))
    best, euclidean = (expected_error(metric, covariance, 6, coded_in) for coded_in in (metric, np.eye(3)))
    assert found.mean_metric_error == pytest.approx(best / euclidean, rel=0.01)


def test_a_folded_sheet_is_worth_graph_geodesics():
    roll = make_swiss_roll(4000, random_state=0)[0] / 8
    found = diagnose(linear(orthonormal(5, 3)), roll, n_graph=3000)
    assert found.paths.flat_correlation > GRAPH_HOLDS
    assert found.paths.flat_correlation - found.paths.correlation > BENT
    assert "try graph geodesics with few codes: paths follow straight lines less" in found.recommendation


def test_flat_tokens_are_not_worth_graph_geodesics(steep):
    paths = steep.paths
    assert paths.dim == 2 and paths.correlation > 0.99 and paths.flat_correlation > 0.99
    assert "leave out graph geodesics: they follow straight lines as closely" in steep.recommendation


def test_in_many_dimensions_the_graph_is_not_believed():
    found = diagnose(linear(orthonormal(30, 24)), draw(2000, 24), n_graph=1500)
    assert found.paths.flat_correlation < GRAPH_HOLDS and found.paths.max_in_degree > 60
    assert "misses straight lines even in flat space" in found.recommendation


def test_a_bent_decoder_of_few_dimensions_is_worth_its_own_lengths():
    found = diagnose(network(2, gain=3.0), draw(2000, 2))
    assert found.metric_change > CHANGING_SHAPE
    assert "try graph geodesics with the decoder's lengths (in 2 dimensions" in found.recommendation
    # Of tokens within a latent that has not been measured.
    assert (
        "decoder's lengths" not in diagnose(network(4, gain=3.0), draw(2000, 4), tokens=(1, 2)).recommendation
    )


def test_a_decoder_that_changes_with_every_image_asks_for_assignment_by_it():
    found = diagnose(network(6, gain=10.0), draw(1500, 6))
    assert found.shape_change > CHANGING_SHAPE
    assert "choose codes by the decoder at every point" in found.recommendation


def test_a_metric_that_only_grows_keeps_its_shape():
    def stretched(z):
        return torch.cat([z * z[:, :1].detach().exp(), z[:, :1] * 0], 1)

    found = diagnose(stretched, draw(1000, 3), n_graph=300)
    assert found.metric_change > 1 and found.shape_change < 1e-3


def test_collapsed_latents_are_not_to_be_quantized():
    nothing = diagnose(network(4, gain=1.0), 1e-3 * draw(300, 4), np.ones((300, 4)), bits=16.0)
    assert nothing.total_bits < 0.01 and nothing.active_dimensions == 0
    assert nothing.recommendation.startswith("Do not quantize these latents: together they carry ")
    equal = diagnose(network(4, gain=1.0), np.zeros((300, 4)))
    blind = diagnose(linear(np.zeros((5, 4))), draw(300, 4))
    for found in (equal, blind):
        assert found.mean_metric_error is None and found.spread >= 1
        assert found.recommendation.startswith("Do not quantize these latents: they, or the images")
    assert equal.paths is None and blind.shape_change == 0.0


def test_an_encoder_of_points_has_no_kl_and_no_precision():
    latents = draw(400, 4)
    points = diagnose(network(4, gain=1.0), latents, np.zeros((400, 4)))
    assert points == diagnose(network(4, gain=1.0), torch.from_numpy(latents))
    assert points.kl_bits is points.total_bits is points.active_dimensions is None
    assert points.precision_across is points.precision_within is points.precision_error is None
    assert points.bits == 8.0
    assert "KL" not in points.recommendation and "precision" not in points.recommendation


def test_kl_is_that_of_torch_and_is_the_rate_unless_one_is_wanted():
    latents, sigma = draw(300, 4), np.random.default_rng(1).uniform(0.1, 1, (300, 4))
    found = diagnose(network(4, gain=1.0), latents, sigma)
    posterior = torch.distributions.Normal(torch.from_numpy(latents), torch.from_numpy(sigma))
    prior = torch.distributions.Normal(torch.zeros(4).double(), torch.ones(4).double())
    nats = torch.distributions.kl_divergence(posterior, prior).mean(0).numpy()
    np.testing.assert_allclose(found.kl_bits, nats / np.log(2), rtol=1e-6)
    assert found.bits == pytest.approx(found.total_bits)
    assert f"with {found.total_bits:.3g} bits of KL in all" in found.recommendation


def test_a_diagnosis_is_plain_json_and_comes_back(steep):
    text = json.dumps(steep.to_json(), allow_nan=False)
    content = json.loads(text)
    assert content.pop("recommendation") == steep.recommendation
    assert from_json(Diagnosis, content) == steep and to_json(steep) == content


def test_the_same_seed_gives_the_same_diagnosis_and_another_looks_elsewhere():
    decoder, latents = network(4, gain=2.0), draw(800, 4)
    first, again, other = (diagnose(decoder, latents, seed=seed, n_images=32) for seed in (0, 0, 1))
    assert first == again and first.eigenvalues != other.eigenvalues
    assert first.n_images == 32


def test_every_rule_takes_its_threshold(steep):
    def says(text, **changes):
        return text in dataclasses.replace(steep, **changes).recommendation

    assert says("mean pull-back metric", mean_metric_error=1 - LEAST_GAIN)
    assert says("by Euclidean distance", mean_metric_error=1 - LEAST_GAIN + 1e-6)
    assert says("posterior precision", precision_across=AGREEMENT)
    assert not says("posterior precision", precision_across=AGREEMENT - 1e-6)
    assert not says("posterior precision", precision_error=1.0)
    assert says("choose codes by the decoder", shape_change=CHANGING_SHAPE)
    assert not says("choose codes by the decoder", shape_change=CHANGING_SHAPE - 1e-6)
    bent = dataclasses.replace(steep.paths, flat_correlation=0.95, correlation=0.85, n_bridges=3)
    assert says("with few codes", paths=bent) and says("though over 3 bridges", paths=bent)
    assert not says("with few codes", paths=dataclasses.replace(bent, correlation=0.95 - BENT + 1e-6))
    assert says("misses straight lines", paths=dataclasses.replace(bent, flat_correlation=0.89))
    assert not says("geodesics", paths=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": draw(10, 4)[0]}, r"mean has shape \(4,\); expected at least 2 flat latents"),
        ({"mean": np.full((10, 4), np.nan)}, "mean has NaN or infinity in 10 of 10 rows, first in row 0"),
        ({"sigma": np.ones((10, 3))}, r"sigma has shape \(10, 3\); expected that of mean, \(10, 4\)"),
        ({"sigma": np.eye(10, 4)}, "sigma has numbers that are no deviations in 10 of 10 rows"),
        ({"tokens": (1, 3)}, "cannot be cut into 1x3 equal tokens"),
        ({"bits": 0.0}, "bits is 0.0; expected a finite number"),
        ({"n_images": 1}, "n_images is 1; expected at least 2"),
        ({"decoder": linear(np.eye(3))}, "failed on a latent of shape"),
    ],
)
def test_wrong_input_is_refused_by_name(changes, message):
    given = {"decoder": linear(np.eye(4)), "mean": draw(10, 4), "sigma": None, **changes}
    decoder, mean, sigma = (given.pop(name) for name in ("decoder", "mean", "sigma"))
    with pytest.raises(InputError, match=message):
        diagnose(decoder, mean, sigma, **given)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6), st.floats(0, 40))
def test_water_filling_spends_all_bits_and_no_more(variances, bits):
    left = water_filled(np.array(variances), bits)
    assert (left <= np.array(variances) * (1 + 1e-12)).all()
    assert 0.5 * np.log2(np.array(variances) / left).sum() == pytest.approx(bits, abs=1e-6)
    coded = left < np.array(variances) * (1 - 1e-9)
    assert not coded.any() or np.ptp(left[coded]) <= 1e-9 * left.max()


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0.5, 30))
def test_no_codes_decode_better_than_those_in_the_mean_metric(seed, d, bits):
    metric, covariance, other = (a.T @ a for a in draw(3, d + 2, d, seed=seed))
    best = expected_error(metric, covariance, bits, metric)
    assert 0 < best <= (1 + 1e-6) * expected_error(metric, covariance, bits, other)
    assert best == pytest.approx(expected_error(metric, covariance, bits, 7 * metric), rel=1e-6)


def test_real_codes_gain_about_what_the_gaussian_expects():
    scales = np.array([4.0, 1.0, 0.5])
    points, held_out = draw(6000, 3), draw(3000, 3, seed=1)

    def decoded_error(weights):
        quantizer = KMeansQuantizer(64, random_state=0).fit(points * weights)
        off = quantizer.transform(held_out * weights) / weights - held_out
        return np.square(off * scales).sum(1).mean()

    found = diagnose(linear(orthonormal(8, 3) * scales), points, bits=6.0)
    assert decoded_error(scales) / decoded_error(np.ones(3)) == pytest.approx(
        found.mean_metric_error, abs=0.08
    )


def test_records_and_diagnoses_are_read_without_torch():
    code = "import sys, geovq.evaluation as e; e.Diagnosis; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
    with pytest.raises(AttributeError, match="no attribute 'diagnosed'"):
        geovq.evaluation.diagnosed  # noqa: B018


@pytest.mark.parametrize("module", [geovq.evaluation.latent_geometry, geovq.evaluation.rate_distortion])
def test_the_examples_run(module):
    assert doctest.testmod(module).failed == 0
