"""Directions against brute force, the spherical update, gradients through division and projections."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from geovq.errors import InputError
from geovq.seeding import torch_generator
from geovq.vq import CosineVQ
from geovq.vq.cosine import UnitCodes, unit_vectors


def normal(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "cosine vectors", step))


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True)


def started(code_dim: int | None = None, **options: float) -> CosineVQ:
    layer = CosineVQ(5, 8, code_dim=code_dim, **options)
    layer.start_from(normal(8, 5, step=100))
    return layer


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy((load_digits().data / 16).astype(np.float32))


def test_codes_have_the_largest_cosine(digits):
    layer = CosineVQ(64, 32).train()
    layer(digits[:500])
    quantized = layer.eval()(digits)
    cosines = unit(digits.double()) @ layer.codebook.double().T
    assert torch.equal(quantized.codes, cosines.argmax(1))


def test_outputs_are_unit_codes_and_lengths_of_vectors_do_not_matter():
    layer, z = started().eval(), normal(50, 5)
    quantized = layer(z)
    assert torch.allclose(layer.codebook.norm(dim=1), torch.ones(8), atol=1e-6)
    assert torch.equal(quantized.z_q, layer.codebook[quantized.codes])
    assert torch.equal(layer(8 * z).codes, quantized.codes)


def test_a_training_step_quantizes_with_the_codes_before_their_update():
    for code_dim in (None, 2):
        layer = started(code_dim, decay=0.5).train()
        before = layer.codebook.detach().clone()
        quantized = layer(normal(50, 5))
        assert torch.allclose(quantized.z_q, before[quantized.codes], atol=1e-6)
        assert not torch.allclose(before, layer.codebook, atol=1e-3)


def test_the_update_is_the_normalised_moving_average():
    layer, z = started(decay=0.9, revival=0.0).train(), normal(50, 5)
    before = layer.codebook.double().clone()
    codes = layer(z).codes
    sums = torch.zeros(8, 5).double().index_add_(0, codes, unit(z.double()))
    expected = unit(0.9 * before + 0.1 * sums * 8 / 50)
    assert torch.allclose(layer.codebook.double(), expected, atol=1e-6)


def test_repeated_on_one_batch_it_is_spherical_k_means(digits):
    layer = CosineVQ(64, 8, decay=0.5, revival=0.0).train()
    for _ in range(60):
        codes = layer(digits[:300]).codes
    means = torch.zeros(8, 64).index_add_(0, codes, unit(digits[:300]))
    assert torch.allclose(layer.codebook, unit(means), atol=1e-4)


def test_gradients_are_those_of_the_formula():
    layer = started(commitment=0.3).eval()
    z, upstream = (2 * normal(40, 5)).requires_grad_(), normal(40, 5, step=1)
    quantized = layer(z)
    ((quantized.z_q * upstream).sum() + 5 * quantized.loss).backward()
    u, e = unit(z.detach().double()), quantized.z_q.detach().double()
    of_u = upstream + 5 * 0.3 * 2 / 40 * (u - e)
    # The derivative of z / |z| is (I - u u') / |z|.
    expected = (of_u - u * (u * of_u).sum(1, keepdim=True)) / z.detach().double().norm(dim=1, keepdim=True)
    assert torch.allclose(z.grad.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_projections_learn_by_the_chain_rule(training):
    layer = started(code_dim=2, revival=0.0).train(training)
    z, upstream = normal(40, 5).requires_grad_(), normal(40, 5, step=1)
    codes_before = layer.unit_codes.codebook.double().clone()
    quantized = layer(z)
    (quantized.z_q * upstream).sum().backward()
    narrow, widen = layer.narrow.weight.detach().double(), layer.widen.weight.detach().double()
    y = z.detach().double() @ narrow.T + layer.narrow.bias.detach()
    u, e = unit(y), codes_before[quantized.codes]
    of_u = upstream.double() @ widen
    of_y = (of_u - u * (u * of_u).sum(1, keepdim=True)) / y.norm(dim=1, keepdim=True)
    for found, expected in (
        (layer.widen.weight.grad, upstream.double().T @ e),
        (layer.widen.bias.grad, upstream.double().sum(0)),
        (layer.narrow.weight.grad, of_y.T @ z.detach().double()),
        (z.grad, of_y @ narrow),
    ):
        assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_narrow_layer_gives_wide_codes_of_low_rank():
    layer = started(code_dim=2).eval()
    quantized = layer(normal(3, 20, 5))
    assert torch.equal(layer.lookup(quantized.codes), quantized.z_q)
    assert layer.codebook.shape == (8, 5)
    centred = (layer.codebook - layer.codebook.mean(0)).detach()
    assert torch.linalg.matrix_rank(centred, rtol=1e-4) == 2
    assert CosineVQ(5, 8, code_dim=2, seed=1).narrow.weight.ne(layer.narrow.weight).any()


def test_vectors_of_no_length_are_safe():
    for code_dim in (None, 2):
        layer = started(code_dim).train()
        z = torch.zeros(20, 5).requires_grad_()
        quantized = layer(z)
        (quantized.z_q.sum() + quantized.loss).backward()
        assert torch.isfinite(quantized.z_q).all()
        assert torch.isfinite(z.grad).all()
        assert torch.allclose(layer.unit_codes.codebook.norm(dim=1), torch.ones(8), atol=1e-6)


def test_a_vector_of_no_length_passes_its_gradient_on_as_it_is():
    z = torch.zeros(2, 3).requires_grad_()
    unit_vectors(z).backward(torch.ones(2, 3))
    assert torch.equal(z.grad, torch.ones(2, 3))


def test_a_first_batch_of_nothing_but_zeros_leaves_unit_codes():
    codes = UnitCodes(
        3, 4, commitment=0.25, decay=0.99, revival=0.03, entropy=0.0, start="random", seed=0
    ).train()
    before = codes.codebook.clone()
    codes.start_from(torch.zeros(4, 3))
    assert torch.equal(codes.codebook, before)


def test_the_start_is_of_unit_vectors(digits):
    layer = CosineVQ(64, 16).train()
    layer(digits[:400] * torch.linspace(0.1, 10, 400)[:, None])
    assert torch.allclose(layer.codebook.norm(dim=1), torch.ones(16), atol=1e-6)
    assert layer.eval()(digits).stats["batch_utilization"] == 1


def test_a_fitted_codebook_gives_its_directions():
    vectors = 3 * normal(8, 5, step=100)
    assert torch.allclose(started().codebook, unit(vectors), atol=1e-6)
    layer = CosineVQ(5, 8, code_dim=2)
    layer.start_from(vectors)
    assert torch.allclose(layer.unit_codes.codebook, unit(layer.narrow(vectors)).detach(), atol=1e-6)


def test_a_dead_code_becomes_the_direction_of_a_vector_of_the_batch():
    layer = started(decay=0.5, revival=0.3).train()
    z = normal(3, 5, step=7)
    revived = sum(int(layer(z).stats["revived"]) for _ in range(3))
    assert revived >= 5
    assert ((layer.codebook @ unit(z).T).amax(1) > 0.99).sum() >= 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0, "n_codes": 4}, "CosineVQ: dim is 0 and code_dim None; expected at least 1"),
        ({"dim": 4, "n_codes": 4, "code_dim": 0}, "CosineVQ: dim is 4 and code_dim 0"),
        ({"dim": 4, "n_codes": 1}, "n_codes 1; expected .* 2 codes"),
        ({"dim": 4, "n_codes": 4, "commitment": -1}, "commitment is -1"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        CosineVQ(**arguments)


def test_a_codebook_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"CosineVQ: the codebook .* \(8, 2\); expected \(8, 5\)"):
        CosineVQ(5, 8, code_dim=2).start_from(torch.zeros(8, 2))
