"""Kullback-Leibler divergences between diagonal Gaussians, as distortions in both directions.

A code is a row ``[mean, sigma]`` of 2 d numbers. Everything is computed in float64: where sigmas are small
beside means, the squares that a matrix product adds up cancel to a small part of themselves.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from geovq.quantizers.lloyd import Distortion
from geovq.search import cell_means, lowest_scores

ROWS_A_CHUNK = 2**16  # of points copied at once

Products = tuple[Tensor, Tensor, Tensor]


def gaussian_kl(
    means: np.ndarray, sigmas: np.ndarray, of_means: np.ndarray, of_sigmas: np.ndarray
) -> np.ndarray:
    """KL(N(means, sigmas^2) || N(of_means, of_sigmas^2)) in nats, float64 (n,); all arguments (n, d)."""
    precisions = 1.0 / np.square(of_sigmas.astype(np.float64))
    ratios = np.square(sigmas.astype(np.float64)) * precisions
    squares = np.square(means.astype(np.float64) - of_means) * precisions
    return (ratios + squares - 1 - np.log(ratios)).sum(1) / 2


class GaussianProjection(Distortion):
    """A KL divergence between the Gaussian of a point and that of its code.

    Parameters
    ----------
    points, sigma : (n, d)
    """

    def __init__(self, points: np.ndarray, sigma: np.ndarray) -> None:
        self.points_as_codes = np.concatenate([points, sigma], axis=1).astype(np.float64)
        self._means, self._sigmas = np.split(self.points_as_codes, 2, axis=1)

    @staticmethod
    @abstractmethod
    def products(points: Tensor, sigma: Tensor, means: Tensor, sigmas: Tensor) -> Products:
        """The divergence as ``b_k - q.f_k``, up to a constant of the point.

        ``points`` and ``sigma (n, d)`` give ``q (n, 2d)``; ``means`` and ``sigmas (K, d)`` of the codes give
        ``f (K, 2d)`` and ``b (K,)``. Means are relative to a point amid the codes.
        """

    @classmethod
    def nearest_codes(cls, points: Tensor, sigma: Tensor, codebook: Tensor) -> Tensor:
        """The row of ``codebook (K, 2d)`` of least divergence, int64 (n,); ties to the lowest."""
        means, sigmas = codebook.to(points.device, torch.float64).chunk(2, dim=1)
        offset = means.median(0).values
        codes = torch.empty(len(points), dtype=torch.int64, device=points.device)
        for start in range(0, len(points), ROWS_A_CHUNK):
            part = slice(start, start + ROWS_A_CHUNK)
            centered = points[part].double() - offset
            queries, features, offsets = cls.products(centered, sigma[part].double(), means - offset, sigmas)
            codes[part] = lowest_scores(queries, features, offsets)
        return codes

    def nearest(self, codebook: np.ndarray) -> np.ndarray:
        """argmin by one matrix product, int64 (n,)."""
        points, sigma = torch.from_numpy(self._means), torch.from_numpy(self._sigmas)
        return self.nearest_codes(points, sigma, torch.from_numpy(codebook)).numpy()


class MomentProjection(GaussianProjection):
    """KL(point || code): the centre of a cell has the mean and the variance of the mixture of its points.

    Its variance is at least the mean variance of the points, so it never degenerates.

    Source: Davis and Dhillon, "Differential Entropic Clustering of Multivariate Gaussians", NIPS 2006, for
    diagonal covariances; a Bregman k-means (Banerjee et al., JMLR 2005).
    """

    @staticmethod
    def products(points: Tensor, sigma: Tensor, means: Tensor, sigmas: Tensor) -> Products:
        """``sum log s + ((s_i^2 + x^2) / 2 - x m + m^2 / 2) / s^2``."""
        precisions = sigmas**-2
        queries = torch.cat([points, points.square() + sigma.square()], dim=1)
        features = torch.cat([means * precisions, precisions / -2], dim=1)
        return queries, features, (sigmas.log() + means.square() * precisions / 2).sum(1)

    def costs(self, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """KL(point || code) in nats, float64 (n,)."""
        means, sigmas = np.split(codebook[codes], 2, axis=1)
        return gaussian_kl(self._means, self._sigmas, means, sigmas)

    def centers(self, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Moments matched: ``m = mean(mu)``, ``s^2 = mean(sigma^2 + (mu - m)^2)``."""
        means, _ = cell_means(self._means, codes, len(codebook))
        spread = np.square(self._sigmas) + np.square(self._means - means[codes])
        variances, _ = cell_means(spread, codes, len(codebook))
        return np.concatenate([means, np.sqrt(variances)], axis=1)


class InformationProjection(GaussianProjection):
    """KL(code || point): mode-seeking; the centre of a cell averages natural parameters.

    Its precision is the mean precision of the points. Where all sigmas are equal this is Euclidean k-means.

    Source: Nielsen and Nock, "Sided and Symmetrized Bregman Centroids", IEEE Transactions on Information
    Theory 2009.
    """

    @staticmethod
    def products(points: Tensor, sigma: Tensor, means: Tensor, sigmas: Tensor) -> Products:
        """``-sum log s + ((s^2 + m^2) / 2 - m x) / s_i^2``."""
        precisions = sigma**-2
        queries = torch.cat([points * precisions, precisions], dim=1)
        features = torch.cat([means, (sigmas.square() + means.square()) / -2], dim=1)
        return queries, features, -sigmas.log().sum(1)

    def costs(self, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """KL(code || point) in nats, float64 (n,)."""
        means, sigmas = np.split(codebook[codes], 2, axis=1)
        return gaussian_kl(means, sigmas, self._means, self._sigmas)

    def centers(self, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """``1 / s^2 = mean(1 / sigma^2)``, ``m = s^2 mean(mu / sigma^2)``."""
        weights = 1.0 / np.square(self._sigmas)
        means, counts = cell_means(self._means, codes, len(codebook), weights)
        precisions, _ = cell_means(weights, codes, len(codebook))
        sigmas = 1.0 / np.sqrt(np.where(counts[:, None] > 0, precisions, 1))
        return np.concatenate([means, sigmas], axis=1)
