"""The uniform prior: nominal bits, what codes cost when nothing is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from geovq.priors.factorized import FactorizedPrior
from geovq.priors.inputs import checked_codes


class UniformPrior(FactorizedPrior):
    """Every code of a slot's alphabet is equally probable: an image costs ``layout.bits * ln 2`` nats."""

    def fit(self, codes: ArrayLike | Tensor) -> Self:
        """Check the codes (N, S); there is nothing to learn from them."""
        checked_codes(self.layout, codes)
        return self

    def log_probabilities(self, slot: int) -> np.ndarray:
        """``-log K`` for each of the slot's K codes, float64 (K,)."""
        n_codes = self.layout.slot_alphabets[slot]
        return np.full(n_codes, -np.log(n_codes))

    def tensors(self) -> dict[str, np.ndarray]:
        """Nothing: the layout says it all."""
        return {}

    def load_tensors(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Nothing to take over."""
