"""Lloyd's algorithm in any metric whose two steps are exact."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch

from geovq.search import cell_means, distinct_rows, nearest_codes_weighted


class Distortion(ABC):
    """What it costs to give fixed points fixed codes.

    A code is a row of p numbers: a vector, or the mean and the sigma of a Gaussian.

    Attributes
    ----------
    points_as_codes : float64 (n, p), for every point the code that costs it nothing
    """

    points_as_codes: np.ndarray

    @abstractmethod
    def nearest(self, codebook: np.ndarray) -> np.ndarray:
        """The row of ``codebook (K, p)`` that costs each point least, int64 (n,); ties to the lowest."""

    @abstractmethod
    def costs(self, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """What ``codebook[codes]`` costs the points, float64 (n,)."""

    @abstractmethod
    def centers(self, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """The code that costs each cell least, float64 (K, p); anything finite where a cell is empty.

        ``codebook`` is what the cells were found with.
        """


class WeightedSquares(Distortion):
    """``sum_j w_ij (x_ij - c_j)^2``: one weight for each coordinate of each point.

    Parameters
    ----------
    points : (n, d)
    weights : (n, d), above 0
    """

    def __init__(self, points: np.ndarray, weights: np.ndarray) -> None:
        self.points_as_codes = points.astype(np.float64)
        self._weights = weights.astype(np.float64)

    def nearest(self, codebook: np.ndarray) -> np.ndarray:
        """argmin by one matrix product, int64 (n,)."""
        points, weights = torch.from_numpy(self.points_as_codes), torch.from_numpy(self._weights)
        return nearest_codes_weighted(points, weights, torch.from_numpy(codebook)).numpy()

    def costs(self, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Weighted squared distances, float64 (n,)."""
        return (self._weights * np.square(self.points_as_codes - codebook[codes])).sum(1)

    def centers(self, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Weighted means, float64 (K, d)."""
        return cell_means(self.points_as_codes, codes, len(codebook), self._weights)[0]


def lloyd(distortion: Distortion, start: np.ndarray, n_iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Points to their nearest code and codes to the centres of their cells, until no point moves.

    Codes without points move to the points that are served worst. No step raises the mean cost: one that
    does, by rounding, is not taken and is the last.

    Parameters
    ----------
    distortion : of n points
    start : (K, p)
    n_iterations : at most

    Returns
    -------
    codebook : float64 (K, p)
    objectives : float64 (iterations + 1,), mean cost before every iteration and after the last
    """
    codebook = before = start.astype(np.float64)
    objectives: list[float] = []
    previous = np.empty(0)
    while True:
        codes = distortion.nearest(codebook)
        costs = distortion.costs(codebook, codes)
        objective = float(costs.mean())
        if objectives and objective > objectives[-1]:
            return before, np.array(objectives)
        objectives.append(objective)
        if len(objectives) > n_iterations or np.array_equal(codes, previous):
            return codebook, np.array(objectives)
        before = codebook
        empty = np.bincount(codes, minlength=len(codebook)) == 0
        centers = distortion.centers(codebook, codes)
        codebook = np.where(empty[:, None], codebook, centers)
        if empty.any():
            worst = _worst_served(distortion.points_as_codes, costs, int(empty.sum()))
            codebook[np.flatnonzero(empty)[: len(worst)]] = distortion.points_as_codes[worst]
        previous = codes


def _worst_served(points: np.ndarray, costs: np.ndarray, count: int) -> np.ndarray:
    """Rows of at most ``count`` different points with the highest costs above 0."""
    order = np.argsort(-costs, kind="stable")
    order = order[costs[order] > 0]
    first, _ = distinct_rows(points[order])
    return order[first[:count]]
