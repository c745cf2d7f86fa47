"""Dropout whose mask comes from a generator that the caller passes, not from the global one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KeyedDropout(nn.Module):
    """Zero a fraction ``rate`` of the entries and scale up the rest (Srivastava et al. 2014).

    Active in train mode and with a generator. ``torch.nn.Dropout`` takes none, so a run that resumes could
    not repeat its masks.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """``x`` (...) with a fresh mask of the same shape, drawn on the generator's device."""
        if self.rate == 0 or generator is None or not self.training:
            return x
        keep = 1 - self.rate
        mask = torch.empty(x.shape, device=generator.device).bernoulli_(keep, generator=generator)
        return x * mask.to(x).div(keep)
