"""Grids that follow the encoder: channels standardised by their moving mean and deviation."""

from __future__ import annotations

import pytest
import torch

from geovq.errors import InputError
from geovq.seeding import torch_generator
from geovq.vq import BSQ, FSQ, LFQ

LAYERS = {
    "fsq": lambda **options: FSQ(3, (8, 6, 5), **options),
    "lfq": lambda **options: LFQ(8, **options),
    "bsq": lambda **options: BSQ(8, **options),
}


def normal(n: int, dim: int, step: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch_generator(0, "grid start", step))


def far_and_small(n: int, dim: int, step: int = 0) -> torch.Tensor:
    """What a new encoder may give: all alike but for small differences."""
    return 0.3 + 1e-3 * normal(n, dim, step)


@pytest.mark.parametrize("kind", LAYERS)
def test_vectors_that_are_all_alike_use_many_codes_from_the_first_batch_on(kind):
    layer = LAYERS[kind]().train()
    z = far_and_small(2000, layer.dim)
    assert layer(z).stats["batch_utilization"] > 0.5
    published = LAYERS[kind](decay=1.0).train()
    assert published(z).stats["batch_utilization"] < 0.1


@pytest.mark.parametrize("kind", LAYERS)
def test_an_encoder_that_runs_off_to_one_side_is_followed(kind):
    layer = LAYERS[kind](decay=0.5).train()
    for step in range(30):
        offset = 50 if step else 0
        stats = layer(offset + normal(500, layer.dim, step)).stats
    assert stats["batch_utilization"] > 0.5


def test_the_moving_mean_and_deviation_are_the_formula():
    layer = FSQ(3, (8, 6, 5), decay=0.9).train()
    first, second = normal(100, 3), 5 + 2 * normal(40, 3, step=1)
    layer(first)
    assert torch.allclose(layer.mean, first.mean(0), atol=1e-6)
    assert torch.allclose(layer.variance, first.var(0, correction=0), rtol=1e-5)
    layer(second)
    assert torch.allclose(layer.mean, 0.9 * first.mean(0) + 0.1 * second.mean(0), atol=1e-5)
    variances = first.var(0, correction=0), second.var(0, correction=0)
    assert torch.allclose(layer.variance, 0.9 * variances[0] + 0.1 * variances[1], rtol=1e-5)


def test_they_are_constants_to_the_gradient():
    layer = FSQ(3, (8, 6, 5), decay=0.9).train()
    z = normal(100, 3).requires_grad_()
    layer(z).z_q.sum().backward()
    standardised = ((z - layer.mean) / layer.variance.sqrt()).detach().requires_grad_()
    FSQ(3, (8, 6, 5), decay=1.0)(standardised).z_q.sum().backward()
    assert torch.allclose(z.grad, standardised.grad / layer.variance.sqrt(), rtol=1e-5)


def test_evaluation_leaves_them():
    layer = LAYERS["fsq"]().eval()
    layer(far_and_small(200, 3))
    assert not layer.started
    assert torch.equal(layer.mean, torch.zeros(3))


def test_a_constant_channel_is_no_division_by_zero():
    layer = LAYERS["fsq"]().train()
    z = far_and_small(50, 3)
    z[:, 1] = 2.0
    assert torch.isfinite(layer(z).z_q).all()


def test_an_impossible_decay_is_refused():
    with pytest.raises(InputError, match=r"FSQ: decay is 1\.5; expected at least 0 and at most 1"):
        FSQ(3, (8, 6, 5), decay=1.5)
