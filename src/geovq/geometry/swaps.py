"""Eager swaps of medoids with other points: k-medoids by local search, on whatever gives distances.

Legend of letters: n points, K medoids, m candidates looked at together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geovq.errors import InputError
from geovq.seeding import numpy_generator

MIN_GAIN = 1e-12  # relative: less is rounding, and following it need not end
ENTRIES_A_CHUNK = 2**20
COLUMNS_A_FETCH = 16  # at least: searches of a graph are cheaper together
MAX_PASSES = 100
ALL_POINTS = 10_000  # up to here every point is a candidate
CANDIDATES_A_MEDOID = 20


@dataclass(frozen=True)
class Swapped:
    """What a search by swaps ended with.

    Attributes
    ----------
    medoids : int64 (K,), point numbers; a medoid that was not swapped keeps its position
    cost : weighted sum of ``distance ** power`` to the nearest medoid. Where distances were unknown it is an
        upper bound
    n_swaps : swaps made
    n_columns : candidates whose distances were asked for, repeats counted
    converged : whether all candidates were tried in vain since the last swap
    """

    medoids: np.ndarray
    cost: float
    n_swaps: int
    n_columns: int
    converged: bool


class MedoidTable:
    """Costs of K medoids for all points, with the nearest and the second nearest medoid of every point.

    Its memory is that of ``costs`` and of a few numbers a point.

    Parameters
    ----------
    medoids : int64 (K,), distinct points
    costs : float32 or float64 (K, n), ``distance ** power`` to every medoid, infinite where unknown; kept
        and changed by ``swap``
    weights : (n,), how often each point counts

    Attributes
    ----------
    is_medoid : bool (n,)
    nearest, second_nearest : int64 (n,), positions of the medoids
    first, second : (n,), cost of the nearest and of the second nearest medoid, infinite where there is none
    cost : weighted sum of ``first``
    """

    def __init__(self, medoids: np.ndarray, costs: np.ndarray, weights: np.ndarray) -> None:
        self.medoids = medoids.astype(np.int64)
        self.costs = costs
        self.weights = weights.astype(np.float64)
        n = costs.shape[1]
        self.is_medoid = np.zeros(n, dtype=bool)
        self.is_medoid[medoids] = True
        self.nearest, self.second_nearest = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.first, self.second = np.empty(n, costs.dtype), np.empty(n, costs.dtype)
        self._rank(np.arange(n))
        self._sum_up()

    def changes(self, block: np.ndarray) -> np.ndarray:
        """What the cost would change by if each candidate took the place of each medoid, float64 (m, K).

        Taking a medoid away moves its points to their second; a candidate then serves all that it is nearer
        to. Only points nearer to the candidate than to their second medoid make the candidates differ, and
        with many medoids they are few.

        Parameters
        ----------
        block : (m, n), costs of the candidates for all points
        """
        n_candidates, n_medoids = len(block), len(self.medoids)
        nearer = np.flatnonzero(block < self.second)  # ten times faster than nonzero of two axes
        candidate = nearer // block.shape[1]
        point = nearer - candidate * block.shape[1]
        cost = block.ravel()[nearer].astype(np.float64)
        first, second = self.first[point].astype(np.float64), self.second[point].astype(np.float64)
        weight = self.weights[point]
        served = np.bincount(candidate, weight * np.minimum(cost - first, 0), n_candidates)
        # Points without a second: none may be left without any, and those that find one pay for it.
        has_second = second < np.inf
        saved = weight * (np.maximum(cost, first) - np.where(has_second, second, first))
        cell = candidate * n_medoids + self.nearest[point]
        shape = n_candidates, n_medoids
        changes = np.bincount(cell, saved, n_candidates * n_medoids).reshape(shape)
        changes = changes + self._removal + served[:, None]
        if self._n_stranded.any():
            n_found = np.bincount(cell[~has_second], minlength=n_candidates * n_medoids).reshape(shape)
            changes[n_found < self._n_stranded] = np.inf
        return changes

    def cost_with(self, position: int, column: np.ndarray) -> float:
        """The cost if the point with these costs (n,) took the place of a medoid."""
        without = np.where(self.nearest == position, self.second, self.first)
        return float(self.weights @ np.minimum(column, without))

    def swap(self, position: int, point: int, column: np.ndarray) -> None:
        """Put a point with costs ``column (n,)`` in the place of a medoid."""
        affected = (self.nearest == position) | (self.second_nearest == position)
        affected |= column < self.second
        self.is_medoid[self.medoids[position]], self.is_medoid[point] = False, True
        self.medoids[position] = point
        self.costs[position] = column
        self._rank(np.flatnonzero(affected))
        self._sum_up()

    def _rank(self, points: np.ndarray) -> None:
        """Find the nearest two medoids of some points anew."""
        chunk = max(1, ENTRIES_A_CHUNK // len(self.costs))
        for start in range(0, len(points), chunk):
            part = points[start : start + chunk]
            costs, columns = self.costs[:, part], np.arange(len(part))
            nearest = costs.argmin(0)
            self.nearest[part], self.first[part] = nearest, costs[nearest, columns]
            costs[nearest, columns] = np.inf
            second = costs.argmin(0)
            self.second_nearest[part], self.second[part] = second, costs[second, columns]

    def _sum_up(self) -> None:
        """The cost, and what it would rise by if each medoid were taken away."""
        self.cost = float(self.weights @ self.first)
        has_second = self.second < np.inf
        loss = np.zeros(len(self.first))
        np.subtract(self.second, self.first, out=loss, where=has_second, dtype=np.float64)
        self._removal = np.bincount(self.nearest, self.weights * loss, len(self.medoids))
        self._n_stranded = np.bincount(self.nearest[~has_second], minlength=len(self.medoids))


def improve_by_swaps(
    columns: Callable[[np.ndarray], np.ndarray],
    medoids: np.ndarray,
    *,
    n_points: int,
    weights: np.ndarray,
    power: int,
    candidates: np.ndarray,
    max_passes: int = MAX_PASSES,
) -> Swapped:
    """Swap medoids with candidates, each swap taken as soon as it lowers the cost, until none does.

    The cost is the weighted sum of ``distance ** power`` to the nearest medoid. Every candidate is tried
    against all medoids at once, in the order given; a pass over all of them without a swap ends the search.

    Parameters
    ----------
    columns : ``columns(points)`` gives the distances (m, n) of some points (m,) from all n points, float32 or
        float64, at least 0; infinite where a distance is unknown, which can make a swap look worse but never
        better
    medoids : distinct points (K,) to start from
    n_points : n
    weights : (n,), how often each point counts
    power : 1 or 2
    candidates : points that may become medoids, tried in this order; draw it at random
    max_passes : over all candidates at most

    Returns
    -------
    Swapped, of a cost never above that of ``medoids``

    Raises
    ------
    InputError
        If medoids repeat, or a point has no known distance to any of them.

    Source: Schubert and Rousseeuw, "Fast and eager k-medoids clustering: O(k) runtime improvement of the PAM,
    CLARA, and CLARANS algorithms", Information Systems 2021 (FasterPAM).
    """
    n_distinct = len(np.unique(medoids))
    if n_distinct != len(medoids):
        raise InputError(f"{len(medoids)} medoids, {n_distinct} of them distinct; expected no repeats")
    chunk = max(1, ENTRIES_A_CHUNK // n_points)
    fetch = max(COLUMNS_A_FETCH, chunk)
    table = MedoidTable(medoids, _costs_of_all(columns, medoids, power, n_points, fetch), weights)
    unserved = int(np.isinf(table.first).sum())
    if unserved:
        raise InputError(
            f"{unserved} of {n_points} points have no known distance to any medoid; expected a connected "
            "graph and searches that reach every point of a cell"
        )
    n_swaps = n_columns = in_vain = 0
    while in_vain < len(candidates) and n_columns < max_passes * len(candidates):
        start = n_columns % len(candidates)
        points = candidates[start : start + min(fetch, len(candidates) - in_vain)]
        swaps, since = _try(table, points, _costs(columns, points, power), chunk)
        n_swaps += swaps
        n_columns += len(points)
        in_vain = since if swaps else in_vain + since
    return Swapped(table.medoids, table.cost, n_swaps, n_columns, in_vain >= len(candidates))


def draw_candidates(n_points: int, n_medoids: int, seed: int) -> np.ndarray:
    """Candidates in random order, int64: all points up to 10,000, above 20 a medoid."""
    count = n_points if n_points <= ALL_POINTS else min(n_points, CANDIDATES_A_MEDOID * n_medoids)
    return numpy_generator(seed, "candidates").choice(n_points, count, replace=False)


def faster_pam(
    distances: np.ndarray,
    n_medoids: int,
    seed: int,
    *,
    start: np.ndarray | None = None,
    power: int = 1,
    weights: np.ndarray | None = None,
) -> Swapped:
    """k-medoids of a matrix of distances by eager swaps, from random medoids or given ones.

    Parameters
    ----------
    distances : (n, n), float32 or float64; row i holds the distances of point i as a medoid from all points
    n_medoids : K
    seed : of the start and of the order in which candidates are tried
    start : distinct points (K,) to start from
    power : 1, sum of distances, or 2, sum of their squares
    weights : (n,), how often each point counts; once by default

    Raises
    ------
    InputError
        If the matrix is not square, holds infinity, NaN or a negative number, ``n_medoids`` is not in 1..n or
        not the length of ``start``, ``start`` repeats a point, or ``power`` or a weight is impossible.

    Source: as of ``improve_by_swaps``.
    """
    n = len(distances)
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    _check_matrix(distances, weights, power)
    if not 1 <= n_medoids <= n:
        raise InputError(f"n_medoids is {n_medoids} for {n} points; expected 1 <= n_medoids <= {n}")
    if start is None:
        start = numpy_generator(seed, "random medoids").choice(n, n_medoids, replace=False)
    start = np.asarray(start)
    if start.shape != (n_medoids,) or not ((start >= 0) & (start < n)).all():
        raise InputError(f"start is {start}; expected {n_medoids} point numbers, each in 0..{n - 1}")
    return improve_by_swaps(
        distances.__getitem__,
        start,
        n_points=n,
        weights=weights,
        power=power,
        candidates=numpy_generator(seed, "order of candidates").permutation(n),
    )


def _try(table: MedoidTable, points: np.ndarray, block: np.ndarray, most: int) -> tuple[int, int]:
    """Make every swap with ``points (m,)`` that gains; how many, and how many points were tried since.

    ``block (m, n)`` are their costs; at most ``most`` points are looked at together.
    """
    n_swaps, last, at, batch = 0, 0, 0, 1
    while at < len(points):
        # What follows a swap is looked at again: as many together as came between two swaps lose little at
        # the start, when swaps are frequent, and are fast at the end.
        tried = points[at : at + batch]
        changes = table.changes(block[at : at + batch])
        changes[table.is_medoid[tried]] = np.inf
        at += len(tried)
        batch = min(2 * batch, most)
        for offset in np.flatnonzero(changes.min(1) < -MIN_GAIN * table.cost):
            row, position = at - len(tried) + int(offset), int(changes[offset].argmin())
            # Asked again without the sums that cancel in a difference: then the cost falls at every swap.
            if table.cost_with(position, block[row]) < (1 - MIN_GAIN) * table.cost:
                table.swap(position, int(points[row]), block[row])
                n_swaps += 1
                last = at = row + 1
                batch = int(offset) + 1
                break
    return n_swaps, len(points) - last


def _costs_of_all(
    columns: Callable[[np.ndarray], np.ndarray], points: np.ndarray, power: int, n_points: int, fetch: int
) -> np.ndarray:
    """``_costs`` of many points, asked for and raised in parts, so that nothing is held twice."""
    part = _costs(columns, points[:fetch], power)
    costs = np.empty((len(points), n_points), part.dtype)
    costs[:fetch] = part
    for start in range(fetch, len(points), fetch):
        costs[start : start + fetch] = _costs(columns, points[start : start + fetch], power)
    return costs


def _costs(columns: Callable[[np.ndarray], np.ndarray], points: np.ndarray, power: int) -> np.ndarray:
    distances = columns(points)
    return np.square(distances) if power == 2 else distances


def _check_matrix(distances: np.ndarray, weights: np.ndarray, power: int) -> None:
    n = len(distances)
    if distances.shape != (n, n) or not np.issubdtype(distances.dtype, np.floating):
        raise InputError(
            f"distances are {distances.dtype} of shape {distances.shape}; expected floating-point (n, n)"
        )
    if n and not (distances.min() >= 0 and distances.max() < np.inf):
        rows = np.flatnonzero(~(np.isfinite(distances) & (distances >= 0)).all(1))
        raise InputError(
            f"distances have infinity, NaN or a negative number in {len(rows)} of {n} rows, first in row "
            f"{rows[0]}; expected finite numbers of at least 0; infinity means a disconnected graph: join "
            "its components with geovq.geometry.connect"
        )
    if power not in (1, 2):
        raise InputError(f"power is {power!r}; expected 1 (sum of distances) or 2 (sum of their squares)")
    if weights.shape != (n,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise InputError(f"weights have shape {weights.shape}; expected {n} finite numbers above 0")
