"""Lengths of the edges of a graph on latents, from the data alone.

A latent is a mean and, where its encoder gives one, a sigma: a diagonal Gaussian. Every kind of edge says
where a latent's neighbours are sought (``coordinates``) and how long the edge to one of them is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from geovq.errors import InputError, unknown_name


class EdgeLengths(ABC):
    """A way to measure edges between latents ``means (n, d)`` and ``sigmas (n, d)``."""

    @abstractmethod
    def coordinates(self, means: np.ndarray, sigmas: np.ndarray | None) -> np.ndarray:
        """Where neighbours are sought by Euclidean distance, float64 (n, c)."""

    @abstractmethod
    def lengths(
        self,
        means: np.ndarray,
        sigmas: np.ndarray | None,
        other_means: np.ndarray,
        other_sigmas: np.ndarray | None,
    ) -> np.ndarray:
        """Length of the edge from each latent to the other one in the same row, float64 (n,)."""


class EuclideanEdges(EdgeLengths):
    """Distance of the means."""

    def coordinates(self, means: np.ndarray, sigmas: np.ndarray | None) -> np.ndarray:
        """The means, float64 (n, d)."""
        return means.astype(np.float64)

    def lengths(
        self,
        means: np.ndarray,
        sigmas: np.ndarray | None,
        other_means: np.ndarray,
        other_sigmas: np.ndarray | None,
    ) -> np.ndarray:
        """Euclidean distance of the means, float64 (n,)."""
        return _norms(means.astype(np.float64) - other_means)


class WassersteinEdges(EdgeLengths):
    """Wasserstein-2 distance of diagonal Gaussians: the Euclidean distance of ``[mean, sigma]``."""

    def coordinates(self, means: np.ndarray, sigmas: np.ndarray | None) -> np.ndarray:
        """``[mean, sigma]``, float64 (n, 2d)."""
        return np.concatenate([means, _required(sigmas, "wasserstein")], axis=1).astype(np.float64)

    def lengths(
        self,
        means: np.ndarray,
        sigmas: np.ndarray | None,
        other_means: np.ndarray,
        other_sigmas: np.ndarray | None,
    ) -> np.ndarray:
        """Euclidean distance of ``[mean, sigma]``, float64 (n,)."""
        return _norms(self.coordinates(means, sigmas) - self.coordinates(other_means, other_sigmas))


class PrecisionEdges(EdgeLengths):
    """``sqrt(sum (m - m')^2 (1 / s^2 + 1 / s'^2) / 2)``; neighbours are sought by the means.

    Posterior precision follows the decoder: the optimal diagonal posterior of a Gaussian VAE has precision
    I + diag(J'J) / variance (Kumar and Poole, "On Implicit Regularization in beta-VAEs", ICML 2020), so this
    is a diagonal pull-back length without a decoder call.
    """

    def coordinates(self, means: np.ndarray, sigmas: np.ndarray | None) -> np.ndarray:
        """The means, float64 (n, d)."""
        return means.astype(np.float64)

    def lengths(
        self,
        means: np.ndarray,
        sigmas: np.ndarray | None,
        other_means: np.ndarray,
        other_sigmas: np.ndarray | None,
    ) -> np.ndarray:
        """Precision-weighted distance of the means, float64 (n,)."""
        precision = np.square(1.0 / _required(sigmas, "precision").astype(np.float64))
        other_precision = np.square(1.0 / _required(other_sigmas, "precision").astype(np.float64))
        squares = np.square(means.astype(np.float64) - other_means)
        return np.asarray(np.sqrt((squares * (precision + other_precision)).sum(1) / 2))


EDGES: dict[str, EdgeLengths] = {
    "euclidean": EuclideanEdges(),
    "wasserstein": WassersteinEdges(),
    "precision": PrecisionEdges(),
}


def edge_lengths(name: str) -> EdgeLengths:
    """The edge lengths called ``name``. Raises ``InputError`` with the nearest name if there are none."""
    if name not in EDGES:
        raise InputError(unknown_name("edges", str(name), EDGES))
    return EDGES[name]


def _norms(differences: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.square(differences).sum(1)))


def _required(sigmas: np.ndarray | None, name: str) -> np.ndarray:
    if sigmas is None:
        raise InputError(f"edges '{name}' measure Gaussians, but no sigma was given; pass sigma (n, d)")
    return sigmas
