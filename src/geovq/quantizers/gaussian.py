"""Codes for diagonal Gaussians: posterior means with their standard deviations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.gaussian_kl import GaussianProjection, InformationProjection, MomentProjection
from geovq.quantizers.lloyd import WeightedSquares, lloyd
from geovq.quantizers.validation import check_choice, check_count
from geovq.search import kmeans, nearest_codes, nearest_codes_weighted, relative_precisions

PROJECTIONS: dict[str, type[GaussianProjection]] = {
    "m-projection": MomentProjection,
    "i-projection": InformationProjection,
}


class GaussianQuantizer(Quantizer):
    """k-means over diagonal Gaussians N(mu, diag(sigma^2)), in one of four metrics.

    ``wasserstein``: the squared Wasserstein-2 distance of diagonal Gaussians is
    ``|mu - mu'|^2 + |sigma - sigma'|^2`` and their barycentre has the mean mu and the mean sigma, so this
    *is* Euclidean k-means on ``[mu, sigma]``.

    ``precision``: codes are points c at distance ``sum (mu - c)^2 / sigma^2``, with the centroid
    ``sum(mu / sigma^2) / sum(1 / sigma^2)``. Where sigma is small the decoder is sensitive, so this is a
    diagonal pull-back metric without a decoder call.

    ``m-projection``: codes are Gaussians c at divergence KL(q || c) from the posterior q, with the mean and
    the variance of all posteriors of the cell: it covers them.

    ``i-projection``: codes are Gaussians c at divergence KL(c || q), with the mean precision of the cell's
    posteriors and their precision-weighted mean: it lies where all of them are dense.

    Both steps of Lloyd's algorithm are exact in every metric, so the objective never rises. Codes that lose
    all their points move to those that are served worst.

    Without sigma all sigmas are taken as 1. Where all are equal, all but ``m-projection`` are Euclidean
    k-means.

    Parameters
    ----------
    n_codes : K
    metric : ``"wasserstein"``, ``"precision"``, ``"m-projection"`` or ``"i-projection"``
    n_iterations : Lloyd iterations, after as many of the start: Euclidean k-means on mu for ``precision``, on
        ``[mu, sigma]`` for the projections
    random_state : seed, or ``np.random.RandomState``, of the start

    Attributes
    ----------
    codebook_ : (K, d), the means, which are what a decoder sees
    codebook_sigma_ : (K, d), the sigmas of the codes (all but ``precision``)
    objectives_ : (iterations + 1,), mean distance, or divergence in nats, to the nearest code before every
        Lloyd step and after the last (all but ``wasserstein``)

    Source: Nielsen and Nock, "Sided and Symmetrized Bregman Centroids", IEEE Transactions on Information
    Theory 2009, for the projections.
    """

    metric_params = ("metric",)

    codebook_: np.ndarray
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
        """All metrics are between Gaussians."""
        return True

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        check_choice("metric", self.metric, ("wasserstein", "precision", *PROJECTIONS))
        check_count("n_iterations", self.n_iterations)
        if sigma is None:
            sigma = np.ones_like(points)
        if self.metric == "precision":
            start = kmeans(points, self.n_codes, seed, self.n_iterations)
            squares = WeightedSquares(points, np.square(1.0 / sigma.astype(np.float64)))
            codebook, self.objectives_ = lloyd(squares, start, self.n_iterations)
            self.codebook_ = codebook.astype(points.dtype)
            return
        both = np.concatenate([points, sigma], axis=1)
        codebook = kmeans(both, self.n_codes, seed, self.n_iterations)
        if self.metric in PROJECTIONS:
            # Sigmas much smaller than others may be rounded to 0 or below it.
            start = np.maximum(codebook, both.min(0))
            projection = PROJECTIONS[self.metric](points, sigma)
            codebook, self.objectives_ = lloyd(projection, start, self.n_iterations)
        means, sigmas = np.split(codebook.astype(points.dtype), 2, axis=1)
        self.codebook_, self.codebook_sigma_ = means.copy(), sigmas.copy()

    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        if sigma is None:
            sigma = torch.ones_like(points)
        if self.metric == "precision":
            return nearest_codes_weighted(points, relative_precisions(sigma), as_tensor(self.codebook_))
        codebook = as_tensor(np.concatenate([self.codebook_, self.codebook_sigma_], axis=1))
        if self.metric in PROJECTIONS:
            return PROJECTIONS[self.metric].nearest_codes(points, sigma, codebook)
        return nearest_codes(torch.cat([points, sigma], dim=1), codebook)
