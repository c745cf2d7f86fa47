"""The interface of everything that quantizes inside a PyTorch model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geovq.errors import InputError
from geovq.vq.quantized import Quantized


class QuantizerLayer(nn.Module, ABC):
    """Vectors to codes and back: a trainable layer, or a post-hoc quantizer as a module.

    Every layer has its codes' vectors as ``codebook``, a buffer, parameter or property: (K, d), or for L
    additive levels (L, K, d) or a list of L tensors (K_l, d).
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
    def learns_by_output(self) -> bool:
        """Whether the codebook learns by the gradient of ``z_q``, not by ``loss`` or by averages."""
        return False

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

    def start_from(self, codebook: Tensor | Sequence[Tensor]) -> None:
        """Take the vectors of a fitted quantizer as the codebook, instead of a start on the first batch.

        ``codebook`` is (K, d), or for L levels (L, K, d) or a list of L tensors (K_l, d).

        Raises ``InputError`` if its shape is not this layer's, or the layer's codebook cannot be chosen.
        """
        raise InputError(
            f"{type(self).__name__}: its codebook is fixed by construction and cannot start from another; "
            "expected a layer with a table of vectors, such as EMAVQ"
        )


def checked_tokens(name: str, z: Tensor, dim: int) -> Tensor:
    """``z (..., d)`` as float32 (n, d), in the graph.

    Raises ``InputError``, for the layer called ``name``, if the last dimension is not ``dim``, there is no
    vector, or a number is not finite.
    """
    if z.ndim == 0 or z.shape[-1] != dim:
        raise InputError(f"{name}: z has shape {tuple(z.shape)}; expected (..., {dim})")
    if z.numel() == 0:
        raise InputError(f"{name}: z has shape {tuple(z.shape)}, no vector at all; expected at least one")
    flat = z.reshape(-1, dim).float()
    # One pass that makes no copy; a sum that overflows leads to the exact count, no more.
    if not torch.compiler.is_compiling() and not bool(flat.detach().sum().isfinite()):
        n_bad = int((~flat.detach().isfinite()).sum())
        if n_bad:
            raise InputError(
                f"{name}: {n_bad} of {flat.numel()} numbers of z are not finite; expected finite numbers; "
                "lower the learning rate or look at the encoder's input"
            )
    return flat


def one_level(name: str, codebook: Tensor | Sequence[Tensor], n_codes: int, dim: int) -> Tensor:
    """The single table (K, d) of a fitted quantizer's codebook, for the layer called ``name``.

    Raises ``InputError`` if there are more levels than one, or they are not (n_codes, dim).
    """
    levels = list(codebook) if not isinstance(codebook, Tensor) or codebook.ndim == 3 else [codebook]
    if len(levels) != 1 or levels[0].shape != (n_codes, dim):
        found = " and ".join(str(tuple(level.shape)) for level in levels)
        raise InputError(
            f"{name}: the codebook to start from has shape {found}; expected ({n_codes}, {dim}), n_codes and "
            "dim of this layer; fit a quantizer with as many codes, or set n_codes to its"
        )
    return levels[0].detach()
