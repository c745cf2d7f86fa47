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
    identity = np.arange(len(points))
    if len(np.unique(_hashes(points))) == len(points):
        return identity, identity  # different hashes prove different rows; sorting rows is 20 times slower
    _, first, group = np.unique(points, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[group.reshape(-1)]


def _hashes(points: np.ndarray) -> np.ndarray:
    """A 64-bit hash of every row; equal rows have equal hashes."""
    hashes = np.full(len(points), 0xCBF29CE484222325, dtype=np.uint64)
    for column in points.T:
        bits = (column.astype(np.float64) + 0.0).view(np.uint64)  # + 0.0 makes -0.0 and 0.0 one
        hashes = (hashes ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes
