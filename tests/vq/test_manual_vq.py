"""The hand-written passes against those of autograd, step after step, and where beta acts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from geovq.seeding import torch_generator
from geovq.vq import ManualStraightThroughVQ, StraightThroughVQ
from geovq.vq.manual import QuantizeFunction


def normal(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "manual vectors", step))


def pair(**options: float) -> tuple[StraightThroughVQ, ManualStraightThroughVQ]:
    return StraightThroughVQ(3, 8, **options), ManualStraightThroughVQ(3, 8, **options)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("commitment", [0.0, 0.25, 2.0])
def test_outputs_and_gradients_are_those_of_the_layer_it_writes_out(training, commitment):
    results = []
    for layer in pair(commitment=commitment, entropy=0.1):
        layer.train()(normal(64, 3))
        layer.train(training)
        z = normal(5, 7, 3, step=1).requires_grad_()
        quantized = layer(z)
        ((quantized.z_q * normal(5, 7, 3, step=2)).sum() + 3 * quantized.loss).backward()
        results.append((quantized, z.grad, layer.codebook.grad))
    (auto, of_z, of_codes), (manual, manual_of_z, manual_of_codes) = results
    assert torch.equal(auto.codes, manual.codes)
    assert torch.equal(auto.z_q, manual.z_q)
    assert auto.loss.item() == pytest.approx(manual.loss.item(), rel=1e-6)
    assert torch.allclose(of_z, manual_of_z, rtol=1e-6, atol=1e-6)
    assert torch.allclose(of_codes, manual_of_codes, rtol=1e-6, atol=1e-6)


def test_a_training_with_revivals_takes_the_same_path():
    layers = pair(decay=0.5, revival=0.2)
    optimizers = [torch.optim.Adam(layer.parameters(), lr=0.01) for layer in layers]
    n_revived = 0
    for step in range(20):
        z = normal(40, 3, step=step) * torch.tensor([1.0, 0.1, 0.1]) + step
        for layer, optimizer in zip(layers, optimizers, strict=True):
            optimizer.zero_grad()
            quantized = layer.train()(z)
            quantized.loss.backward()
            optimizer.step()
        n_revived += int(quantized.stats["revived"])
    assert n_revived > 0
    assert torch.allclose(layers[0].codebook, layers[1].codebook, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_finite_differences_where_the_loss_has_any():
    z, table = normal(9, 3).double().requires_grad_(), normal(4, 3, step=1).double().requires_grad_()
    codes = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 2])
    _, loss = QuantizeFunction.apply(z, table, table.detach()[codes], codes, 0.3)
    loss.backward()
    for tensor, weight in ((z, 0.3), (table, 1.0)):
        for index in range(tensor.numel()):
            step = torch.zeros(tensor.numel(), dtype=torch.float64)
            step[index] = 1e-6
            values = []
            for sign in (1, -1):
                moved = tensor.detach() + sign * step.view_as(tensor)
                a, b = (moved, table.detach()) if tensor is z else (z.detach(), moved)
                values.append(weight * (a - b[codes]).square().sum(1).mean().item())
            expected = (values[0] - values[1]) / 2e-6
            assert tensor.grad.flatten()[index].item() == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_beta_acts_on_the_encoder_term_only():
    gradients = {}
    for beta in (0.0, 0.25, 1.0):
        layer = ManualStraightThroughVQ(3, 8, commitment=beta, start="random").train()
        z = normal(40, 3).requires_grad_()
        layer(z).loss.backward()
        gradients[beta] = z.grad, layer.codebook.grad
    assert gradients[0.0][0].abs().max() == 0
    assert torch.allclose(4 * gradients[0.25][0], gradients[1.0][0], rtol=1e-6)
    assert gradients[1.0][0].abs().max() > 0
    assert torch.equal(gradients[0.0][1], gradients[0.25][1])
    assert torch.equal(gradients[0.0][1], gradients[1.0][1])
    assert gradients[0.0][1].abs().max() > 0


def test_the_output_alone_passes_its_gradient_straight_through():
    layer = ManualStraightThroughVQ(3, 8, start="random").train()
    z, upstream = normal(40, 3).requires_grad_(), normal(40, 3, step=1)
    layer(z).z_q.backward(upstream)
    assert torch.equal(z.grad, upstream)
    assert layer.codebook.grad is None


def test_a_frozen_codebook_gets_no_gradient_and_the_encoder_its_own():
    free, frozen = (ManualStraightThroughVQ(3, 8, start="random").train() for _ in range(2))
    frozen.codebook.requires_grad_(False)
    gradients = []
    for layer in (free, frozen):
        z = normal(40, 3).requires_grad_()
        layer(z).loss.backward()
        gradients.append(z.grad)
    assert torch.equal(*gradients)
    assert frozen.codebook.grad is None


def test_backward_keeps_vectors_codes_and_output_alone():
    layer = ManualStraightThroughVQ(3, 8, start="random").train()
    z, kept = normal(40, 3).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        quantized = layer(z)
    matrices = {tensor.data_ptr() for tensor in kept if tensor.shape == (40, 3)}
    assert matrices == {z.data_ptr(), quantized.z_q.data_ptr()}


def test_the_layer_can_be_copied_between_forward_and_backward():
    layer = ManualStraightThroughVQ(3, 8, start="random").train()
    quantized = layer(normal(40, 3).requires_grad_())
    twin = copy.deepcopy(layer)
    quantized.loss.backward()
    assert torch.equal(twin.codebook, layer.codebook)
