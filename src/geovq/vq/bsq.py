"""Binary spherical quantization: signs of a vector on the unit sphere.

Zhao, Xiong & Krähenbühl, "Image and Video Tokenization with Binary Spherical Quantization" (2024),
section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geovq.vq.estimators import SMALLEST_NORM
from geovq.vq.lfq import LFQ


class BSQ(LFQ):
    """``u = z / |z|``, ``q = sign(u) / sqrt(b)`` with sign(0) = 1, straight-through gradient at ``u``.

    The gradient then passes the normalisation, so it has no part along z. A vector of no length stays where
    it is, ``u = z``, and so does its gradient. The loss is ``LFQ``'s, of u and with codes on the sphere.
    There ``|u - q|`` is bounded by construction, so that commitment is not needed and 0 as published, and
    bits count as independent in H(E[p]) too (equation 8): the cost is linear in b.

    Parameters
    ----------
    dim : vector length d.
    n_bits : b, 1 to 18; where it is not d, learnt affine maps stand before and after. d if not given.
    commitment : weight of ``|u - sg(q)|^2``, which acts on the encoder alone.
    entropy : weight of the entropy penalty.
    gamma : weight of the codes' even use within it.
    temperature : of ``p(c | u)``, proportional to ``exp(-|u - c|^2 / temperature)``.
    decay : of the channels' moving mean and deviation; 1 leaves the channels as they are, as published.
    seed : of the maps' first weights.
    """

    bits_together = 1

    def __init__(
        self,
        dim: int,
        *,
        n_bits: int | None = None,
        commitment: float = 0.0,
        entropy: float = 0.1,
        gamma: float = 1.0,
        temperature: float = 1.0,
        decay: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(
            dim,
            n_bits=n_bits,
            commitment=commitment,
            entropy=entropy,
            gamma=gamma,
            temperature=temperature,
            decay=decay,
            seed=seed,
        )

    def _corner(self, n_bits: int) -> float:
        return n_bits**-0.5

    def _place(self, channels: Tensor) -> Tensor:
        has_length = channels.detach().norm(dim=1, keepdim=True) > SMALLEST_NORM
        # The norm is taken of what has a length alone: its derivative at 0 is not a number.
        lengths = torch.where(has_length, channels, 1.0).square().sum(1, keepdim=True).sqrt()
        return torch.where(has_length, channels / lengths, channels)
