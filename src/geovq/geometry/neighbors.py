"""Exact nearest neighbours among fixed points."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import faiss
import numpy as np
from scipy.spatial import cKDTree

from geovq.seeding import available_cores

KD_TREE_DIMENSIONS = 8  # above it, comparing with every point is faster than a tree
CANDIDATES = 8  # more than asked for, because float32 ranks near-equal distances wrongly
ROWS_A_CHUNK = 8192


class NeighborIndex:
    """Nearest neighbours among ``points (n, d)``, exact in float64.

    A KD-tree in up to 8 dimensions; above, faiss compares with all points in float32 and its best candidates
    are ranked again exactly. The search structure is built at the first query and never pickled.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points = np.ascontiguousarray(points, dtype=np.float64)

    def query(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Indices (m, count) of the points nearest to every query (m, d), nearest first; ``count <= n``."""
        queries = np.ascontiguousarray(queries, dtype=np.float64)
        if len(queries) == 0:
            return np.empty((0, count), dtype=np.int64)
        if self.points.shape[1] <= KD_TREE_DIMENSIONS:
            return self._query_tree(queries, count)
        return self._query_flat(queries, count)

    def others(self, count: int) -> np.ndarray:
        """For every point the ``count`` nearest other points, (n, count); ``count < n``.

        A point that lies on more than ``count`` others has itself left out by index, not by distance.
        """
        nearest = self.query(self.points, count + 1)
        is_other = nearest != np.arange(len(nearest))[:, None]
        # Rows without themselves (more equal points than neighbours asked for) give up their last one.
        is_other[is_other.all(1), -1] = False
        return nearest[is_other].reshape(len(nearest), count)

    def _query_tree(self, queries: np.ndarray, count: int) -> np.ndarray:
        # Asked leaf by leaf, the tree stays in the cache: twice as fast on 480,000 points.
        order = cKDTree(queries).indices
        _, found = self._tree.query(queries[order], range(1, count + 1), workers=available_cores())
        nearest = np.empty((len(queries), count), dtype=np.int64)
        nearest[order] = found
        return nearest

    def _query_flat(self, queries: np.ndarray, count: int) -> np.ndarray:
        candidates = min(len(self.points), count + CANDIDATES)
        nearest = np.empty((len(queries), count), dtype=np.int64)
        for start in range(0, len(queries), ROWS_A_CHUNK):
            part = queries[start : start + ROWS_A_CHUNK]
            scaled = ((part - self._offset) / self._scale).astype(np.float32)
            _, found = self._flat.search(scaled, candidates)
            found.sort(axis=1)  # so that equal distances rank by index
            exact = np.square(part[:, None] - self.points[found]).sum(2)
            ranks = np.argsort(exact, axis=1, kind="stable")[:, :count]
            nearest[start : start + ROWS_A_CHUNK] = np.take_along_axis(found, ranks, axis=1)
        return nearest

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.points)

    @cached_property
    def _flat(self) -> faiss.IndexFlatL2:
        index = faiss.IndexFlatL2(self.points.shape[1])
        index.add(((self.points - self._offset) / self._scale).astype(np.float32))
        return index

    @cached_property
    def _offset(self) -> np.ndarray:
        return np.asarray(self.points.mean(0))

    @cached_property
    def _scale(self) -> float:
        return float(np.abs(self.points - self._offset).max()) or 1.0

    def __getstate__(self) -> dict[str, Any]:
        return {"points": self.points}
