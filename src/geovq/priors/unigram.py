"""The unigram prior: one histogram a slot, what codes cost when their frequencies are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from geovq.errors import InputError
from geovq.priors.factorized import FactorizedPrior
from geovq.priors.inputs import checked_codes
from geovq.tokenizer.layout import CodeLayout


class UnigramPrior(FactorizedPrior):
    """Each slot's training histogram, smoothed so that a code never seen costs finitely.

    ``p(k) = (n_k + 1/2) / (n + K/2)``, the estimator of Krichevsky and Trofimov (1981, "The performance of
    universal encoding", IEEE Trans. Inf. Theory 27), for n training images and an alphabet of K.
    """

    def __init__(self, layout: CodeLayout) -> None:
        super().__init__(layout)
        self._starts = np.concatenate([[0], np.cumsum(layout.slot_alphabets)])
        self._counts = np.zeros(self._starts[-1], dtype=np.int64)

    def fit(self, codes: ArrayLike | Tensor) -> Self:
        """Count the codes (N, S) of N >= 1 training images, forgetting any earlier ones; returns itself."""
        codes_ns = checked_codes(self.layout, codes)
        if len(codes_ns) == 0:
            raise InputError("codes hold no image; expected at least 1 to count")
        self._counts = np.concatenate(
            [
                np.bincount(codes_ns[:, slot], minlength=n_codes)
                for slot, n_codes in enumerate(self.layout.slot_alphabets)
            ]
        )
        return self

    def log_probabilities(self, slot: int) -> np.ndarray:
        """Log of the smoothed frequencies, float64 (K,). Raises ``InputError`` before ``fit``."""
        counts = self._counts[self._starts[slot] : self._starts[slot + 1]]
        n_images = counts.sum()
        if n_images == 0:
            raise InputError("the unigram prior has counted no codes; call fit(codes) first")
        return np.log(counts + 0.5) - np.log(n_images + 0.5 * len(counts))

    def tensors(self) -> dict[str, np.ndarray]:
        """``counts``, int64: the histograms of all slots one after another."""
        return {"counts": self._counts}

    def load_tensors(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take over ``counts``."""
        self._counts = tensors["counts"]
