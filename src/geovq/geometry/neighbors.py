"""Nearest neighbours among fixed points."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from geovq.errors import InputError
from geovq.geometry.candidates import CandidateSearch
from geovq.seeding import threads_wanted

KD_TREE_DIMENSIONS = 8  # above it, comparing with every point is faster than a tree
COORDINATES_A_CHUNK = 2**20
FEWEST_ROWS_A_CHUNK = 4096  # faiss compares fewer more slowly
LARGEST = 1e150  # of a coordinate: squares of larger ones overflow


class NeighborIndex:
    """Nearest neighbours among ``points (n, d)``, ranked in float64.

    Exact by a KD-tree in up to 8 dimensions, and by comparison with all up to 100,000 points; beyond, a graph
    is searched that finds at least 99 % of the true neighbours (see ``CandidateSearch``). The result for a
    query does not depend on the others asked with it, nor on threads. What the search needs is built at the
    first query and never pickled.

    Raises
    ------
    InputError
        If points or queries are not finite or beyond 1e150, or more neighbours are asked for than there are
        points.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points = _usable("points", points)

    @property
    def recall(self) -> float:
        """Fraction of true neighbours that searches so far found, measured on 1,000 points; 1 if exact."""
        return self._candidates.recall

    def query(self, queries: np.ndarray, count: int, *, exact: bool = False) -> np.ndarray:
        """Indices int64 (m, count) of the points nearest to every query (m, d), nearest first.

        ``exact`` compares with all points, however many there are.
        """
        queries = _usable("queries", queries)
        self._check(count)
        nearest = np.empty((len(queries), count), dtype=np.int64)
        for rows, found in self._found(queries, count, exact):
            nearest[rows] = found
        return nearest

    def others(self, count: int) -> np.ndarray:
        """For every point the ``count`` nearest other points, int32 (n, count); ``count < n``.

        A point that lies on more than ``count`` others has itself left out by index, not by distance.
        """
        self._check(count + 1)
        nearest = np.empty((len(self.points), count), dtype=np.int32)
        for rows, found in self._found(self.points, count + 1, exact=False):
            is_other = found != rows[:, None]
            # Rows without themselves (more equal points than neighbours asked for) give up their last one.
            is_other[is_other.all(1), -1] = False
            nearest[rows] = found[is_other].reshape(len(rows), count)
        return nearest

    def _found(self, queries: np.ndarray, count: int, exact: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of the queries and what they find, chunk by chunk."""
        by_tree = self.points.shape[1] <= KD_TREE_DIMENSIONS
        if by_tree:
            # Asked leaf by leaf, the tree stays in the cache: twice as fast on 480,000 points.
            order = (self._tree if queries is self.points else _tree_of(queries)).indices
        else:
            order = np.arange(len(queries))
        rows_a_chunk = max(FEWEST_ROWS_A_CHUNK, COORDINATES_A_CHUNK // self.points.shape[1])
        for start in range(0, len(queries), rows_a_chunk):
            rows = order[start : start + rows_a_chunk]
            part = queries[rows]
            if by_tree:
                found = self._tree.query(part, range(1, count + 1), workers=threads_wanted())[1]
            elif exact:
                found = self._candidates.exactly(part, count)
            else:
                found = self._candidates.nearest(part, count)
            yield rows, found

    def _check(self, count: int) -> None:
        if count > len(self.points):
            raise InputError(f"{count} neighbours asked for among {len(self.points)} points; ask for fewer")

    @cached_property
    def _tree(self) -> cKDTree:
        return _tree_of(self.points)

    @cached_property
    def _candidates(self) -> CandidateSearch:
        return CandidateSearch(self.points)

    def __getstate__(self) -> dict[str, Any]:
        return {"points": self.points}


def _tree_of(points: np.ndarray) -> cKDTree:
    # Split in the middle instead of at the median, it is built twice as fast; with leaves twice as large as
    # usual it is asked a tenth faster in 4 dimensions, a fifth in 8.
    return cKDTree(points, leafsize=32, balanced_tree=False)


def _usable(name: str, points: np.ndarray) -> np.ndarray:
    points = np.ascontiguousarray(points, dtype=np.float64)
    wrong = ~(np.abs(points) <= LARGEST).all(1)  # NaN is not <= anything
    if wrong.any():
        raise InputError(
            f"{name}: {wrong.sum()} of {len(points)} rows are not finite or beyond {LARGEST:g}, the first of "
            f"them row {wrong.argmax()}; expected finite coordinates; drop those rows or rescale them"
        )
    return points
