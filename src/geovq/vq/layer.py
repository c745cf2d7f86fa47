"""The interface of everything that quantizes inside a PyTorch model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from geovq.errors import InputError
from geovq.vq.quantized import Quantized

Codebook = Tensor | np.ndarray | Sequence[Tensor] | Sequence[np.ndarray]
"""Vectors (K, d) of a fitted quantizer, or for L additive levels (L, K, d) or a list of L tables (K_l, d)."""


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

    @property
    def awaits_start(self) -> bool:
        """Whether the codebook will start on the first training batch and has not yet."""
        return False

    def start_on(self, flat: Tensor) -> None:
        """Start the codebook on vectors (n, d), as the first training batch would; the layer awaits it."""

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (...) or (..., L): the ``z_q`` that ``forward`` gives in eval mode."""

    @abstractmethod
    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z (..., d)``."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Moves to a device are followed, casts are not: in half precision codes flip and averages stall.
        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved, recurse)

    def start_from(self, codebook: Codebook) -> None:
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
    _refuse_non_finite(name, flat.detach())
    return flat


@torch.compiler.disable
def _refuse_non_finite(name: str, flat: Tensor) -> None:
    # One pass that makes no copy; a sum that overflows leads to the exact count, no more.
    if not bool(flat.sum().isfinite()):
        n_bad = int((~flat.isfinite()).sum())
        if n_bad:
            raise InputError(
                f"{name}: {n_bad} of {flat.numel()} numbers of z are not finite; expected finite numbers; "
                "lower the learning rate or look at the encoder's input"
            )


@torch.compiler.disable
def check_codes(name: str, codes: Tensor, n_codes: int) -> None:
    """Raises ``InputError``, for the layer called ``name``, if a code is negative or not below K."""
    if not bool(((codes >= 0) & (codes < n_codes)).all()):
        raise InputError(
            f"{name}: codes reach from {int(codes.min())} to {int(codes.max())}; expected 0 to {n_codes - 1}"
        )


def levels_of(codebook: Codebook) -> list[Tensor]:
    """The tables (K_l, d) of a codebook (K, d), (L, K, d) or a list of them."""
    if isinstance(codebook, Sequence):
        return [torch.as_tensor(level).detach() for level in codebook]
    table = torch.as_tensor(codebook).detach()
    return list(table) if table.ndim == 3 else [table]


def check_table(name: str, table: Tensor, n_codes: int, dim: int) -> None:
    """Raises ``InputError``, for the layer called ``name``, unless a table is (n_codes, dim) and finite."""
    if table.shape != (n_codes, dim):
        raise InputError(
            f"{name}: the codebook to start from has shape {tuple(table.shape)}; expected "
            f"({n_codes}, {dim}), n_codes and dim of this layer; fit a quantizer with as many codes, or set "
            "n_codes to its"
        )
    if not bool(table.isfinite().all()):
        raise InputError(
            f"{name}: the codebook to start from has {int((~table.isfinite()).sum())} numbers that are not "
            "finite; expected finite numbers; fit the quantizer again"
        )


def one_level(name: str, codebook: Codebook, n_codes: int, dim: int) -> Tensor:
    """The single table (K, d) of a fitted quantizer's codebook, for the layer called ``name``.

    Raises ``InputError`` if there are more levels than one, or they are not (n_codes, dim) and finite.
    """
    levels = levels_of(codebook)
    if len(levels) != 1:
        raise InputError(
            f"{name}: the codebook to start from has {len(levels)} levels; expected 1, a code a vector"
        )
    check_table(name, levels[0], n_codes, dim)
    return levels[0]
