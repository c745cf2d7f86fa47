"""The interface of everything that quantizes inside a PyTorch model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor, nn

from geovq.vq.quantized import Quantized


class QuantizerLayer(nn.Module, ABC):
    """Vectors to codes and back: a trainable layer, or a post-hoc quantizer as a module.

    Every layer has its codes' vectors as ``codebook``, a buffer or a property: (K, d), or for L additive
    levels (L, K, d) or a list of L tensors (K_l, d).
    """

    @property
    @abstractmethod
    def n_codes(self) -> tuple[int, ...]:
        """Alphabet size of every level."""

    @property
    def bits(self) -> float:
        """Nominal bits a vector."""
        return sum(math.log2(size) for size in self.n_codes)

    @property
    def uses_sigma(self) -> bool:
        """Whether ``forward`` takes posterior standard deviations (..., d) as its second argument."""
        return False

    @property
    def uses_metric(self) -> bool:
        """Whether ``forward`` takes metric tensors (..., d, d) as its third argument."""
        return False

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (...) or (..., L): the ``z_q`` that ``forward`` gives in eval mode."""

    @abstractmethod
    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z (..., d)``."""
