"""Codes for diagonal Gaussians: posterior means with their standard deviations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.validation import check_choice, check_count
from geovq.search import cell_means, kmeans, nearest_codes, nearest_codes_weighted


class GaussianQuantizer(Quantizer):
    """k-means over diagonal Gaussians N(mu, diag(sigma^2)), in one of two metrics.

    ``wasserstein``: the squared Wasserstein-2 distance of diagonal Gaussians is
    ``|mu - mu'|^2 + |sigma - sigma'|^2`` and their barycentre has the mean mu and the mean sigma, so this
    *is* Euclidean k-means on ``[mu, sigma]``.

    ``precision``: codes are points c at distance ``sum (mu - c)^2 / sigma^2``, with the centroid
    ``sum(mu / sigma^2) / sum(1 / sigma^2)``. Where sigma is small the decoder is sensitive, so this is a
    diagonal pull-back metric without a decoder call. Both steps are exact and the objective never rises.

    Without sigma all sigmas are taken as 1, and both are Euclidean k-means.

    Parameters
    ----------
    n_codes : K
    metric : ``"wasserstein"`` or ``"precision"``
    n_iterations : Lloyd iterations
    random_state : seed, or ``np.random.RandomState``, of the start

    Attributes
    ----------
    codebook_ : (K, d), the means, which are what a decoder sees
    codebook_sigma_ : (K, d), the sigmas of the codes (``wasserstein`` alone)
    objectives_ : (iterations,), mean distance to the nearest code before every Lloyd step and after the last
        (``precision`` alone)
    """

    codebook_sigma_: np.ndarray
    objectives_: np.ndarray

    def __init__(
        self,
        n_codes: int = 8,
        metric: str = "wasserstein",
        n_iterations: int = 25,
        random_state: Any = None,
    ) -> None:
        self.n_codes = n_codes
        self.metric = metric
        self.n_iterations = n_iterations
        self.random_state = random_state

    @property
    def takes_sigma(self) -> bool:
        """Both metrics are between Gaussians."""
        return True

    def _fit(self, points: np.ndarray, sigma: np.ndarray | None, seed: int) -> None:
        check_choice("metric", self.metric, ("wasserstein", "precision"))
        check_count("n_iterations", self.n_iterations)
        if sigma is None:
            sigma = np.ones_like(points)
        if self.metric == "wasserstein":
            both = kmeans(np.concatenate([points, sigma], axis=1), self.n_codes, seed, self.n_iterations)
            means, sigmas = np.split(both, 2, axis=1)
            self.codebook_, self.codebook_sigma_ = means.copy(), sigmas.copy()
        else:
            start = kmeans(points, self.n_codes, seed, self.n_iterations)
            self.codebook_, self.objectives_ = precision_lloyd(points, sigma, start, self.n_iterations)

    def _encode(self, points: torch.Tensor, sigma: torch.Tensor | None) -> torch.Tensor:
        if sigma is None:
            sigma = torch.ones_like(points)
        if self.metric == "precision":
            return nearest_codes_weighted(points, sigma**-2, as_tensor(self.codebook_))
        codebook = np.concatenate([self.codebook_, self.codebook_sigma_], axis=1)
        return nearest_codes(torch.cat([points, sigma], dim=1), as_tensor(codebook))


def precision_lloyd(
    points: np.ndarray, sigma: np.ndarray, codebook: np.ndarray, n_iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's algorithm in the precision-weighted metric, until codes stay or iterations are used up.

    Parameters
    ----------
    points, sigma : (n, d)
    codebook : (K, d), the start
    n_iterations : at most

    Returns
    -------
    codebook : (K, d), in the dtype of ``points``
    objectives : (iterations + 1,), mean distance before every step and after the last; never rises
    """
    wide = points.astype(np.float64)
    weights = np.square(1.0 / sigma.astype(np.float64))
    rows, row_weights = torch.from_numpy(wide), torch.from_numpy(weights)
    current = codebook.astype(np.float64)
    objectives: list[float] = []
    previous = np.empty(0)
    while True:
        codes = nearest_codes_weighted(rows, row_weights, torch.from_numpy(current)).numpy()
        objectives.append(float((weights * np.square(wide - current[codes])).sum(1).mean()))
        if len(objectives) > n_iterations or np.array_equal(codes, previous):
            return current.astype(points.dtype), np.array(objectives)
        means, counts = cell_means(wide, codes, len(current), weights)
        current, previous = np.where(counts[:, None] > 0, means, current), codes
