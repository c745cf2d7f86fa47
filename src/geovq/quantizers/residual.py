"""Residual quantization: every level codes what the levels before it left over."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from geovq.quantizers.additive import refine_codebooks
from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.validation import check_count
from geovq.search import MAX_POINTS_PER_CODE, beam_search, extend_beams, kmeans, sample_rows
from geovq.search.nearest import unit_of
from geovq.seeding import derive_seed


class ResidualQuantizer(Quantizer):
    """A sum of one code from each of L codebooks, found by beam search.

    Level l is k-means on the residuals of the first l - 1 levels, under the codes that the same beam search
    finds with them: ``K^L`` sums for the storage of ``K L`` vectors. Then the codebooks of all levels are
    refined together: least squares given the codes, and the codes found again, in turn. At most 1,024 points
    a code are used. One level is k-means.

    Parameters
    ----------
    n_codes : K, at every level
    n_levels : L
    beam : partial sums kept while coding; 1 is greedy
    n_iterations : Lloyd iterations a level
    n_refinements : of all levels together, at most; 0 leaves each level as k-means of its residuals. Each
        costs as much as coding the points once.
    random_state : seed, or ``np.random.RandomState``, of the starts

    Attributes
    ----------
    codebook_ : (L, K, d)
    objectives_ : (refinements taken + 1,), mean squared error of the points used, before each and after the
        last; always falls (with ``n_refinements`` above 0 and L above 1 alone)

    Source: Chen, Guan and Wang, "Approximate Nearest Neighbor Search by Residual Vector Quantization",
    Sensors 2010; beam coding and joint codebooks as in Babenko and Lempitsky, CVPR 2014.
    """

    codebook_: np.ndarray
    objectives_: np.ndarray

    def __init__(
        self,
        n_codes: int = 8,
        n_levels: int = 2,
        beam: int = 8,
        n_iterations: int = 25,
        n_refinements: int = 3,
        random_state: Any = None,
    ) -> None:
        self.n_codes = n_codes
        self.n_levels = n_levels
        self.beam = beam
        self.n_iterations = n_iterations
        self.n_refinements = n_refinements
        self.random_state = random_state

    def planned_sizes(self, d: int) -> tuple[int, ...]:
        """``(K,) * L``."""
        return (self.n_codes,) * self.n_levels

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        for name in ("n_levels", "beam", "n_iterations"):
            check_count(name, getattr(self, name))
        check_count("n_refinements", self.n_refinements, minimum=0)
        first = kmeans(points, self.n_codes, seed, self.n_iterations)
        if self.n_levels == 1:
            self.codebook_ = first[None]
            return
        # Sampling bounds the memory of training, which holds points x beam x d numbers.
        used = points[sample_rows(len(points), MAX_POINTS_PER_CODE * self.n_codes, seed)]
        self.codebook_ = self._level_by_level(used, first, seed)
        if self.n_refinements:
            self.codebook_, self.objectives_ = refine_codebooks(
                used, self.codebook_, self.beam, self.n_refinements
            )

    def _level_by_level(self, points: np.ndarray, first: np.ndarray, seed: int) -> np.ndarray:
        """Codebooks (L, K, d): the one given, and of every later level k-means of what is left over."""
        codebooks = [first]
        # Far from the origin, beams would be told apart by the few digits that the offset leaves them.
        offset = first.mean(0)
        centered = points - offset
        unit = unit_of(float(np.abs(centered).max()))
        residuals_nbd = as_tensor(centered / unit)[:, None, :]
        extension = (first - offset) / unit
        for level in range(1, self.n_levels):
            residuals_nbd, _, _ = extend_beams(residuals_nbd, as_tensor(extension), self.beam)
            with warnings.catch_warnings():
                # Where the levels before leave nothing over, equal residuals are a success.
                warnings.simplefilter("ignore", UserWarning)
                level_seed = derive_seed(seed, "level", level)
                residual = residuals_nbd[:, 0].numpy()
                extension = kmeans(residual, self.n_codes, level_seed, self.n_iterations)
            codebooks.append(extension * unit)
        return np.stack(codebooks)

    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        return beam_search(points, as_tensor(self.codebook_).to(points.device), self.beam)
