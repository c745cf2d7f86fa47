"""Finite scalar quantization against its formula: codes, grid, gradients, projections, precision."""

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
from geovq.vq import FSQ

published = functools.partial(FSQ, decay=1.0)

SMALL_LEVELS = st.lists(st.integers(2, 9), min_size=1, max_size=4).filter(
    lambda levels: math.prod(levels) <= 500
)


def vectors(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "fsq vectors", step))


def bounded(z: float, level: int) -> float:
    """The paper's f(z) before rounding, in float64."""
    half = (level - 1) * (1 - 1e-3) / 2
    offset = 0.0 if level % 2 else 0.5
    shift = math.atanh(offset / half) if level > 2 else 0.0
    return half * math.tanh(z + shift) - offset


@given(SMALL_LEVELS)
@settings(max_examples=30, deadline=None)
def test_codes_and_vectors_go_round_over_all_codes(levels):
    layer = published(len(levels), levels).eval()
    codes = torch.arange(math.prod(levels))
    book = layer.lookup(codes)
    assert layer.n_codes == (len(codes),)
    assert torch.equal(layer.codebook, book)
    assert len(book.unique(dim=0)) == len(codes)
    assert (book >= -1).all()
    assert (book <= 1).all()
    # A vector that the bound takes onto a grid point must have that point's code; the ends lie past it.
    targets = [
        (value * (level // 2), level)
        for row in book.tolist()
        for value, level in zip(row, levels, strict=True)
    ]
    z = torch.tensor([inverse(target, level) for target, level in targets]).reshape(book.shape)
    quantized = layer(z)
    assert torch.equal(quantized.codes, codes)
    assert torch.equal(quantized.z_q, book)


def inverse(target: float, level: int) -> float:
    """z with ``bounded(z)`` equal to the target, or near to it where it is out of reach."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if bounded(middle, level) < target else (low, middle)
    return low


def test_the_first_channel_is_the_lowest_digit():
    layer = published(3, [5, 4, 3])
    digits = (layer.codebook * torch.tensor([2, 2, 1]) + torch.tensor([2, 2, 1])).long()
    assert digits[[0, 1, 5, 20, 59]].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [4, 3, 2]]


@pytest.mark.parametrize(
    ("level", "grid"),
    [
        (2, [-1.0, 0.0]),
        (3, [-1.0, 0.0, 1.0]),
        (4, [-1.0, -0.5, 0.0, 0.5]),
        (5, [-1.0, -0.5, 0.0, 0.5, 1.0]),
        (8, [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]),
    ],
)
def test_the_grid_of_a_channel(level, grid):
    assert published(1, [level]).codebook[:, 0].tolist() == grid


@pytest.mark.parametrize("level", [2, 3, 4, 5, 8, 9])
def test_values_are_the_rounded_bound(level):
    z = torch.linspace(-4, 4, 401)[:, None]
    expected = [round(bounded(value, level)) / (level // 2) for value in z[:, 0].tolist()]
    assert published(1, [level]).eval()(z).z_q[:, 0].tolist() == expected


@pytest.mark.parametrize("level", range(3, 10))
def test_zero_stays_zero_from_three_levels_on(level):
    layer = published(1, [level])
    z = torch.tensor([[-0.05], [0.0], [0.05]])
    assert (layer(z).z_q == 0).all()


def test_two_levels_part_at_zero():
    layer = published(1, [2])
    assert layer(torch.tensor([[-0.01], [0.01]])).codes.tolist() == [0, 1]
    z = torch.zeros(1, 1, requires_grad=True)
    layer(z).z_q.sum().backward()
    assert z.grad.item() == pytest.approx(0.4995, rel=1e-5)


@pytest.mark.parametrize("levels", [[5, 4, 3], [2, 3, 8], [8, 6, 5]])
def test_vectors_spread_evenly_use_every_code(levels):
    # Even in the bounded space.
    fraction = torch.rand(20_000, 3, generator=torch_generator(0, "even")) * 2 - 1
    codes = published(3, levels).eval()(fraction.mul(0.9999).atanh()).codes
    assert len(codes.unique()) == math.prod(levels)


@pytest.mark.parametrize("level", [2, 1000])
def test_the_outermost_levels_are_reached(level):
    assert published(1, [level])(torch.tensor([[-50.0], [50.0]])).codes.tolist() == [0, level - 1]


@given(st.lists(st.integers(2, 12), min_size=1, max_size=3), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_the_gradient_is_that_of_the_bound(levels, step):
    layer = published(len(levels), levels).train()
    z = vectors(20, len(levels), step=step).requires_grad_()
    upstream = vectors(20, len(levels), step=step + 1)
    layer(z).z_q.backward(upstream)
    half = torch.tensor([(level - 1) * (1 - 1e-3) / 2 for level in levels], dtype=torch.float64)
    offset = torch.tensor([0.0 if level % 2 else 0.5 for level in levels], dtype=torch.float64)
    shift = torch.tensor(
        [math.atanh(o / h) if o < h else 0.0 for o, h in zip(offset.tolist(), half.tolist(), strict=True)]
    )
    width = torch.tensor([level // 2 for level in levels])
    slope = half * (1 - (z.detach().double() + shift).tanh().square()) / width
    assert torch.allclose(z.grad.double(), upstream * slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", [2, 3, 4, 7, 8])
def test_the_gradient_is_the_difference_quotient_of_the_bound(level):
    z = torch.linspace(-1.5, 1.5, 31)[:, None].requires_grad_()
    published(1, [level])(z).z_q.sum().backward()
    step = 1e-5
    for value, slope in zip(z[:, 0].tolist(), z.grad[:, 0].tolist(), strict=True):
        quotient = (bounded(value + step, level) - bounded(value - step, level)) / (2 * step * (level // 2))
        assert slope == pytest.approx(quotient, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dim", [3, 7])
def test_there_is_no_auxiliary_loss(training, dim):
    assert published(dim, [5, 4, 3]).train(training)(vectors(10, dim)).loss == 0


def test_as_many_dimensions_as_levels_have_nothing_to_learn():
    layer = published(3, [5, 4, 3])
    assert list(layer.parameters()) == []


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_other_widths_are_projected_in_and_out(dim):
    layer = published(dim, [5, 4, 3], seed=2)
    z = vectors(50, dim)
    quantized = layer(z)
    inner = published(3, [5, 4, 3])(layer.project_in(z))
    assert torch.equal(quantized.codes, inner.codes)
    assert torch.allclose(quantized.z_q, layer.project_out(inner.z_q), atol=1e-6)
    quantized.z_q.square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_the_gradient_through_projections_is_the_chain_rule():
    layer = published(7, [5, 4, 3])
    z, upstream = vectors(50, 7).requires_grad_(), vectors(50, 7, step=1)
    layer(z).z_q.backward(upstream)
    channels = layer.project_in(z.detach()).detach().requires_grad_()
    published(3, [5, 4, 3])(channels).z_q.backward(upstream @ layer.project_out.weight.detach())
    assert torch.allclose(z.grad, channels.grad @ layer.project_in.weight.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dim", [3, 7, 64])
def test_the_vector_of_a_code_does_not_depend_on_the_batch(dim):
    layer = published(dim, [8, 6, 5]).eval()
    quantized = layer(vectors(101, dim))
    assert torch.equal(layer.codebook[quantized.codes], quantized.z_q)
    for row in range(0, 101, 10):
        assert torch.equal(layer.lookup(quantized.codes[row]), quantized.z_q[row])


def test_first_weights_are_keyed_by_the_seed():
    def weight(seed: int) -> Tensor:
        return published(7, [5, 4], seed=seed).project_in.weight

    assert torch.equal(weight(0), weight(0))
    assert not torch.equal(weight(0), weight(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_layer_cast_to_half_precision_keeps_its_codes(dtype):
    levels = [7, 7, 7, 7]
    z = vectors(2000, 4).to(dtype)
    expected = published(4, levels).eval()(z.float())
    found = published(4, levels).to(dtype).eval()(z)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.z_q, expected.z_q)
    # Codes past 256 and 2048 have gaps in these types.
    assert (found.codes % 2 == 1).any()
    assert found.codes.max() > 2048


def test_the_largest_alphabet_has_a_codebook():
    layer = published(6, [8] * 6)
    assert layer.bits == 18
    assert layer.codebook.shape == (2**18, 6)
    assert torch.equal(layer.codebook[-1], torch.full((6,), 0.75))


def test_training_moves_a_small_autoencoder_to_other_codes():
    layer = published(5, [5, 4, 3], seed=1)
    z = vectors(200, 5)
    weights = list(layer.parameters())

    def error() -> Tensor:
        return (layer(z).z_q - z).square().mean()

    before = error().item()
    for _ in range(40):
        for weight, gradient in zip(weights, torch.autograd.grad(error(), weights), strict=True):
            weight.data -= 0.5 * gradient
    assert error().item() < 0.75 * before


def test_a_model_names_it_by_json():
    model = VQVAE((1, 8, 8), {"kind": "fsq", "params": {"levels": [8, 6, 5]}}, 8, (1, 2), (4, 4))
    assert model.layer.n_codes == (240,)
    assert model.layer.project_in.in_features == 4


@pytest.mark.parametrize("codes", [[0, 60], [-1, 3]])
def test_codes_out_of_range_are_refused(codes):
    with pytest.raises(
        InputError, match=rf"FSQ: codes reach from {codes[0]} to {codes[1]}; expected 0 to 59"
    ):
        published(3, [5, 4, 3]).lookup(torch.tensor(codes))


@pytest.mark.parametrize(
    ("dim", "levels", "message"),
    [
        (
            2,
            [4, 1],
            r"FSQ: levels is \[4, 1\]; expected one number or more, each 2 to 1000; give \[8, 6, 5\]",
        ),
        (1, [1001], r"FSQ: levels is \[1001\]; .* each 2 to 1000"),
        (1, [], r"FSQ: levels is \[\]; expected one number or more"),
        (0, [4], "FSQ: dim is 0; expected at least 1"),
        (
            7,
            [8] * 7,
            r"FSQ: levels .* give 2097152 codes; expected at most 262144; cut latents into more tokens",
        ),
    ],
)
def test_impossible_settings_are_refused(dim, levels, message):
    with pytest.raises(InputError, match=message):
        published(dim, levels)


def test_a_codebook_to_start_from_is_refused():
    with pytest.raises(InputError, match="FSQ: its codebook is fixed by construction"):
        published(3, [5, 4, 3]).start_from(torch.zeros(60, 3))
