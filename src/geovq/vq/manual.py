"""Straight-through vector quantization with its forward and backward pass written out by hand.

van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017), equation 3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from geovq.vq.vq import StraightThroughVQ


class ManualStraightThroughVQ(StraightThroughVQ):
    """``StraightThroughVQ`` to the last digit, as one function that shows where every gradient goes.

    Between forward and backward it keeps the vectors, their codes and ``z_q``, all of which exist anyway, and
    makes one array (n, d) in each; for reading, for teaching and where memory is short. Parameters as
    ``StraightThroughVQ``'s.
    """

    def _quantize(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        codes = self._assign(flat)
        quantized = self.codebook.detach()[codes]
        z_q, loss = QuantizeFunction.apply(flat, self.codebook, quantized, codes, self.commitment)
        return codes, z_q, loss


class QuantizeFunction(torch.autograd.Function):
    """``z_q = e`` and ``loss = mean_i(|sg(z_i) - e_i|^2 + beta |z_i - sg(e_i)|^2)``, and their gradients.

    With ``G`` the gradient arriving at ``z_q``, ``g`` that at ``loss``, ``e_i`` row ``k_i`` of the table::

        dz_i = G_i + g (2 beta / n) (z_i - e_i)          straight through, and the commitment term
        dE_k = g (2 / n) sum_{i: k_i = k} (e_k - z_i)    the codebook term, which beta does not touch
    """

    @staticmethod
    def forward(
        ctx: Any, flat: Tensor, codebook: Tensor, quantized: Tensor, codes: Tensor, commitment: float
    ) -> tuple[Tensor, Tensor]:
        """``quantized (n, d)`` and the loss of ``flat (n, d)``, which chose ``codes (n,)`` of the table."""
        ctx.save_for_backward(flat, quantized, codes)
        ctx.commitment, ctx.n_codes = commitment, len(codebook)
        ctx.set_materialize_grads(False)
        distortion = (flat - quantized).square_().sum(1).mean()
        return quantized, commitment * distortion + distortion

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_output: Tensor | None, of_loss: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients above, of ``flat (n, d)`` and of the codebook (K, d)."""
        if of_loss is None:
            return of_output, None, None, None, None
        flat, quantized, codes = ctx.saved_tensors
        pull = (flat - quantized).mul_(of_loss * (2 / len(flat)))
        of_codebook = None
        if ctx.needs_input_grad[1]:
            of_codebook = pull.new_zeros(ctx.n_codes, pull.shape[1]).index_add_(0, codes, pull, alpha=-1)
        of_flat = pull.mul_(ctx.commitment)
        if of_output is not None:
            of_flat += of_output
        return of_flat, of_codebook, None, None, None
