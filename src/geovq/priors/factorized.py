"""Priors under which every slot is independent of the others: the floors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from geovq.priors.inputs import checked_codes, checked_labels
from geovq.priors.sampling import SamplingRule, draw, sampling_uniforms
from geovq.tokenizer.layout import CodeLayout


class FactorizedPrior(ABC):
    """A product of one distribution a slot; a subclass gives their log-probabilities."""

    n_classes = 0

    def __init__(self, layout: CodeLayout) -> None:
        self.layout = layout

    @abstractmethod
    def log_probabilities(self, slot: int) -> np.ndarray:
        """Log-probabilities of the slot's codes in nats, float64 (K,)."""

    @abstractmethod
    def fit(self, codes: ArrayLike | Tensor) -> Self:
        """Learn from the codes (N, S) of training images, forgetting any earlier ones; returns itself."""

    @property
    def params(self) -> Mapping[str, Any]:
        """No keywords besides ``layout``."""
        return {}

    def nll(self, codes: ArrayLike | Tensor, labels: ArrayLike | Tensor | None = None) -> np.ndarray:
        """Negative log-likelihood of codes (N, S), float64 nats (N,); see ``Prior.nll``."""
        codes_ns = checked_codes(self.layout, codes)
        checked_labels(labels, len(codes_ns), self.n_classes)
        nats = np.zeros(len(codes_ns))
        for slot in range(self.layout.n_slots):
            nats -= self.log_probabilities(slot)[codes_ns[:, slot]]
        return nats

    def sample(
        self,
        n: int,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        labels: ArrayLike | Tensor | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """Codes of ``n`` images, int64 (n, S); see ``Prior.sample``."""
        rule = SamplingRule(temperature, top_k, top_p)
        uniforms = sampling_uniforms(n, self.layout.n_slots, seed)
        checked_labels(labels, n, self.n_classes)
        columns = [
            draw(rule.probabilities(torch.from_numpy(self.log_probabilities(slot))), uniforms[:, slot])
            for slot in range(self.layout.n_slots)
        ]
        return torch.stack(columns, dim=1).numpy()
