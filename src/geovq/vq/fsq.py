"""Finite scalar quantization: every channel is bounded and rounded to a few levels.

Mentzer, Minnen, Agustsson & Tschannen, "Finite Scalar Quantization: VQ-VAE Made Simple" (2023), section 3.1
and appendix A.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.vq.grid import GridLayer

MARGIN = 1e-3  # published: by so much the bound falls short of the outermost levels
MOST_LEVELS = 1000  # of a channel: with that margin, the outermost of more would round to their neighbours


class FSQ(GridLayer):
    """K = prod(levels) codes on a grid in [-1, 1], no auxiliary loss (0).

    A channel with L levels is bounded, ``f(z) = h tanh(z + s) - o`` with ``h = (L - 1)(1 - 0.001) / 2``, and
    rounded; its grid is ``round(f(z)) / floor(L / 2)``. An odd L has ``o = s = 0``. An even one has
    ``o = 1/2``, so that the grid lies half a step off centre and reaches from -1 to ``1 - 2 / L``, and
    ``s = artanh(o / h)``, so that 0 stays 0. (The paper's listing has tan for artanh; its authors confirm
    the slip.) The gradient passes the rounding unchanged, and the bound by its derivative.

    With L = 2, where o exceeds h and no such s exists, ``s = 0``: 0 then lies between the two levels, not in
    one of them.

    Parameters
    ----------
    dim : vector length d; where it is not the number of levels, learnt affine maps stand before and after.
    levels : L of every channel, 2 to 1000. Table 1 of the paper: 8 bits (8, 6, 5), 10 bits (8, 5, 5, 5),
        12 bits (7, 5, 5, 5, 5), 14 bits (8, 8, 8, 6, 5), 16 bits (8, 8, 8, 5, 5, 5), all nearly.
    decay : of the channels' moving mean and deviation; 1 leaves the channels as they are, as published.
    seed : of the maps' first weights.
    """

    def __init__(self, dim: int, levels: Sequence[int], *, decay: float = 0.95, seed: int = 0) -> None:
        if not levels or not all(2 <= level <= MOST_LEVELS for level in levels):
            raise InputError(
                f"FSQ: levels is {list(levels)}; expected one number or more, each 2 to {MOST_LEVELS}; give "
                "[8, 6, 5] for 240 codes"
            )
        super().__init__(dim, levels, decay=decay, seed=seed)

    def _place(self, channels: Tensor) -> Tensor:
        half = (self.levels - 1) * (1 - MARGIN) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = torch.where(self.levels == 2, 0.0, offset / half).atanh()
        return ((channels + shift).tanh() * half - offset) / (self.levels // 2)

    def _digits(self, placed: Tensor) -> Tensor:
        middle = self.levels // 2
        return (placed * middle).round().long() + middle

    def _points(self, digits: Tensor) -> Tensor:
        middle = self.levels // 2
        return (digits - middle).float() / middle

    def _loss(self, placed: Tensor, points: Tensor) -> Tensor:
        return placed.new_zeros(())
