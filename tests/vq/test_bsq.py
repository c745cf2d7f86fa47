"""Binary spherical quantization against its formulas: the sphere, the gradient through it, the loss."""

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
from geovq.vq import BSQ

published = functools.partial(BSQ, decay=1.0)


def vectors(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "bsq vectors", step))


def written_out(z: Tensor, commitment: float, entropy: float, gamma: float, temperature: float) -> Tensor:
    """The loss bit by bit from its definition, in float64."""
    u = z.double() / z.double().norm(dim=1, keepdim=True)
    corner = z.shape[1] ** -0.5
    committed = (u - torch.where(u >= 0, corner, -corner).double()).square().sum(1).mean()
    loss = commitment * committed
    for channel in u.unbind(1):
        distances = torch.stack([(channel + corner).square(), (channel - corner).square()], dim=1)
        p = (-distances / temperature).softmax(1)
        of_each, of_average = torch.special.entr(p).sum(1).mean(), torch.special.entr(p.mean(0)).sum()
        loss = loss + entropy * (of_each + gamma * (math.log(2) - of_average))
    return loss


@given(st.integers(1, 8))
@settings(max_examples=8, deadline=None)
def test_codes_and_vectors_go_round_over_all_codes(n_bits):
    layer = published(n_bits).eval()
    codes = torch.arange(2**n_bits)
    book = layer.lookup(codes)
    assert torch.equal(layer.codebook, book)
    assert len(book.unique(dim=0)) == len(codes)
    assert torch.allclose(book.norm(dim=1), torch.ones(len(codes)))
    quantized = layer(book * 7)
    assert torch.equal(quantized.codes, codes)
    assert torch.equal(quantized.z_q, book)


def test_the_code_of_a_vector_is_its_signs_whatever_its_length():
    layer = published(4)
    z = torch.tensor([[-0.1, -5.0, -1.0, -2.0], [0.0, -1.0, -1.0, -1.0], [-1.0, 3.0, 2.0, 4.0]])
    for scale in (1e-4, 1.0, 1e6):
        quantized = layer(z * scale)
        assert quantized.codes.tolist() == [0, 1, 14]
        assert quantized.z_q.tolist() == [[-0.5] * 4, [0.5, -0.5, -0.5, -0.5], [-0.5, 0.5, 0.5, 0.5]]


@given(st.integers(1, 9), st.sampled_from([0.01, 1.0, 100.0]), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_the_gradient_is_that_of_the_unit_vector(n_bits, scale, step):
    z, upstream = (
        vectors(30, n_bits, step=step).mul(scale).requires_grad_(),
        vectors(30, n_bits, step=step + 1),
    )
    published(n_bits)(z).z_q.backward(upstream)
    length = z.detach().double().norm(dim=1, keepdim=True)
    u = z.detach().double() / length
    across = upstream - u * (u * upstream).sum(1, keepdim=True)
    assert torch.allclose(z.grad * length, across, rtol=1e-5, atol=1e-5)


@given(
    st.integers(2, 12),
    st.sampled_from([0.0, 0.25]),
    st.sampled_from([0.0, 0.1, 2.0]),
    st.sampled_from([0.0, 1.0, 1.5]),
    st.sampled_from([0.1, 1.0]),
    st.integers(0, 50),
)
@settings(max_examples=30, deadline=None)
def test_loss_and_gradient_are_the_formula_bit_by_bit(n_bits, commitment, entropy, gamma, temperature, step):
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


@pytest.mark.parametrize("length", [0.0, 1e-30, 1e-8])
def test_a_vector_of_no_length_has_the_code_of_its_signs_and_a_finite_gradient(length):
    z = torch.full((3, 4), length)
    z[1, 2] = -length
    z = z.requires_grad_()
    quantized = published(4, commitment=0.25)(z)
    assert quantized.codes.tolist() == [15, 15 - 4 * (length > 0), 15]
    assert torch.equal(quantized.z_q.abs(), torch.full((3, 4), 0.5))
    (quantized.z_q.sum() + quantized.loss).backward()
    assert torch.isfinite(quantized.loss)
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().max() < 10


def test_zero_among_others_does_not_touch_their_gradient():
    z = vectors(5, 4)
    alone = z.clone().requires_grad_()
    published(4)(alone).z_q.square().sum().backward()
    beside = torch.cat([z, torch.zeros(1, 4)]).requires_grad_()
    published(4)(beside).z_q.square().sum().backward()
    assert torch.equal(beside.grad[:5], alone.grad)


@pytest.mark.parametrize("n_bits", [2, 9, 18])
def test_the_distance_to_the_code_is_bounded(n_bits):
    # |u - q|^2 = 2 - 2 u.q and u.q = |u|_1 / sqrt(b) is at least 1 / sqrt(b).
    layer = published(n_bits, commitment=1.0, entropy=0.0)
    assert layer(vectors(2000, n_bits)).loss < 2 - 2 * n_bits**-0.5
    on_an_axis = torch.eye(n_bits)
    assert layer(on_an_axis).loss.item() == pytest.approx(2 - 2 * n_bits**-0.5, rel=1e-5)


def test_bits_count_as_independent_however_few():
    # Bits that always agree: two codes of eight, but each bit is used evenly.
    z = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    loss = published(3, entropy=1.0, temperature=0.01)(z).loss
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_without_weights_there_is_no_loss():
    assert published(5, entropy=0.0)(vectors(20, 5)).loss == 0


def test_vectors_spread_evenly_use_every_code():
    quantized = published(8).eval()(vectors(4000, 8))
    assert quantized.stats["batch_utilization"] == 1
    assert quantized.stats["code_norm"].item() == pytest.approx(1, rel=1e-6)
    assert quantized.stats["latent_norm"].item() == pytest.approx(1, rel=1e-5)


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_layer_cast_to_half_precision_keeps_its_codes(dtype):
    z = vectors(2000, 13).to(dtype)
    expected = published(13).eval()(z.float())
    found = published(13).to(dtype).eval()(z)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.z_q, expected.z_q)


def test_the_largest_alphabet_has_a_codebook():
    assert published(18).codebook.shape == (2**18, 18)


def test_a_model_names_it_by_json():
    model = VQVAE((1, 8, 8), {"kind": "bsq", "params": {"n_bits": 6}}, 8, (1, 2), (4, 4))
    assert model.layer.n_codes == (64,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 3, "n_bits": 19}, "BSQ: n_bits is 19; expected 1 to 18"),
        ({"dim": 3, "commitment": -1}, "BSQ: commitment is -1; expected a weight of at least 0"),
        ({"dim": 3, "temperature": -1.0}, "BSQ: temperature is -1.0; expected above 0"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        published(**arguments)


def test_a_codebook_to_start_from_is_refused():
    with pytest.raises(InputError, match="BSQ: its codebook is fixed by construction"):
        published(3).start_from(torch.zeros(8, 3))
