"""The frozen codebook and its learnt map: gradients against the formula, starts, codes that move together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from geovq.errors import InputError
from geovq.search import kmeans
from geovq.seeding import derive_seed, torch_generator
from geovq.vq import SimVQ


def normal(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "simvq vectors", step))


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy((load_digits().data / 16).astype(np.float32))


def test_the_random_start_is_normal_of_unit_length_on_average():
    layer = SimVQ(64, 500)
    assert layer.codebook.square().sum(1).mean().item() == pytest.approx(1, rel=0.02)
    assert layer.codebook.mean().abs() < 0.01
    assert torch.equal(layer.codebook, layer.frozen)


def test_only_the_map_is_trained():
    layer = SimVQ(3, 8)
    assert [name for name, _ in layer.named_parameters()] == ["transform"]
    assert layer.transform.shape == (3, 3)
    assert "frozen" in layer.state_dict()


def test_the_k_means_start_makes_the_centres_the_codes(digits):
    layer = SimVQ(64, 16, start="kmeans", seed=3).train()
    layer(digits[:400])
    expected = kmeans(digits[:400].numpy(), 16, derive_seed(3, "k-means start"))
    assert torch.equal(layer.codebook, torch.from_numpy(expected))
    assert torch.equal(layer.transform, torch.eye(64))


def test_a_fitted_codebook_becomes_the_codes_whatever_the_map_was():
    layer = SimVQ(3, 8)
    with torch.no_grad():
        layer.transform.copy_(normal(3, 3))
    vectors = normal(8, 3, step=1)
    layer.start_from(vectors)
    assert torch.equal(layer.codebook, vectors)
    layer.train()(normal(50, 3, step=2))
    assert torch.equal(layer.codebook, vectors)


def test_gradients_are_those_of_the_formula():
    layer = SimVQ(3, 8, commitment=0.3).train()
    with torch.no_grad():
        layer.transform.copy_(normal(3, 3))
    z, upstream = normal(40, 3, step=1).requires_grad_(), normal(40, 3, step=2)
    quantized = layer(z)
    ((quantized.z_q * upstream).sum() + 5 * quantized.loss).backward()

    frozen, w = layer.frozen.double(), layer.transform.detach().double()
    chosen = frozen[quantized.codes]
    error = z.detach().double() - chosen @ w.T
    of_z = upstream.double() + 5 * 0.3 * 2 / 40 * error
    of_w = 5 * 2 / 40 * -error.T @ chosen
    assert torch.allclose(z.grad.double(), of_z, rtol=1e-5, atol=1e-6)
    assert torch.allclose(layer.transform.grad.double(), of_w, rtol=1e-5, atol=1e-6)


def test_the_commitment_does_not_move_the_codes_nor_the_codebook_loss_the_vectors():
    gradients = {}
    for beta in (0.0, 2.0):
        layer = SimVQ(3, 8, commitment=beta).train()
        z = normal(40, 3).requires_grad_()
        layer(z).loss.backward()
        gradients[beta] = z.grad, layer.transform.grad
    assert gradients[0.0][0].abs().max() == 0
    assert gradients[2.0][0].abs().max() > 0
    assert torch.equal(gradients[0.0][1], gradients[2.0][1])


def test_codes_that_no_vector_chose_move_too():
    layer = SimVQ(2, 16).train()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.codebook.detach()
    z = before[:1] + torch.tensor([[0.01, 0.02]])
    quantized = layer(z)
    assert quantized.codes.tolist() == [0]
    quantized.loss.backward()
    optimizer.step()
    moved = (layer.codebook - before).norm(dim=1)
    assert (moved > 0).all()


def test_the_map_learns_to_lay_a_random_codebook_over_the_latents():
    z = normal(600, 4) @ torch.diag(torch.tensor([3.0, 2.0, 0.5, 0.1]))
    layer = SimVQ(4, 64).train()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    first = layer.eval()(z).stats["relative_distortion"].item()
    for _ in range(200):
        optimizer.zero_grad()
        layer.train()(z).loss.backward()
        optimizer.step()
    assert layer.eval()(z).stats["relative_distortion"] < 0.5 * first


def test_no_code_is_ever_revived():
    layer = SimVQ(2, 8).train()
    with torch.no_grad():
        layer.usage.zero_()
    assert layer(normal(6, 2)).stats["revived"] == 0


def test_a_codebook_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"SimVQ: the codebook .* \(7, 3\); expected \(8, 3\)"):
        SimVQ(3, 8).start_from(torch.zeros(7, 3))
