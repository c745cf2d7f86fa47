"""Residual quantization: every level codes what the levels before it left over."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.validation import check_count
from geovq.search import beam_search, extend_beams, kmeans, sample_rows
from geovq.seeding import derive_seed

MAX_POINTS_PER_CODE = 1024  # bounds the memory of training: points x beam x d numbers


class ResidualQuantizer(Quantizer):
    """A sum of one code from each of L codebooks, found by beam search.

    Level l is k-means on the residuals of the first l - 1 levels, under the codes that the same beam search
    finds with them: ``K^L`` sums for the storage of ``K L`` vectors. At most 1,024 points a code are used.

    Parameters
    ----------
    n_codes : K, at every level
    n_levels : L
    beam : partial sums kept while coding; 1 is greedy
    n_iterations : Lloyd iterations a level
    random_state : seed, or ``np.random.RandomState``, of the starts

    Attributes
    ----------
    codebook_ : (L, K, d)

    Source: Chen, Guan and Wang, "Approximate Nearest Neighbor Search by Residual Vector Quantization",
    Sensors 2010; beam coding as in Babenko and Lempitsky, CVPR 2014.
    """

    def __init__(
        self,
        n_codes: int = 8,
        n_levels: int = 2,
        beam: int = 8,
        n_iterations: int = 25,
        random_state: Any = None,
    ) -> None:
        self.n_codes = n_codes
        self.n_levels = n_levels
        self.beam = beam
        self.n_iterations = n_iterations
        self.random_state = random_state

    @property
    def code_sizes(self) -> tuple[int, ...]:
        """``(K,) * L``."""
        return (self.n_codes,) * self.n_levels

    def _fit(self, points: np.ndarray, sigma: np.ndarray | None, seed: int) -> None:
        for name in ("n_levels", "beam", "n_iterations"):
            check_count(name, getattr(self, name))
        rows = sample_rows(len(points), MAX_POINTS_PER_CODE * self.n_codes, seed)
        residuals_nbd = as_tensor(points[rows])[:, None, :]
        codebooks: list[np.ndarray] = []
        for level in range(self.n_levels):
            level_seed = derive_seed(seed, "level", level)
            with warnings.catch_warnings():
                if level > 0:  # where the levels before leave nothing over, equal residuals are a success
                    warnings.simplefilter("ignore", UserWarning)
                residual = residuals_nbd[:, 0].numpy()
                codebooks.append(kmeans(residual, self.n_codes, level_seed, self.n_iterations))
            residuals_nbd, _, _ = extend_beams(residuals_nbd, as_tensor(codebooks[-1]), self.beam)
        self.codebook_ = np.stack(codebooks)

    def _encode(self, points: torch.Tensor, sigma: torch.Tensor | None) -> torch.Tensor:
        return beam_search(points, as_tensor(self.codebook_).to(points.device), self.beam)
