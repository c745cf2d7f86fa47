"""Residual blocks: their arithmetic, where they stand in both halves, how many weights they bring."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geovq.config import Spec
from geovq.errors import ConfigError
from geovq.models import VAE, VQVAE
from geovq.models.model import AutoencoderModel
from geovq.models.residual import ResidualBlock, residual_stack
from geovq.models.weights import n_parameters
from geovq.registry import build
from geovq.seeding import seeded_weights, torch_generator

EMA = {"kind": "ema", "params": {"n_codes": 8}}
SMALL = {"latent_dim": 8, "widths": [6, 4]}
MAPS = {"latent_dim": 3, "widths": [6, 4], "spatial": True}


def draws(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "test"))


def made(kind: str, image_shape=(1, 8, 8), **params: object) -> AutoencoderModel:
    own = {"layer": EMA, "tokens": [2, 2]} if kind == "vqvae" else {}
    with seeded_weights(0, "test"):
        model: AutoencoderModel = build("model", Spec(kind, {**own, **params}), image_shape=image_shape)
    return model


def block(width: int) -> ResidualBlock:
    with seeded_weights(0, "test"):
        return ResidualBlock(width)


def blocks_of(module: nn.Module) -> list[ResidualBlock]:
    return [part for part in module.modules() if isinstance(part, ResidualBlock)]


def by_hand(maps: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """A block from its definition: sums over 3x3 neighbours, then a matrix a pixel."""
    n, _, height, width = maps.shape
    padded = F.pad(maps.clamp(min=0), (1, 1, 1, 1))
    hidden = weights["layers.1.bias"][None, :, None, None].repeat(n, 1, height, width)
    for row in range(3):
        for column in range(3):
            neighbours = padded[:, :, row : row + height, column : column + width]
            matrix = weights["layers.1.weight"][:, :, row, column]
            hidden = hidden + torch.einsum("oi,nihw->nohw", matrix, neighbours)
    matrix = weights["layers.3.weight"][:, :, 0, 0]
    return (
        maps
        + torch.einsum("oi,nihw->nohw", matrix, hidden.clamp(min=0))
        + weights["layers.3.bias"][:, None, None]
    )


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 3), width=st.integers(1, 5), height=st.integers(1, 6), other=st.integers(1, 6))
def test_a_block_is_that_of_the_definition(n, width, height, other):
    layer = block(width).double()
    maps = draws(n, width, height, other).double()
    expected = by_hand(maps, layer.state_dict())
    torch.testing.assert_close(layer(maps), expected, rtol=1e-12, atol=1e-12)


def test_a_block_whose_last_layer_is_zero_changes_nothing():
    layer, maps = block(3), draws(2, 3, 5, 4)
    for parameter in layer.layers[-1].parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(layer(maps), maps)


def test_a_block_leaves_its_input():
    layer, maps = block(3), draws(2, 3, 4, 4)
    before = maps.clone()
    layer(maps)
    assert torch.equal(maps, before)


def test_a_stack_ends_in_an_activation_and_an_empty_one_is_nothing():
    assert residual_stack(4, 0) == []
    stack = residual_stack(4, 2)
    assert [type(layer) for layer in stack] == [ResidualBlock, ResidualBlock, nn.ReLU]
    assert (nn.Sequential(*stack)(draws(2, 4, 5, 5)) >= 0).all()


@pytest.mark.parametrize("params", [SMALL, MAPS], ids=["flat", "map"])
@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_blocks_are_in_both_halves_at_the_last_width(kind, params):
    model = made(kind, blocks=3, **params)
    for half in (model.encoder, model.decoder):
        assert [layer.layers[1].in_channels for layer in blocks_of(half)] == [4, 4, 4]
    plain = made(kind, **params)
    assert blocks_of(plain) == []
    images = torch.rand(3, 1, 8, 8, generator=torch_generator(0, "test"))
    assert model.encoder(images)[0].shape == plain.encoder(images)[0].shape
    assert model.decoder(model.encoder(images)[0]).shape == images.shape


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("params", [SMALL, MAPS], ids=["flat", "map"])
@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_a_block_brings_a_3x3_and_a_1x1_convolution_to_each_half(kind, params, blocks):
    deep, plain = made(kind, blocks=blocks, **params), made(kind, **params)
    of_one = (9 * 4 * 4 + 4) + (4 * 4 + 4)
    for half in ("encoder", "decoder"):
        grown = n_parameters(getattr(deep, half)) - n_parameters(getattr(plain, half))
        assert grown == blocks * of_one, half


@pytest.mark.parametrize("params", [SMALL, MAPS], ids=["flat", "map"])
@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_gradients_reach_every_weight_of_a_deep_stack(kind, params):
    model = made(kind, blocks=12, **{**params, "widths": [8, 8]})
    images = torch.rand(32, 1, 8, 8, generator=torch_generator(0, "test"))
    model.loss((images,), torch_generator(0, "loss"))["total"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_activations_are_relu_with_blocks_and_gelu_without():
    def kinds(model: AutoencoderModel) -> set[type[nn.Module]]:
        layers = [*model.encoder.features.modules(), *model.decoder.modules()]
        return {type(layer) for layer in layers if isinstance(layer, nn.ReLU | nn.GELU)}

    assert kinds(made("vae", **MAPS)) == {nn.GELU}
    assert kinds(made("vae", blocks=1, **MAPS)) == {nn.ReLU}


@pytest.mark.parametrize("make", [lambda **p: VAE((1, 8, 8), **p), lambda **p: VQVAE((1, 8, 8), EMA, **p)])
def test_fewer_blocks_than_none_are_refused(make):
    with pytest.raises(ConfigError, match=r"blocks -1; expected .* blocks of at least 0"):
        make(blocks=-1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"blocks": 2}, "blocks is 2 and normalization None with network 'dense'; expected neither"),
        ({"normalization": ((0.5,), (0.5,))}, r"blocks is 0 and normalization \(\(0.5,\), \(0.5,\)\) with"),
    ],
)
def test_a_dense_network_has_neither_blocks_nor_normalization(params, message):
    with pytest.raises(ConfigError, match=message):
        VAE((1, 8, 8), 4, (8,), network="dense", **params)
    with pytest.raises(ConfigError, match=message):
        VQVAE((1, 8, 8), EMA, 4, (2, 2), (8,), network="dense", **params)
