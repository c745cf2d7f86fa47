"""Grids that fit their channels to the first training batch."""

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


def far_and_small(n: int, dim: int, step: int = 0) -> torch.Tensor:
    """What a new encoder may give: all alike but for small differences."""
    return 0.3 + 1e-3 * torch.randn(n, dim, generator=torch_generator(0, "grid start", step))


@pytest.mark.parametrize("kind", LAYERS)
def test_vectors_that_are_all_alike_use_many_codes_from_the_first_batch_on(kind):
    layer = LAYERS[kind]().train()
    z = far_and_small(2000, layer.dim)
    assert layer(z).stats["batch_utilization"] > 0.5
    published = LAYERS[kind](start="none").train()
    assert published(z).stats["batch_utilization"] < 0.1


@pytest.mark.parametrize("kind", LAYERS)
def test_later_batches_are_measured_with_the_first_ones_scale(kind):
    layer = LAYERS[kind]().train()
    layer(far_and_small(200, layer.dim))
    scale = layer.scale.detach().clone()
    layer(10 * far_and_small(200, layer.dim, step=1))
    assert torch.equal(layer.scale, scale)


def test_evaluation_does_not_start_it():
    layer = LAYERS["fsq"]().eval()
    layer(far_and_small(200, 3))
    assert not layer.started
    assert torch.equal(layer.scale, torch.ones(3))


def test_scale_and_shift_are_learnt():
    layer = LAYERS["fsq"]().train()
    layer(far_and_small(200, 3)).z_q.square().sum().backward()
    assert (layer.scale.grad != 0).all()
    assert (layer.shift.grad != 0).all()


def test_a_constant_channel_is_left_as_it_is():
    layer = LAYERS["fsq"]().train()
    z = far_and_small(50, 3)
    z[:, 1] = 2.0
    assert torch.isfinite(layer(z).z_q).all()
    assert layer.scale[1] == 1


def test_an_unknown_start_is_refused():
    with pytest.raises(InputError, match="start is 'kmeans'; expected 'batch' or 'none'"):
        FSQ(3, (8, 6, 5), start="kmeans")
