"""How a gradient passes a layer that chooses among codes, which has none of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_NORM = 1e-6  # below it a direction is rounding noise


def straight_through(z: Tensor, quantized: Tensor) -> Tensor:
    """Exactly ``quantized`` in value, with the gradient of ``z``: ``z + sg(e - z)`` without its rounding.

    van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017), section 3.2.
    """
    passed: Tensor = _StraightThrough.apply(z, quantized)
    return passed


class _StraightThrough(torch.autograd.Function):
    """As a sum of tensors it would make two more arrays of their size."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, quantized: Tensor) -> Tensor:
        return quantized.view_as(quantized)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def mean_squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """``|a - b|^2`` summed over d and averaged over vectors (n, d), without arrays in between."""
    return functional.mse_loss(a, b, reduction="sum") / len(a)


def rotated(z: Tensor, quantized: Tensor) -> Tensor:
    """Exactly ``quantized (n, d)`` in value, ``z`` rotated and scaled onto it for the gradient.

    Fifty et al., "Restructuring Vector Quantization with the Rotation Trick" (2024), section 4.2:
    ``z_q = (|e| / |z|) R z`` with ``R = I - 2 r r' + 2 e^ z^'`` and ``r = (z^ + e^) / |z^ + e^|``, R and the
    scale held constant. Straight-through where that is undefined or would turn gradients around: a vector or
    code of no length, an angle of 90 degrees and more, a single dimension.
    """
    with torch.no_grad():
        z_norm, e_norm = z.norm(dim=-1, keepdim=True), quantized.norm(dim=-1, keepdim=True)
        z_unit = z / z_norm.clamp_min(SMALLEST_NORM)
        e_unit = quantized / e_norm.clamp_min(SMALLEST_NORM)
        middle = z_unit + e_unit
        middle = middle / middle.norm(dim=-1, keepdim=True).clamp_min(SMALLEST_NORM)
        scale = e_norm / z_norm.clamp_min(SMALLEST_NORM)
        defined = (z_unit * e_unit).sum(-1, keepdim=True) > 0
        defined &= (z_norm > SMALLEST_NORM) & (e_norm > SMALLEST_NORM)
        if z.shape[-1] == 1:
            defined = torch.zeros_like(defined)
    along_middle = (z * middle).sum(-1, keepdim=True)
    along_z = (z * z_unit).sum(-1, keepdim=True)
    turned = scale * (z - 2 * along_middle * middle + 2 * along_z * e_unit)
    return straight_through(torch.where(defined, turned, z), quantized)
