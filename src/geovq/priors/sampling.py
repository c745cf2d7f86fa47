"""From logits to a code: temperature, top-k and top-p truncation, and draws that are reproducible."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.seeding import numpy_generator


@dataclass(frozen=True)
class SamplingRule:
    """How a distribution is reshaped before a code is drawn from it.

    Logits are divided by ``temperature``; then the ``top_k`` most probable codes are kept (0: all; 1 is
    greedy; ties go to the lowest code); then, of those, the fewest whose probabilities reach ``top_p``
    together (at least one; Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"). What is
    kept is normalised again. Raises ``InputError`` for values outside these ranges.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise InputError(
                f"temperature is {self.temperature}; expected a finite number above 0 "
                "(for the most probable code at every slot, give top_k=1)"
            )
        if self.top_k < 0 or self.top_k != int(self.top_k):
            raise InputError(f"top_k is {self.top_k}; expected a whole number of codes to keep, or 0 for all")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; expected a probability above 0 and at most 1")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities (..., K) of logits (..., K), float64 on the CPU."""
        logits = logits.to("cpu").double()
        # The largest logit becomes 0 first, so that no temperature, however small, makes infinity - infinity.
        scaled = (logits - logits.amax(-1, keepdim=True)) / self.temperature
        if self.top_k == 0 and self.top_p == 1:
            return scaled.softmax(-1)
        ranked, order = scaled.sort(dim=-1, descending=True, stable=True)
        if self.top_k:
            ranked[..., int(self.top_k) :] = -math.inf
        kept = ranked.softmax(-1)
        if self.top_p < 1:
            before = kept.cumsum(-1) - kept
            kept = kept.masked_fill(before >= self.top_p, 0)
            kept = kept / kept.sum(-1, keepdim=True)
        return torch.zeros_like(kept).scatter(-1, order, kept)


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Codes (n,) by inversion of float64 ``probabilities``, (n, K) or (K,) for all, at ``uniforms`` (n,).

    ``uniforms`` are float64 in [0, 1). A code of probability 0 is never drawn.
    """
    cumulative = probabilities.cumsum(-1)
    # Below the total even when rounded, because a float64 below 1 is at most 1 - 2^-53: some code is found.
    level = uniforms * cumulative[..., -1]
    return torch.searchsorted(cumulative, level.unsqueeze(-1), right=True).squeeze(-1)


def sampling_uniforms(n: int, n_slots: int, seed: int) -> Tensor:
    """Uniform draws (n, S) in [0, 1): entry (i, s) is the i-th draw keyed by (seed, "prior sample", s).

    An image's draws depend neither on ``n`` nor on how images are batched. Raises ``InputError`` unless ``n``
    is at least 1.
    """
    if n < 1:
        raise InputError(f"n is {n}; expected at least 1 image to sample")
    columns = [numpy_generator(seed, "prior sample", slot).random(n) for slot in range(n_slots)]
    return torch.from_numpy(np.stack(columns, axis=1))
