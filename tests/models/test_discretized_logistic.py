"""The learned likelihood of pixels: float64, its gradients, the scales it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from geovq.data import image_set, to_bytes
from geovq.errors import ConfigError
from geovq.evaluation.likelihood import PixelLikelihood
from geovq.evaluation.pixel_errors import fit_scale, pixel_errors
from geovq.models.pixel_likelihood import DiscretizedLogistic


def with_scales(*scales: float) -> DiscretizedLogistic:
    likelihood = DiscretizedLogistic(len(scales))
    with torch.no_grad():
        likelihood.log_scale.copy_(torch.tensor(scales).log())
    return likelihood


def pictures(n: int, scales, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Means (n, C, 16, 16) and 8-bit images that lie around them by logistic noise of ``scales``."""
    rng = np.random.default_rng(seed)
    decoded = rng.random((n, len(scales), 16, 16))
    noise = rng.logistic(0, np.reshape(scales, (-1, 1, 1)), decoded.shape)
    images = to_bytes(decoded + noise) / np.float32(255)
    return torch.from_numpy(decoded.astype(np.float32)), torch.from_numpy(images)


@pytest.mark.parametrize("scales", [(0.001, 0.02, 0.5), (1e-4,), (10.0, 0.1)])
def test_nats_are_those_of_the_evaluation(scales):
    decoded, images = pictures(6, [0.2] * len(scales))
    likelihood = with_scales(*scales)
    expected = PixelLikelihood("logistic", likelihood.scales).bits(decoded.numpy(), images.numpy())
    found = likelihood.nats(decoded, images)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.mean() * math.log(2), rel=1e-5)


def test_gradients_are_those_of_finite_differences():
    decoded, images = (tensor.double() for tensor in pictures(2, (0.1, 0.1)))
    images[0, 0, 0, 0], images[0, 0, 0, 1] = 0, 1
    decoded = decoded.clamp(0.02, 0.98)[..., :4, :4].requires_grad_()
    images = images[..., :4, :4]
    likelihood = with_scales(0.03, 0.4).double()
    assert torch.autograd.gradcheck(
        lambda means, _: likelihood.nats(means, images), (decoded, likelihood.log_scale)
    )


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 0.05, 3.0, 100.0])
def test_float32_has_the_gradients_of_float64_even_in_the_tails(scale):
    level, mean = torch.meshgrid(torch.arange(256) / 255, torch.linspace(0, 1, 90), indexing="ij")
    gradients = []
    for dtype in (torch.float32, torch.float64):
        likelihood = with_scales(scale).to(dtype)
        decoded = mean[None, None].to(dtype).requires_grad_()
        nats = likelihood.nats(decoded, level[None, None].to(dtype))
        assert nats.isfinite()
        nats.backward()
        gradients.append((decoded.grad.double(), likelihood.log_scale.grad.double()))
    (of_means, of_scale), (expected_of_means, expected_of_scale) = gradients
    # A slope is 1 / scale at most; float32 knows where an edge is to 1e-7, in units of the scale.
    torch.testing.assert_close(
        of_means * scale, expected_of_means * scale, rtol=1e-4, atol=2e-7 / scale + 1e-6
    )
    torch.testing.assert_close(of_scale, expected_of_scale, rtol=1e-3, atol=1e-3)


def test_a_saturated_wrong_pixel_costs_finitely():
    decoded = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    nats = with_scales(1e-5).nats(decoded, 1 - decoded)
    assert nats.item() == pytest.approx(2 * (1 - 1 / 510) / 1e-5, rel=1e-4)


def test_training_learns_the_scale_of_each_channel():
    scales = (0.01, 0.08, 0.3)
    decoded, images = pictures(100, scales)
    likelihood = DiscretizedLogistic(3)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    before = likelihood.nats(decoded, images).item()
    for _ in range(150):
        optimizer.zero_grad()
        likelihood.nats(decoded, images).backward()
        optimizer.step()
    assert likelihood.scales == pytest.approx(scales, rel=0.03)
    assert likelihood.nats(decoded, images).item() < before
    for channel, learned in enumerate(likelihood.scales):
        means = decoded[:, [channel]].numpy()
        errors = pixel_errors(image_set(images[:, [channel]].numpy()), means.__getitem__)
        assert learned == pytest.approx(fit_scale(errors, "logistic"), rel=5e-3)


def test_training_moves_means_to_the_images():
    _, images = pictures(3, (0.2,))
    logits = torch.zeros_like(images).requires_grad_()
    likelihood = DiscretizedLogistic(1)
    optimizer = torch.optim.Adam([logits, *likelihood.parameters()], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        likelihood.nats(logits.sigmoid(), images).backward()
        optimizer.step()
    assert (logits.sigmoid() - images).abs().max() < 0.02
    assert likelihood.scales[0] < 0.01


def test_a_loss_is_summed_over_an_image_and_averaged_over_images():
    decoded, images = pictures(4, (0.1, 0.1))
    likelihood = with_scales(0.05, 0.2)
    each = [likelihood.nats(decoded[[i]], images[[i]]).item() for i in range(4)]
    assert likelihood.nats(decoded, images).item() == pytest.approx(np.mean(each), rel=1e-5)


def test_no_channels_are_refused():
    with pytest.raises(ConfigError, match="n_channels is 0; expected at least 1"):
        DiscretizedLogistic(0)
