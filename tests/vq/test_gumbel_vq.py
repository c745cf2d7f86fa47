"""Drawn codes against their probabilities, gradients in float64, the temperature, the divergence."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.search import nearest_codes
from geovq.seeding import torch_generator
from geovq.vq import GumbelVQ
from geovq.vq.gumbel import distance_logits, divergence_from_uniform, relaxed


def normal(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "gumbel vectors", step))


def started(**options: float) -> GumbelVQ:
    layer = GumbelVQ(3, 8, revival=0.0, **options)
    layer.start_from(normal(8, 3, step=100))
    return layer


def gradients_by_differences(function, tensor: Tensor) -> Tensor:
    found = torch.zeros(tensor.numel(), dtype=torch.float64)
    for index in range(tensor.numel()):
        step = torch.zeros(tensor.numel(), dtype=torch.float64)
        step[index] = 1e-5
        ahead, behind = (function(tensor.detach() + sign * step.view_as(tensor)) for sign in (1, -1))
        found[index] = (ahead - behind) / 2e-5
    return found.view_as(tensor)


def test_codes_are_drawn_with_their_probabilities():
    layer, z = started(temperature=2.0).train(), normal(1, 3).expand(20000, 3)
    codes = layer(z).codes
    distances = (z[:1] - layer.codebook).square().sum(1).detach()
    expected = (-distances / (2 * distances.min())).softmax(0)
    found = torch.bincount(codes, minlength=8) / 20000
    assert torch.allclose(found, expected, atol=0.015)
    assert (found > 0.02).sum() >= 3


def test_the_output_is_the_drawn_code_exactly_and_the_nearest_in_evaluation():
    layer, z = started().train(), normal(200, 3)
    quantized = layer(z)
    assert torch.equal(quantized.z_q, layer.codebook[quantized.codes])
    nearest = nearest_codes(z, layer.codebook)
    assert not torch.equal(quantized.codes, nearest)
    assert torch.equal(layer.eval()(z).codes, nearest)


def test_logits_have_the_batchs_own_unit_and_no_place():
    z, codebook = normal(50, 3), normal(8, 3, step=1)
    distances = (z[:, None] - codebook).square().sum(-1)
    expected = -distances / (0.5 * distances.amin(1).mean())
    for scale, offset in ((1.0, 0.0), (1e-3, 0.0), (1e3, 0.0), (1.0, 100.0)):
        found = distance_logits(z * scale + offset, codebook * scale + offset, 0.5)
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_gradients_of_the_output_are_those_of_finite_differences():
    z, table = normal(6, 3).double().requires_grad_(), normal(4, 3, step=1).double().requires_grad_()
    noise, upstream = normal(6, 4, step=2).double(), normal(6, 3, step=3).double()
    logits = distance_logits(z, table, 0.7)
    codes = (logits + noise).argmax(1)
    (relaxed(logits + noise, table, table[codes]) * upstream).sum().backward()
    fixed = table.detach().clone()
    unit = 0.7 * torch.cdist(z, table).square().amin(1).mean().detach()

    def value(z: Tensor, table: Tensor) -> float:
        weights = (-(z[:, None] - table).square().sum(-1) / unit + noise).softmax(1)
        return float(((weights @ fixed + table[codes]) * upstream).sum())

    of_z = gradients_by_differences(lambda moved: value(moved, fixed), z)
    of_table = gradients_by_differences(lambda moved: value(z.detach(), moved), table)
    assert torch.allclose(z.grad, of_z, rtol=1e-5, atol=1e-8)
    assert torch.allclose(table.grad, of_table, rtol=1e-5, atol=1e-8)


def test_gradients_of_the_layer_are_those_of_the_formula():
    layer = started(temperature=1.5, commitment=0.3, kl=0.2).train()
    z, upstream = normal(30, 3).requires_grad_(), normal(30, 3, step=1)
    quantized = layer(z)
    ((quantized.z_q * upstream).sum() + quantized.loss).backward()

    points, table = z.detach().double(), layer.codebook.detach().double()
    waiting = torch.empty(30, 8).exponential_(generator=torch_generator(0, "Gumbel noise", 0))
    squares = (points[:, None] - table).square().sum(-1)
    unit = 1.5 * squares.amin(1).mean()
    logits = -squares / unit
    assert torch.equal(quantized.codes, (logits - waiting.log()).argmax(1))

    weights, p = (logits - waiting.log()).softmax(1), logits.softmax(1)
    along = upstream.double() @ table.T
    # Of a softmax p with upstream g: p (g - p.g); of the divergence: p (ln p - sum p ln p) / n.
    of_logits = weights * (along - (weights * along).sum(1, keepdim=True))
    of_logits += 0.2 / 30 * p * (p.log() - (p * p.log()).sum(1, keepdim=True))
    difference = (points[:, None] - table) * (-2 / unit)
    of_z = (of_logits[..., None] * difference).sum(1) + 0.3 * 2 / 30 * (points - table[quantized.codes])
    of_table = -(of_logits[..., None] * difference).sum(0)
    of_table.index_add_(0, quantized.codes, upstream.double())
    assert torch.allclose(z.grad.double(), of_z, rtol=1e-5, atol=1e-5)
    assert torch.allclose(layer.codebook.grad.double(), of_table, rtol=1e-5, atol=1e-5)


def test_the_divergence_is_zero_of_equal_logits_and_ln_k_of_certain_ones():
    assert divergence_from_uniform(torch.zeros(5, 8)).item() == pytest.approx(0, abs=1e-6)
    assert divergence_from_uniform(torch.eye(8) * 100).item() == pytest.approx(math.log(8))
    logits = normal(20, 8)
    p = torch.distributions.Categorical(logits=logits)
    uniform = torch.distributions.Categorical(logits=torch.zeros(20, 8))
    expected = torch.distributions.kl_divergence(p, uniform).mean().item()
    assert divergence_from_uniform(logits).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_commitment_and_divergence(training):
    layer, z = started(commitment=0.3, kl=0.2).train(training), normal(30, 3)
    quantized = layer(z)
    logits = distance_logits(z, layer.codebook, 1.0)
    distortion = (z - layer.codebook[quantized.codes]).square().sum(1).mean()
    expected = 0.3 * distortion + 0.2 * divergence_from_uniform(logits)
    assert quantized.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_temperature_falls_geometrically_with_the_training_steps():
    layer = started(temperature=2.0, final_temperature=0.5, n_annealed=4)
    found = []
    for _ in range(6):
        found.append(layer.current_temperature)
        layer.eval()(normal(9, 3))
        layer.train()(normal(9, 3))
    assert found == pytest.approx([2, 2**0.5, 1, 2**-0.5, 0.5, 0.5])


def test_a_cold_layer_draws_the_nearest_code():
    layer, z = started(temperature=1e-6, final_temperature=1e-6).train(), normal(200, 3)
    assert torch.equal(layer(z).codes, nearest_codes(z, layer.codebook))


def test_noise_is_keyed_by_seed_and_step():
    z = normal(100, 3)

    def draws(seed: int) -> list[Tensor]:
        layer = started(seed=seed).train()
        return [layer(z).codes, layer(z).codes]

    first = draws(0)
    assert all(torch.equal(a, b) for a, b in zip(first, draws(0), strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], draws(1)[0])


def test_gradients_survive_a_revival_in_the_same_step():
    gradients = []
    for revival in (0.0, 0.9):
        layer = GumbelVQ(3, 8, decay=0.1, revival=revival).train()
        layer.start_from(normal(8, 3, step=100))
        z = (0.01 * normal(20, 3)).requires_grad_()
        quantized = layer(z)
        assert (quantized.stats["revived"] > 0) == (revival > 0)
        (quantized.z_q.square().sum() + quantized.loss).backward()
        gradients.append(z.grad)
    assert torch.equal(*gradients)


def test_vectors_at_their_codes_are_safe():
    layer = started().train()
    z = layer.codebook.detach().clone().requires_grad_()
    quantized = layer(z)
    (quantized.z_q.sum() + quantized.loss).backward()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(layer.codebook.grad).all()


def test_the_layer_can_be_copied_between_forward_and_backward():
    layer = started().train()
    quantized = layer(normal(20, 3).requires_grad_())
    assert torch.equal(copy.deepcopy(layer).codebook, layer.codebook)
    quantized.loss.backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.05}, "temperature is 0.05 and final_temperature 0.1; expected both above 0"),
        ({"final_temperature": 0.0}, "final_temperature 0.0"),
        ({"n_annealed": 0}, "n_annealed is 0"),
        ({"kl": -1.0}, "kl -1.0; expected"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        GumbelVQ(3, 8, **options)
