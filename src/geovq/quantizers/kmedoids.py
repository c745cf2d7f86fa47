"""Euclidean k-medoids: the control for codes at medoids of shortest paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist

from geovq.geometry import draw_candidates, improve_by_swaps, snap_to_points
from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.validation import check_count, check_flag, check_power
from geovq.search import cell_means, distinct_rows, kmeans, nearest_codes, nearest_codes_and_distances

POINTS_A_STEP = 32  # whose distances to all of a cell are taken together


class KMedoidsQuantizer(Quantizer):
    """Nearest medoid in Euclidean distance.

    What ``GeodesicQuantizer`` does, without the graph: the same start (Euclidean k-means, every mean moved to
    its nearest point), the same objective, codes at fitted points. What that one gains over this one, the
    shortest paths bring. Points go to the nearest medoid and every cell takes its exact medoid in turn, until
    the objective no longer falls. Sigma is accepted, as in every quantizer, and changes nothing.

    The exact medoid for squared distances is the point nearest to the cell's mean, because
    ``sum |x - c|^2 = sum |x - mean|^2 + N |c - mean|^2``. For distances it is found by bounds from the
    triangle inequality: about ``N^1.5`` distances for N points in few dimensions, all ``N^2`` from about 16
    on, where the bounds no longer exclude any.

    Parameters
    ----------
    n_codes : K
    power : 2 for squared distances, 1 for distances
    polish : finish by eager swaps of medoids with other points, which leave the optima where the alternation
        gets stuck: with all points up to 10,000 distinct ones (FasterPAM), above with 20 K drawn at random.
        Holds K x n numbers in the precision of X; a pass takes n distances a candidate
    n_iterations : of the alternation, at most
    random_state : seed, or ``np.random.RandomState``, of the start and of the swaps

    Attributes
    ----------
    codebook_ : (K, d), rows of the fitted X, in its dtype
    medoids_ : int64 (K,), which rows
    objectives_ : mean ``distance ** power`` to the medoid: at the start, after every iteration that lowered
        it, and after polishing if that did

    Source: alternation, Park and Jun, "A simple and fast algorithm for K-medoids clustering", Expert Systems
    with Applications 2009; bounds, Newling and Fleuret, "A Sub-Quadratic Exact Medoid Algorithm", AISTATS
    2017; swaps, Schubert and Rousseeuw, Information Systems 2021.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [2.0], [7.0], [8.0], [12.0]])
    >>> quantizer = KMedoidsQuantizer(n_codes=2, random_state=0).fit(X)
    >>> sorted(quantizer.codebook_[:, 0].tolist())
    [1.0, 8.0]
    """

    codebook_: np.ndarray
    medoids_: np.ndarray
    objectives_: np.ndarray

    def __init__(
        self,
        n_codes: int = 8,
        power: int = 2,
        polish: bool = False,
        n_iterations: int = 25,
        random_state: Any = None,
    ) -> None:
        self.n_codes = n_codes
        self.power = power
        self.polish = polish
        self.n_iterations = n_iterations
        self.random_state = random_state

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        check_power(self.power)
        check_flag("polish", self.polish)
        check_count("n_iterations", self.n_iterations)
        # Equal points become one with a weight, so that no two medoids coincide.
        first, group = distinct_rows(points)
        weights = np.bincount(group).astype(np.float64)
        distinct = points[first].astype(np.float64)
        means = kmeans(points.astype(np.float64), self.n_codes, seed)[: len(first)]
        start = snap_to_points(distinct, means, nearest_codes(as_tensor(distinct), as_tensor(means)).numpy())
        medoids, objectives = self._alternate(distinct, weights, start)
        if self.polish:
            swapped = self._swapped(points[first], weights, medoids, seed)
            polished, after = self._alternate(distinct, weights, swapped)
            if after[-1] < objectives[-1]:
                medoids, objectives = polished, objectives + after
        self.objectives_ = np.array(objectives)
        # Codes that are left over repeat the first one, so that they lose every tie and are never used.
        left_over = np.repeat(medoids[:1], self.n_codes - len(medoids))
        self.medoids_ = first[np.concatenate([medoids, left_over])]
        self.codebook_ = points[self.medoids_]

    def _alternate(
        self, points: np.ndarray, weights: np.ndarray, medoids: np.ndarray
    ) -> tuple[np.ndarray, list[float]]:
        """Medoids moved to the exact medoids of their cells while that helps, and the objective each time."""
        cells, objective = self._assigned(points, weights, medoids)
        objectives = [objective]
        for _ in range(self.n_iterations):
            moved = self._medoids_of(points, weights, cells, len(medoids))
            if np.array_equal(moved, medoids):
                break
            cells, objective = self._assigned(points, weights, moved)
            if objective >= objectives[-1]:
                break
            medoids = moved
            objectives.append(objective)
        return medoids, objectives

    def _assigned(
        self, points: np.ndarray, weights: np.ndarray, medoids: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """The nearest medoid of every point, int64 (n,), and the objective."""
        codes, squares = nearest_codes_and_distances(as_tensor(points), as_tensor(points[medoids]))
        cells, costs = codes.numpy(), squares.numpy()
        cells[medoids], costs[medoids] = np.arange(len(medoids)), 0  # even where rounding says another
        return cells, float(np.average(costs if self.power == 2 else np.sqrt(costs), weights=weights))

    def _medoids_of(
        self, points: np.ndarray, weights: np.ndarray, cells: np.ndarray, n_cells: int
    ) -> np.ndarray:
        """The exact medoid of every cell, int64 (K,); no cell is empty."""
        if self.power == 2:
            means, _ = cell_means(points, cells, n_cells, np.broadcast_to(weights[:, None], points.shape))
            return snap_to_points(points, means, cells)
        members = np.split(np.argsort(cells, kind="stable"), np.cumsum(np.bincount(cells))[:-1])
        return np.array([rows[medoid_of(points[rows], weights[rows])] for rows in members])

    def _swapped(self, points: np.ndarray, weights: np.ndarray, medoids: np.ndarray, seed: int) -> np.ndarray:
        metric = "sqeuclidean" if self.power == 2 else "euclidean"
        centered = points - points.mean(0)  # in units in which the precision of X holds squares
        points = centered / (np.abs(centered).max() or 1)
        return improve_by_swaps(
            lambda rows: cdist(points[rows], points, metric).astype(points.dtype, copy=False),
            medoids,
            n_points=len(points),
            weights=weights,
            power=1,  # of the metric, which is already squared
            candidates=draw_candidates(len(points), self.n_codes, seed),
        ).medoids

    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        return nearest_codes(points, as_tensor(self.codebook_))


def medoid_of(points: np.ndarray, weights: np.ndarray) -> int:
    """The point of the least weighted sum of Euclidean distances to all points, exactly.

    If the distances of i sum to E_i and the weights to W, the triangle inequality gives
    ``E_j >= |E_i - W d_ij|``: points whose bound is above the least sum found need not be summed.

    Parameters
    ----------
    points : float64 (N, d)
    weights : (N,), above 0

    Source: Newling and Fleuret, AISTATS 2017 (trimed), for weighted points and several at a time.
    """
    total = weights.sum()
    bounds = np.zeros(len(points))
    best, least = 0, np.inf
    while True:
        left = np.flatnonzero(bounds < least)
        if len(left) == 0:
            return best
        if len(left) > POINTS_A_STEP:
            left = left[np.argpartition(bounds[left], POINTS_A_STEP)[:POINTS_A_STEP]]
        distances = cdist(points[left], points)
        sums = distances @ weights
        lowest = int(sums.argmin())
        if sums[lowest] < least:
            best, least = int(left[lowest]), float(sums[lowest])
        np.maximum(bounds, np.abs(sums[:, None] - total * distances).max(0), out=bounds)
        bounds[left] = np.inf
