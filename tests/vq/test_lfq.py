"""Lookup-free quantization against its formulas: signs, indices, the loss and its gradient, projections."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geovq.errors import InputError
from geovq.models.vqvae import VQVAE
from geovq.seeding import torch_generator
from geovq.vq import LFQ
from geovq.vq.entropy import entropy_penalty
from geovq.vq.lfq import entropy_of_bits, entropy_of_use

published = functools.partial(LFQ, decay=1.0)


def vectors(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "lfq vectors", step))


def every_code(n_bits: int) -> Tensor:
    """All of {-1, 1}^b (2^b, b), the first bit changing fastest."""
    codes = torch.arange(2**n_bits)
    return torch.stack([(codes // 2**bit % 2) * 2 - 1 for bit in range(n_bits)], dim=1).double()


def written_out(z: Tensor, commitment: float, entropy: float, gamma: float, temperature: float) -> Tensor:
    """The loss from its definition over all codes, in float64."""
    z = z.double()
    codes = every_code(z.shape[1])
    p = (-(z[:, None] - codes).square().sum(-1) / temperature).softmax(1)
    of_each = torch.special.entr(p).sum(1).mean()
    of_average = torch.special.entr(p.mean(0)).sum()
    sign = torch.where(z >= 0, 1.0, -1.0).double()
    committed = (z - sign).square().sum(1).mean()
    return commitment * committed + entropy * (of_each + gamma * (math.log(len(codes)) - of_average))


@given(st.integers(1, 8))
@settings(max_examples=8, deadline=None)
def test_codes_and_vectors_go_round_over_all_codes(n_bits):
    layer = published(n_bits).eval()
    codes = torch.arange(2**n_bits)
    book = layer.lookup(codes)
    assert torch.equal(book.double(), every_code(n_bits))
    assert torch.equal(layer.codebook, book)
    quantized = layer(book * 0.3)
    assert torch.equal(quantized.codes, codes)
    assert torch.equal(quantized.z_q, book)


def test_the_code_of_a_vector_is_its_signs_and_zero_counts_as_positive():
    layer = published(3)
    z = torch.tensor([[-0.1, -5.0, -1e-30], [0.0, -1.0, -1.0], [-1.0, -0.0, 2.0], [3.0, 1e-30, 0.5]])
    quantized = layer(z)
    assert quantized.codes.tolist() == [0, 1, 6, 7]
    assert quantized.z_q.tolist() == [[-1, -1, -1], [1, -1, -1], [-1, 1, 1], [1, 1, 1]]
    assert (layer.n_codes, layer.bits) == ((8,), 3)


@pytest.mark.parametrize("training", [True, False])
def test_the_forward_value_is_exact_and_the_gradient_the_identity(training):
    z, upstream = vectors(50, 4).mul(100).requires_grad_(), vectors(50, 4, step=1)
    z_q = published(4).train(training)(z).z_q
    assert torch.equal(z_q.abs(), torch.ones(50, 4))
    z_q.backward(upstream)
    assert torch.equal(z.grad, upstream)


@given(
    st.integers(1, 6),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.sampled_from([0.0, 0.1, 2.0]),
    st.sampled_from([0.0, 1.0, 1.5]),
    st.sampled_from([0.3, 1.0, 4.0]),
    st.integers(0, 50),
)
@settings(max_examples=30, deadline=None)
def test_loss_and_gradient_are_the_formula_over_all_codes(
    n_bits, commitment, entropy, gamma, temperature, step
):
    layer = published(n_bits, commitment=commitment, entropy=entropy, gamma=gamma, temperature=temperature)
    z = vectors(30, n_bits, step=step).requires_grad_()
    loss = layer(z).loss
    reference = z.detach().double().requires_grad_()
    expected = written_out(reference, commitment, entropy, gamma, temperature)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    if commitment or entropy:
        loss.backward()
        expected.backward()
        largest = reference.grad.abs().max()
        assert ((z.grad - reference.grad).abs() <= 1e-5 * largest + 1e-7).all()


def test_commitment_is_beta_times_the_squared_distance():
    layer = published(2, commitment=0.5, entropy=0.0)
    z = torch.tensor([[[0.5, -1.0], [2.0, 3.0]]], requires_grad=True)
    loss = layer(z).loss
    # Squared distances 0.25 and 1 + 4, averaged over two vectors.
    assert loss.item() == pytest.approx(0.5 * 5.25 / 2)
    loss.backward()
    assert torch.allclose(z.grad, 0.5 * torch.tensor([[[-0.5, 0.0], [1.0, 2.0]]]))


def test_a_sure_and_even_use_costs_nothing():
    layer = published(4, commitment=1.0, entropy=1.0)
    assert layer(layer.codebook).loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("z", "nats"),
    [
        # All sure of one code: all 3 bits unused.
        (torch.ones(10, 3), 3 * math.log(2)),
        # Undecided: as uncertain as unused codes would be, but evenly used.
        (torch.zeros(10, 3), 3 * math.log(2)),
        # Three bits that always agree are one.
        (torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]), 2 * math.log(2)),
    ],
)
def test_the_penalty_counts_the_nats_that_are_lost(z, nats):
    assert published(3, commitment=0.0, entropy=1.0)(z).loss.item() == pytest.approx(nats, rel=1e-5)


def test_the_penalty_is_the_one_of_all_layers_for_gamma_one():
    layer = published(5, commitment=0.0, entropy=1.0, temperature=2.0)
    z = vectors(40, 5)
    logits = -(z[:, None] - layer.codebook).square().sum(-1) / 2.0
    expected = entropy_penalty(logits) + 5 * math.log(2)
    assert layer(z).loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_bits_past_ten_are_counted_in_groups():
    log_odds = vectors(64, 12).mul(3)
    first, last = log_odds[:, :6], log_odds[:, 6:]
    expected = entropy_of_use(first, 6) + entropy_of_use(last, 6)
    assert entropy_of_use(log_odds, 10).item() == pytest.approx(expected.item(), rel=1e-6)
    layer = published(12, commitment=0.0, entropy=1.0, temperature=4.0)
    loss = entropy_of_bits(log_odds) + 12 * math.log(2) - expected
    assert layer(log_odds).loss.item() == pytest.approx(loss.item(), rel=1e-5)


def test_groups_never_count_less_than_all_bits_together():
    log_odds = vectors(64, 8).mul(3)
    together = [entropy_of_use(log_odds, size).item() for size in (1, 2, 4, 8)]
    assert together == sorted(together, reverse=True)
    assert together[0] > together[-1] + 0.1


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_loss_and_gradient_are_finite_at_any_scale(scale):
    z = vectors(50, 18).mul(scale).requires_grad_()
    loss = published(18)(z).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()


def test_vectors_spread_evenly_use_every_code():
    z = torch.rand(4000, 8, generator=torch_generator(0, "even")) * 2 - 1
    quantized = published(8).eval()(z)
    assert quantized.stats["batch_utilization"] == 1
    assert quantized.stats["batch_perplexity"] > 240


@pytest.mark.parametrize("spread", [False, True])
def test_the_penalty_alone_brings_unused_codes_into_use(spread):
    # Everything starts in one corner; the penalty must part it, and without one nothing moves.
    layer = published(3, commitment=0.0, entropy=float(spread), gamma=2.0, temperature=4.0)
    z = vectors(64, 3).mul(0.3).add(0.7).requires_grad_()
    for _ in range(60):
        (gradient,) = torch.autograd.grad(layer(z).loss, z)
        z = (z - 20 * gradient).detach().requires_grad_()
    used = layer.eval()(z).stats["batch_perplexity"]
    assert used > 7.5 if spread else used < 3


@pytest.mark.parametrize(("dim", "n_bits"), [(3, 8), (8, 3), (16, 1)])
def test_other_widths_are_projected_in_and_out(dim, n_bits):
    layer = published(dim, n_bits=n_bits)
    z = vectors(60, dim)
    quantized = layer(z)
    inner = published(n_bits)(layer.project_in(z))
    assert torch.equal(quantized.codes, inner.codes)
    assert torch.allclose(quantized.z_q, layer.project_out(inner.z_q), atol=1e-6)
    assert quantized.loss.item() == pytest.approx(inner.loss.item(), rel=1e-6)
    assert torch.equal(layer.codebook[quantized.codes], layer.eval()(z).z_q)
    (quantized.z_q.square().sum() + quantized.loss).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_layer_cast_to_half_precision_keeps_its_codes(dtype):
    z = vectors(2000, 13).to(dtype)
    expected = published(13).eval()(z.float())
    found = published(13).to(dtype).eval()(z)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.z_q, expected.z_q)
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)
    # Odd codes past 2048 do not exist in these types.
    assert (found.codes[found.codes > 2048] % 2 == 1).any()


def test_the_largest_alphabet_has_a_codebook():
    layer = published(4, n_bits=18)
    assert layer.codebook.shape == (2**18, 4)
    codes = layer(vectors(300, 4)).codes
    assert layer.lookup(codes).shape == (300, 4)


def test_a_model_names_it_by_json():
    model = VQVAE((1, 8, 8), {"kind": "lfq", "params": {"n_bits": 6}}, 8, (1, 2), (4, 4))
    assert model.layer.n_codes == (64,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 3, "n_bits": 0}, "LFQ: n_bits is 0; expected 1 to 18"),
        ({"dim": 64}, "LFQ: n_bits is 64; expected 1 to 18; set n_bits, which is dim otherwise"),
        ({"dim": 0, "n_bits": 2}, "LFQ: dim is 0; expected at least 1"),
        ({"dim": 3, "commitment": -1}, "LFQ: commitment is -1; expected a weight of at least 0"),
        ({"dim": 3, "entropy": float("nan")}, "LFQ: entropy is nan; expected a weight"),
        ({"dim": 3, "gamma": -0.5}, "LFQ: gamma is -0.5; expected a weight"),
        ({"dim": 3, "temperature": 0.0}, "LFQ: temperature is 0.0; expected above 0"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        published(**arguments)


def test_codes_out_of_range_are_refused():
    with pytest.raises(InputError, match="LFQ: codes reach from 0 to 8; expected 0 to 7"):
        published(3).lookup(torch.tensor([0, 8]))


def test_a_codebook_to_start_from_is_refused():
    with pytest.raises(InputError, match="LFQ: its codebook is fixed by construction"):
        published(3).start_from(torch.zeros(8, 3))
