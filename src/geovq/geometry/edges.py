"""Lengths of the edges of a graph on latents.

A kind of edge is a metric: it says where a latent's neighbours are sought, how long the edge to one of them
is, how a new point is joined to fitted ones, which code is nearest, and where the centre of a cell lies. The
kinds here need the data alone; those that need a decoder are in ``decoder_edges``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.geometry.latents import Latents
from geovq.search import cell_means, nearest_codes, nearest_codes_weighted, relative_precisions


class EdgeLengths(ABC):
    """A way to measure edges between latents."""

    name: ClassVar[str]
    takes_sigma: ClassVar[bool] = False

    def check(self, latents: Latents) -> None:
        """Raise ``InputError`` if these latents cannot be measured: what is missing, and how to give it."""
        if self.takes_sigma and latents.sigmas is None:
            raise InputError(
                f"edges '{self.name}' measure Gaussians, but no sigma was given; pass sigma (n, d)"
            )

    def coordinates(self, latents: Latents) -> np.ndarray:
        """Where neighbours are sought by Euclidean distance, float64 (n, c): the means by default."""
        return latents.means.astype(np.float64)

    @abstractmethod
    def lengths(self, latents: Latents, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Lengths of the edges between fitted points ``starts (e,)`` and ``ends (e,)``, float64 (e,)."""

    def prepared(self, latents: Latents) -> Latents:
        """Fitted points with all that ``lengths_to`` needs of them."""
        return latents

    @abstractmethod
    def lengths_to(self, points: Latents, nodes: Latents, found: np.ndarray) -> np.ndarray:
        """Lengths of the edges from new points (m) to fitted ones ``nodes[found]``, float64 (m, c).

        Parameters
        ----------
        points : m new points
        nodes : fitted points, ``prepared``
        found : int64 (m, c), the nodes that each new point is joined to
        """

    def nearest(self, points: Tensor, sigmas: Tensor | None, codes: Latents) -> Tensor:
        """The code nearest to each of ``points (n, d)`` without a graph, int64 (n,); ties to the lowest."""
        return nearest_codes(points, torch.from_numpy(codes.means))

    def cell_centers(self, latents: Latents, cells: np.ndarray, n_cells: int) -> np.ndarray:
        """Where the latents of each cell have their centre, float64 (n_cells, d)."""
        return cell_means(latents.means, cells, n_cells)[0]


class DataEdges(EdgeLengths):
    """Lengths that follow from the two latents alone: new points are joined as fitted ones are."""

    @abstractmethod
    def between(self, latents: Latents, others: Latents) -> np.ndarray:
        """Lengths of the edges between the latents in the same rows, float64 (n,)."""

    def lengths(self, latents: Latents, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """``between`` the two ends, float64 (e,)."""
        return self.between(latents.take(starts), latents.take(ends))

    def lengths_to(self, points: Latents, nodes: Latents, found: np.ndarray) -> np.ndarray:
        """``between`` new points and nodes, float64 (m, c)."""
        repeated = points.take(np.repeat(np.arange(len(points)), found.shape[1]))
        return self.between(repeated, nodes.take(found.ravel())).reshape(found.shape)


class EuclideanEdges(DataEdges):
    """Distance of the means."""

    name = "euclidean"

    def between(self, latents: Latents, others: Latents) -> np.ndarray:
        """Euclidean distance of the means, float64 (n,)."""
        return norms(latents.means.astype(np.float64) - others.means)


class WassersteinEdges(DataEdges):
    """Wasserstein-2 distance of diagonal Gaussians: the Euclidean distance of ``[mean, sigma]``.

    It is the distance, not its square: a sum of squares shrinks as points are added to a path.
    """

    name = "wasserstein"
    takes_sigma = True

    def coordinates(self, latents: Latents) -> np.ndarray:
        """``[mean, sigma]``, float64 (n, 2d)."""
        return np.concatenate([latents.means, _sigmas(latents)], axis=1).astype(np.float64)

    def between(self, latents: Latents, others: Latents) -> np.ndarray:
        """Euclidean distance of ``[mean, sigma]``, float64 (n,)."""
        return norms(self.coordinates(latents) - self.coordinates(others))

    def nearest(self, points: Tensor, sigmas: Tensor | None, codes: Latents) -> Tensor:
        """The code whose ``[mean, sigma]`` is nearest."""
        assert sigmas is not None
        both = np.concatenate([codes.means, _sigmas(codes)], axis=1)
        return nearest_codes(torch.cat([points, sigmas], dim=1), torch.from_numpy(both))


class PrecisionEdges(DataEdges):
    """``sqrt(sum (m - m')^2 (1 / s^2 + 1 / s'^2) / 2)``; neighbours are sought by the means.

    Posterior precision follows the decoder: the optimal diagonal posterior of a Gaussian VAE has precision
    I + diag(J'J) / variance (Kumar and Poole, "On Implicit Regularization in beta-VAEs", ICML 2020), so this
    is a diagonal pull-back length without a decoder call.
    """

    name = "precision"
    takes_sigma = True

    def between(self, latents: Latents, others: Latents) -> np.ndarray:
        """Precision-weighted distance of the means, float64 (n,)."""
        squares = np.square(latents.means.astype(np.float64) - others.means)
        return np.asarray(np.sqrt((squares * (_precisions(latents) + _precisions(others))).sum(1) / 2))

    def nearest(self, points: Tensor, sigmas: Tensor | None, codes: Latents) -> Tensor:
        """The code nearest in the point's own precision."""
        assert sigmas is not None
        return nearest_codes_weighted(points, relative_precisions(sigmas), torch.from_numpy(codes.means))

    def cell_centers(self, latents: Latents, cells: np.ndarray, n_cells: int) -> np.ndarray:
        """Precision-weighted means of the cells, float64 (n_cells, d)."""
        return cell_means(latents.means, cells, n_cells, _precisions(latents))[0]


def norms(differences: np.ndarray) -> np.ndarray:
    """Euclidean norms of rows (n, c), float64 (n,)."""
    return np.asarray(np.sqrt(np.square(differences, dtype=np.float64).sum(1)))


def _sigmas(latents: Latents) -> np.ndarray:
    assert latents.sigmas is not None
    return latents.sigmas


def _precisions(latents: Latents) -> np.ndarray:
    return np.square(1.0 / _sigmas(latents).astype(np.float64))


DATA_EDGES: dict[str, EdgeLengths] = {
    edges.name: edges for edges in (EuclideanEdges(), WassersteinEdges(), PrecisionEdges())
}
