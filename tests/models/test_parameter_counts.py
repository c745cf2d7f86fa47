"""A VAE and a VQ-VAE of one layout are about the same size, or their comparison would not be fair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from geovq.models import VAE, VQVAE
from geovq.models.weights import n_parameters

EMA = {"kind": "ema", "params": {"n_codes": 8}}
MNIST = (1, 28, 28)


def pair(
    image_shape: Sequence[int], tokens: Sequence[int], params: Mapping[str, Any], widths: Sequence[int] = ()
) -> tuple[VAE, VQVAE]:
    """A VAE and a VQ-VAE; the VQ-VAE has ``widths`` of its own if they are given."""
    other = {**params, "widths": widths} if widths else params
    return VAE(image_shape, **params), VQVAE(image_shape, EMA, tokens=tokens, **other)


def gap(*modules: Any) -> float:
    """By how much the larger of two modules exceeds the smaller."""
    sizes = [n_parameters(module) for module in modules]
    return max(sizes) / min(sizes) - 1


LAYOUTS = {
    "flat": (MNIST, (2, 4), {"latent_dim": 32, "widths": (64, 128)}),
    "flat digits": ((1, 8, 8), (2, 2), {"latent_dim": 16, "widths": (32, 64)}),
    "flat colour": ((3, 32, 32), (4, 4), {"latent_dim": 64, "widths": (64, 128)}),
    "7x7 map": (MNIST, (7, 7), {"latent_dim": 4, "widths": (64, 128), "spatial": True}),
    "wide flat": (MNIST, (2, 4), {"latent_dim": 32, "widths": (128, 256)}),
    "wide 7x7 map": (MNIST, (7, 7), {"latent_dim": 4, "widths": (128, 256), "spatial": True}),
    "8x8 colour map": ((3, 32, 32), (8, 8), {"latent_dim": 8, "widths": (64, 128), "spatial": True}),
    "dense": (MNIST, (1, 5), {"latent_dim": 20, "widths": (400,), "network": "dense"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_kinds_have_about_as_many_parameters(layout):
    image_shape, tokens, params = LAYOUTS[layout]
    continuous, discrete = pair(image_shape, tokens, params)
    assert gap(continuous.encoder, discrete.encoder) <= 0.05
    assert n_parameters(continuous.decoder) == n_parameters(discrete.decoder)


def test_a_map_as_wide_as_its_features_needs_a_slightly_wider_vqvae():
    grid = {"latent_dim": 64, "widths": (32, 64), "spatial": True}
    continuous, discrete = pair(MNIST, (7, 7), grid)
    assert gap(continuous.encoder, discrete.encoder) > 0.1  # the VAE's second head, 64 to 64 channels
    continuous, discrete = pair(MNIST, (7, 7), grid, widths=(33, 66))
    assert gap(continuous.encoder, discrete.encoder) <= 0.05
    assert gap(continuous, discrete) <= 0.05


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Two layers a half: 784-400-40 (mean and log sigma) or 784-400-20, and 20-400-784 back.
        ("vae", (784 * 400 + 400) + (400 * 40 + 40) + (20 * 400 + 400) + (400 * 784 + 784)),
        ("vqvae", (784 * 400 + 400) + (400 * 20 + 20) + (20 * 400 + 400) + (400 * 784 + 784)),
    ],
)
def test_a_dense_model_has_as_many_parameters_as_its_layers(kind, expected):
    continuous, discrete = pair(*LAYOUTS["dense"])
    assert n_parameters(continuous if kind == "vae" else discrete) == expected


def test_the_codebook_is_no_parameter():
    _, discrete = pair(*LAYOUTS["flat digits"])
    assert n_parameters(discrete) == n_parameters(discrete.encoder, discrete.decoder)
