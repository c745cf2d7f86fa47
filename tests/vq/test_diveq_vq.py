"""The added error vector: its length and direction, gradients in float64, the noise, exact codes in eval."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from geovq.errors import InputError
from geovq.seeding import torch_generator
from geovq.vq import DiVeQ
from geovq.vq.diveq import displaced


def normal(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "diveq vectors", step))


def started(**options: float) -> DiVeQ:
    layer = DiVeQ(3, 8, **options)
    layer.start_from(normal(8, 3, step=100))
    return layer


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy((load_digits().data / 16).astype(np.float32))


def test_the_error_has_the_codes_length_and_the_jittered_direction():
    layer, z = started(sigma=0.5).train(), normal(200, 3)
    quantized = layer(z)
    before = normal(8, 3, step=100)[quantized.codes]
    assert torch.allclose((quantized.z_q - z).norm(dim=1), (before - z).norm(dim=1), rtol=1e-5)
    noise = torch.randn(200, 3, generator=torch_generator(0, "DiVeQ jitter", 0))
    direction = before - z + 0.5 * noise
    cosine = torch.cosine_similarity((quantized.z_q - z).double(), direction.double())
    assert torch.allclose(cosine, torch.ones(200).double(), atol=1e-6)


def test_training_is_close_to_the_code_and_evaluation_equal_to_it():
    layer, z = started(sigma=0.01).train(), normal(200, 3)
    quantized = layer(z)
    off = (quantized.z_q - layer.lookup(quantized.codes)).norm(dim=1)
    assert 0 < off.max() < 0.06
    layer.eval()
    quantized = layer(z)
    assert torch.equal(quantized.z_q, layer.lookup(quantized.codes))


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_gradients_are_those_of_finite_differences(sigma):
    z, e = normal(6, 3).double().requires_grad_(), normal(6, 3, step=1).double().requires_grad_()
    jitter, upstream = sigma * normal(6, 3, step=2).double(), normal(6, 3, step=3).double()
    (displaced(z, e, jitter) * upstream).sum().backward()
    direction = (e - z + jitter).detach()
    unit = direction / direction.norm(dim=1, keepdim=True)

    def value(z: Tensor, e: Tensor) -> float:
        return float(((z + (e - z).norm(dim=1, keepdim=True) * unit) * upstream).sum())

    for tensor, other, swap in ((z, e, False), (e, z, True)):
        for index in range(tensor.numel()):
            step = torch.zeros(18, dtype=torch.float64)
            step[index] = 1e-6
            moved = [tensor.detach() + sign * step.view(6, 3) for sign in (1, -1)]
            ahead, behind = (value(other.detach(), m) if swap else value(m, other.detach()) for m in moved)
            expected = (ahead - behind) / 2e-6
            assert tensor.grad.flatten()[index].item() == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_the_layer_are_those_of_the_formula(training):
    layer, sigma = started(sigma=0.2).train(training), 0.2 if training else 0.0
    z, upstream = normal(30, 3).requires_grad_(), normal(30, 3, step=1)
    table = layer.codebook.detach().double().clone()
    quantized = layer(z)
    (quantized.z_q * upstream).sum().backward()
    # dz = g - (g.u) error/|error| and de = (g.u) error/|error|, added up by code.
    error = table[quantized.codes] - z.detach().double()
    noise = torch.randn(30, 3, generator=torch_generator(0, "DiVeQ jitter", 0)).double()
    unit = error + sigma * noise
    unit /= unit.norm(dim=1, keepdim=True)
    of_e = (upstream * unit).sum(1, keepdim=True) * error / error.norm(dim=1, keepdim=True)
    assert torch.allclose(z.grad.double(), upstream - of_e, rtol=1e-5, atol=1e-6)
    of_codes = torch.zeros(8, 3).double().index_add_(0, quantized.codes, of_e)
    assert torch.allclose(layer.codebook.grad.double(), of_codes, rtol=1e-5, atol=1e-6)


def test_a_vector_at_its_code_stays_there_with_a_finite_gradient():
    layer = started().train()
    z = layer.codebook.detach().clone().requires_grad_()
    quantized = layer(z)
    assert torch.equal(quantized.z_q, z)
    quantized.z_q.square().sum().backward()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(layer.codebook.grad).all()


def test_there_is_no_auxiliary_loss():
    loss = started().train()(normal(30, 3).requires_grad_()).loss
    assert loss == 0
    assert not loss.requires_grad


def test_the_jitter_is_keyed_by_seed_and_step():
    z = normal(30, 3)

    def outputs(seed: int) -> tuple[Tensor, Tensor]:
        layer = started(seed=seed, revival=0.0).train()
        return layer(z).z_q, layer(z).z_q

    first, second = outputs(0)
    assert torch.equal(first, outputs(0)[0])
    assert not torch.equal(first, second)
    assert not torch.equal(first, outputs(1)[0])


def test_the_models_own_loss_alone_fits_the_codebook(digits):
    layer = DiVeQ(64, 16).train()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    layer.start_from(digits[:16])
    first = layer.eval()(digits).stats["relative_distortion"].item()
    layer.train()
    for step in range(60):
        batch = digits[torch.randint(1797, (256,), generator=torch_generator(0, "batch", step))]
        optimizer.zero_grad()
        (layer(batch).z_q - batch).square().sum(1).mean().backward()
        optimizer.step()
    assert layer.eval()(digits).stats["relative_distortion"] < 0.85 * first


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_an_impossible_sigma_is_refused(sigma):
    with pytest.raises(InputError, match=f"DiVeQ: sigma is {sigma}; expected .* at least 0"):
        DiVeQ(3, 8, sigma=sigma)
