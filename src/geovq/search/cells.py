"""Rows grouped: means of cells, and rows that are equal."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix


def cell_means(
    points: np.ndarray, codes: np.ndarray, n_codes: int, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the points of every cell, summed in float64.

    Parameters
    ----------
    points : (n, d)
    codes : integers (n,) in ``range(n_codes)``
    n_codes : K
    weights : (n, d), a positive weight for each coordinate; 1 by default.

    Returns
    -------
    means : float64 (K, d), zero where a cell is empty
    counts : int64 (K,), points a cell
    """
    counts = np.bincount(codes, minlength=n_codes)
    rows = np.arange(len(codes) + 1)
    members = csr_matrix((np.ones(len(codes)), codes, rows), shape=(len(codes), n_codes)).T
    wide = points.astype(np.float64, copy=False)
    if weights is None:
        return members @ wide / np.maximum(counts, 1)[:, None], counts
    total = members @ weights.astype(np.float64, copy=False)
    return members @ (wide * weights) / np.where(total > 0, total, 1), counts


def distinct_rows(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal rows found: ``(first, group)`` with ``points[first][group] == points``.

    Parameters
    ----------
    points : (n, d), finite

    Returns
    -------
    first : int64 (m,), ascending: the first row of each of the m distinct ones
    group : int64 (n,), which distinct row each row is
    """
    hashes = row_hashes(points)
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    is_new = np.concatenate([[True], hashes[1:] != hashes[:-1]])[: len(points)]
    leader = np.empty_like(order)  # of every row, the first with its hash
    leader[order] = order[is_new][np.cumsum(is_new) - 1]
    follower = np.flatnonzero(leader != np.arange(len(points)))
    if not np.array_equal(points[follower], points[leader[follower]]):
        return _sorted_distinct_rows(points)
    is_first = np.ones(len(points), dtype=bool)
    is_first[follower] = False
    return np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[leader]


def _sorted_distinct_rows(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``distinct_rows`` when two different rows share a hash: slower, and always right."""
    _, first, group = np.unique(points, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[group.reshape(-1)]


class EqualRows:
    """Rows of a fixed array, found by value.

    Parameters
    ----------
    points : (n, d), finite
    """

    def __init__(self, points: np.ndarray) -> None:
        self._points = points
        hashes = row_hashes(points)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def find(self, queries: np.ndarray) -> np.ndarray:
        """For each of ``queries (m, d)`` the first row equal to it, int64 (m,); -1 where there is none."""
        found = np.full(len(queries), -1, dtype=np.int64)
        hashes = row_hashes(queries)
        place = np.searchsorted(self._hashes, hashes)
        asking = np.arange(len(queries))
        while len(asking):  # once, unless different rows share a hash
            asking = asking[place[asking] < len(self._order)]
            asking = asking[self._hashes[place[asking]] == hashes[asking]]
            candidate = self._order[place[asking]]
            equal = (self._points[candidate] == queries[asking]).all(1)
            found[asking[equal]] = candidate[equal]
            asking = asking[~equal]
            place[asking] += 1
        return found


def row_hashes(points: np.ndarray) -> np.ndarray:
    """A 64-bit hash of every row, uint64 (n,); equal rows have equal hashes."""
    hashes = np.full(len(points), 0xCBF29CE484222325, dtype=np.uint64)
    for column in points.T:
        bits = (column.astype(np.float64) + 0.0).view(np.uint64)  # + 0.0 makes -0.0 and 0.0 one
        hashes = (hashes ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes
