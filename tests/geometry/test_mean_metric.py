"""The decoder's metric, at latents and on average, against Jacobians that are known or taken by autograd."""

import numpy as np
import pytest
import torch
from decoder_cases import draw, network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geovq.errors import InputError
from geovq.geometry import decoder_calls, mean_metric, pullback_metrics
from geovq.models.conv import ConvDecoder
from geovq.seeding import seeded_weights


def map_decoder():
    with seeded_weights(0, "decoder"):
        return ConvDecoder((1, 8, 12), (4, 6), 3, spatial=True).double()


def autograd_metrics(decoder, latents):
    metrics = []
    for latent in torch.from_numpy(latents):
        jacobian = torch.autograd.functional.jacobian(lambda z: decoder(z[None]).flatten(), latent)
        jacobian = jacobian.reshape(len(jacobian), -1)
        metrics.append((jacobian.T @ jacobian).numpy())
    return np.array(metrics)


def site_blocks(metrics, dim):
    """Diagonal blocks (N, S, dim, dim) of metrics (N, dim S, dim S) of maps, channels outermost."""
    n_sites = metrics.shape[1] // dim
    own = [np.arange(dim) * n_sites + site for site in range(n_sites)]
    return np.stack([metrics[:, axes][:, :, axes] for axes in own], axis=1)


def test_metrics_of_flat_latents_are_those_of_their_jacobians():
    decoder, latents = network(6, wide=True), draw(0, 7, 6)
    found = pullback_metrics(decoder, latents)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, autograd_metrics(decoder, latents), rtol=1e-4, atol=1e-6)


def test_metrics_of_maps_are_those_of_their_jacobians_in_the_order_of_the_latent():
    decoder, latents = map_decoder(), draw(0, 3, 3, 2, 3)
    expected = autograd_metrics(decoder, latents)
    np.testing.assert_allclose(pullback_metrics(decoder, latents), expected, rtol=1e-4, atol=1e-7)
    blocks = pullback_metrics(decoder, latents, (2, 3))
    assert blocks.shape == (3, 6, 3, 3)
    np.testing.assert_allclose(blocks, site_blocks(expected, 3), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("tokens", [(1, 1), (1, 3), (2, 1), (3, 2)])
def test_the_tokens_of_flat_latents_have_the_blocks_of_the_whole_metric(tokens):
    decoder, latents = network(6, wide=True), draw(1, 5, 6)
    whole, n_tokens = pullback_metrics(decoder, latents), tokens[0] * tokens[1]
    blocks = pullback_metrics(decoder, latents, tokens)
    grid = whole.reshape(5, n_tokens, 6 // n_tokens, n_tokens, 6 // n_tokens)
    expected = np.stack([grid[:, t, :, t] for t in range(n_tokens)], axis=1)
    np.testing.assert_allclose(blocks, expected, rtol=1e-5, atol=1e-6)


def test_batches_and_the_modes_of_the_decoder_change_nothing(monkeypatch):
    latents, maps = draw(0, 9, 6), draw(0, 9, 3, 2, 3)
    decoder = nn.Sequential(nn.Dropout(0.5), network(6, wide=True))
    expected = pullback_metrics(decoder, latents), mean_metric(decoder, latents)
    of_maps = map_decoder()
    site = mean_metric(of_maps, maps, per="site")
    with torch.inference_mode():
        np.testing.assert_array_equal(mean_metric(of_maps, maps, per="site"), site)
        np.testing.assert_array_equal(mean_metric(decoder, torch.from_numpy(latents)), expected[1])
    assert decoder.training and decoder[0].training
    monkeypatch.setattr(decoder_calls, "LARGEST_BATCH", 4)
    np.testing.assert_allclose(pullback_metrics(decoder, latents), expected[0], rtol=1e-5)


def test_the_mean_of_flat_latents_is_exact_in_any_chunks(monkeypatch):
    decoder, latents = network(6, wide=True), draw(2, 20, 6)
    expected = autograd_metrics(decoder, latents).mean(0)
    monkeypatch.setattr("geovq.geometry.decoder_metric.NUMBERS_A_CHUNK", 7 * 36)
    found = mean_metric(decoder, latents)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found, found.T)


def test_the_probed_means_of_maps_lie_within_their_standard_errors():
    decoder, n = map_decoder(), 400
    latents = draw(3, 1, 3, 2, 3).repeat(n, axis=0)  # alike, as the bound of the error supposes
    exact = site_blocks(autograd_metrics(decoder, latents[:1]), 3)[0]
    found = mean_metric(decoder, latents, per="site")
    diagonal = np.einsum("sii->si", exact)
    bound = np.sqrt(diagonal[:, :, None] * diagonal[:, None] / (2 * n))
    deviations = (found - exact) / bound
    assert np.abs(deviations).max() < 5
    assert np.sqrt(np.square(deviations).mean()) < 1.2
    np.testing.assert_allclose(mean_metric(decoder, latents, per="shared"), found.mean(0), rtol=1e-12)


def test_the_probed_mean_is_unbiased_over_different_latents():
    decoder, latents = map_decoder(), draw(4, 500, 3, 2, 3)
    exact = pullback_metrics(decoder, latents, (2, 3)).mean((0, 1))
    found = np.mean([mean_metric(decoder, latents, per="shared", seed=seed) for seed in range(3)], axis=0)
    np.testing.assert_allclose(found, exact, atol=0.03 * np.trace(exact) / 3)


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_probed_means_are_symmetric_positive_and_repeatable(seed):
    decoder, latents = map_decoder(), draw(seed, 5, 3, 2, 3)
    found = mean_metric(decoder, latents, per="site", seed=seed)
    assert found.shape == (6, 3, 3)
    np.testing.assert_allclose(found, np.swapaxes(found, 1, 2), rtol=1e-12)
    assert (np.linalg.eigvalsh(found) > -1e-12 * np.abs(found).max()).all()
    np.testing.assert_array_equal(found, mean_metric(decoder, latents, per="site", seed=seed))
    assert not np.array_equal(found, mean_metric(decoder, latents, per="site", seed=seed + 1))


@pytest.mark.parametrize(
    ("latents", "per"), [(draw(0, 4, 6), "site"), (draw(0, 4, 3, 2, 3), "whole"), (draw(0, 4, 6), "token")]
)
def test_a_mean_that_does_not_fit_the_latents_is_refused(latents, per):
    with pytest.raises(InputError, match=f"per '{per}' of latents .*expected 'whole' for flat latents"):
        mean_metric(nn.Identity(), latents, per=per)


@pytest.mark.parametrize(
    "decode",
    [
        lambda z: z.detach().tanh(),
        lambda z: torch.from_numpy(np.tanh(z.numpy())),
        lambda z: 0 * 1 + torch.ones(len(z), 4),
    ],
)
def test_decoders_without_a_derivative_are_refused(decode):
    with pytest.raises(InputError, match=r"no (forward )?derivative.*expected PyTorch operations"):
        mean_metric(decode, draw(0, 4, 3, 2, 3), per="site")
    with pytest.raises(InputError, match=r"no (forward )?derivative.*expected PyTorch operations"):
        mean_metric(decode, draw(0, 4, 6))


def test_decoders_of_other_latents_and_derivatives_that_are_not_finite_are_refused():
    for call in (pullback_metrics, mean_metric):
        with pytest.raises(
            InputError, match=r"^pull-back metric: decoder Linear failed on a latent of shape \(6,\)"
        ):
            call(nn.Linear(5, 3), draw(0, 4, 6))
        with pytest.raises(InputError, match=r"^pull-back metric: decoder is a str; expected a module"):
            call("vae", draw(0, 4, 6))
    with pytest.raises(InputError, match=r"^pull-back metric: decoder Linear failed on a latent"):
        mean_metric(nn.Linear(5, 3), draw(0, 4, 3, 2, 3), per="shared")
    maps = np.ones((4, 1, 1, 2))
    maps[2, 0, 0, 1] = 0
    with pytest.raises(InputError, match="NaN or infinity in the derivative of latent row 2"):
        mean_metric(lambda z: z.abs().sqrt(), maps, per="site")
    with pytest.raises(InputError, match="NaN or infinity in 1 of 4 rows, first in row 3"):
        pullback_metrics(nn.Identity(), np.array([[1.0], [2.0], [3.0], [np.nan]]))
    with pytest.raises(InputError, match="cannot be cut into 2x2"):
        pullback_metrics(nn.Identity(), draw(0, 4, 6), (2, 2))
