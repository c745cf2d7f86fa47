"""The vectors that codes are decoded to, apart from the quantizer that finds the codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from geovq.quantizers import Quantizer
from geovq.vq import QuantizerLayer


class CodeVectors(nn.Module):
    """One trainable vector for every code: a token is the sum of one a level.

    They start as the codebook of a quantizer and are tuned together with a decoder, while the quantizer goes
    on to find the codes with its own.

    Parameters
    ----------
    levels : L codebooks (K_l, d)
    """

    def __init__(self, levels: Sequence[Tensor]) -> None:
        super().__init__()
        self.levels = nn.ParameterList(nn.Parameter(level.detach().clone().float()) for level in levels)

    @classmethod
    def of(cls, quantizer: QuantizerLayer) -> Self:
        """The codebook of a quantizer, copied."""
        return cls(codebooks(quantizer))

    @classmethod
    def empty(cls, sizes: Sequence[Sequence[int]]) -> Self:
        """Vectors of the given shapes (K_l, d), to be filled from a state."""
        return cls([torch.zeros(*size) for size in sizes])

    def forward(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (..., L)."""
        levels: list[Tensor] = list(self.levels)
        return Quantizer.look_up(levels, codes)


def codebooks(quantizer: QuantizerLayer) -> list[Tensor]:
    """The additive codebooks (K_l, d) of a quantizer, one a level."""
    codebook = quantizer.codebook
    assert isinstance(codebook, Tensor | list)
    if isinstance(codebook, Tensor) and codebook.ndim == 2:
        return [codebook]
    return list(codebook)
