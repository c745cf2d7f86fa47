"""Nearest neighbours in many dimensions: candidates in float32, ranked again in float64."""

from __future__ import annotations

import warnings
from functools import cached_property

import faiss
import numpy as np
from scipy.spatial import cKDTree

from geovq.seeding import numpy_generator, threads_wanted

CANDIDATES = 8  # more than asked for, because float32 ranks near-equal distances wrongly
ROUNDING = 2.0**-24  # of float32
COORDINATES_A_CHUNK = 2**18  # 2 MB of differences stay in the cache
EXACT_POINTS = 100_000  # up to here comparing with all is as fast as building a graph and searching it

# Of M 16, 24, 32 and efConstruction 40, 60, 80, on 200,000 normal points of 16 and 32 dimensions, these need
# the least effort for a recall of 99 % in 16; those that need less in 32 take 1.7 times as long to build.
LINKS = 32
BUILDING_EFFORT = 40

LEAST_EFFORT = 32
POINTS_AN_EFFORT = 1000  # twice as many are compared with while the graph search considers a candidate more
RECALL = 0.99
SAMPLE = 1000


class CandidateSearch:
    """Nearest neighbours among ``points``, float64 (n, d), by faiss.

    Up to 100,000 points every query is compared with all of them, and the result is exact: where rounding
    could hide a nearer point than those found, a KD-tree answers. Beyond, a hierarchical navigable
    small-world graph is searched, with the effort doubled until it finds 99 % of the true neighbours of 1,000
    of the points; points at equal distance count alike. If that would take longer than comparing with all,
    all are compared, and a warning says so.

    Attributes
    ----------
    recall : fraction of those true neighbours that was found, the lowest of all counts asked for; 1 for exact
        searches

    Source: Malkov and Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical
    Navigable Small World Graphs", IEEE TPAMI 2020.
    """

    def __init__(self, points: np.ndarray) -> None:
        self._points = points
        self._efforts: dict[int, int | None] = {}
        self._recalls: dict[int, float] = {}

    @property
    def recall(self) -> float:
        """The lowest recall measured so far."""
        return min(self._recalls.values(), default=1.0)

    def nearest(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Indices of the points nearest to ``queries``, float64 (m, d): int64 (m, count), nearest first."""
        effort = self._effort(count)
        if effort is None:
            return self.exactly(queries, count)
        found = self._searched(queries, count, effort)
        lost = (found < 0).any(1)  # no way through the graph leads to enough points
        nearest, _ = self._ranked(queries, np.maximum(found, 0), count)
        if lost.any():
            nearest[lost] = self.exactly(queries[lost], count)
        return nearest

    def exactly(self, queries: np.ndarray, count: int) -> np.ndarray:
        """``nearest`` by comparison with all points."""
        scaled = self._scaled(queries)
        distances, found = self._flat.search(scaled, min(len(self._points), count + CANDIDATES))
        nearest, squares = self._ranked(queries, found, count)
        if found.shape[1] < len(self._points):
            # |x|^2 + |y|^2 - 2 xy is off by at most e (|x| + |y|)^2 <= e (8 |x|^2 + 2 |x - y|^2). A point
            # that is no candidate looked at least as far as the last one that is, so it lies at least so far:
            error = (self._points.shape[1] + 6) * ROUNDING
            norms = np.square(scaled, dtype=np.float64).sum(1)
            beyond = (distances[:, -1].astype(np.float64) - 8 * error * norms) / (1 + 2 * error)
            doubtful = squares[:, -1] >= beyond * self._scale**2
            if doubtful.any():
                asking, ranks = queries[doubtful], range(1, count + 1)
                found = self._tree.query(asking, ranks, workers=threads_wanted())[1]
                nearest[doubtful] = self._ranked(asking, found, count)[0]
        return nearest

    def _ranked(self, queries: np.ndarray, found: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``count`` nearest of the candidates ``found``, equal ones by index, and squared distances."""
        found = np.sort(found, axis=1)
        squares = np.empty(found.shape)
        rows_a_chunk = max(1, COORDINATES_A_CHUNK // (found.shape[1] * queries.shape[1]))
        for start in range(0, len(queries), rows_a_chunk):
            part = slice(start, start + rows_a_chunk)
            squares[part] = np.square(queries[part, None] - self._points[found[part]]).sum(2)
        ranks = np.argsort(squares, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(found, ranks, axis=1), np.take_along_axis(squares, ranks, axis=1)

    def _effort(self, count: int) -> int | None:
        """Candidates that a graph search considers; none for a comparison with all points."""
        if len(self._points) <= EXACT_POINTS:
            return None
        if count not in self._efforts:
            self._efforts[count], self._recalls[count] = self._measured_effort(count)
        return self._efforts[count]

    def _measured_effort(self, count: int) -> tuple[int | None, float]:
        """The effort that reaches the recall, and the recall that it reaches."""
        n, d = self._points.shape
        count = min(count, n - 1)
        rows = np.sort(numpy_generator(0, "recall").choice(n, min(n, SAMPLE), replace=False))
        queries = self._points[rows]
        effort, found = LEAST_EFFORT, self._searched(queries, count, LEAST_EFFORT)
        _, squares = self._ranked(queries, self.exactly(queries, count + 1), count + 1)
        while True:
            away = np.square(queries[:, None] - self._points[found]).sum(2)
            is_hit = (away <= squares[:, -1:]) & (found >= 0) & (found != rows[:, None])
            recall = float(np.minimum(is_hit.sum(1), count).mean() / count)
            if recall >= RECALL:
                return effort, recall
            effort *= 2
            if effort > max(LEAST_EFFORT, n // POINTS_AN_EFFORT):
                break
            found = self._searched(queries, count, effort)
        warnings.warn(
            f"a fast search found {recall:.1%} of the nearest neighbours of {n} points of {d} dimensions; "
            f"expected {RECALL:.0%}, so all points are compared with each other, in time proportional to the "
            "square of their number; fewer points or dimensions are faster",
            UserWarning,
            stacklevel=2,
        )
        return None, 1.0

    def _searched(self, queries: np.ndarray, count: int, effort: int) -> np.ndarray:
        self._graph.hnsw.efSearch = effort
        candidates = min(len(self._points), count + CANDIDATES)
        return np.asarray(self._graph.search(self._scaled(queries), candidates)[1])

    @cached_property
    def _graph(self) -> faiss.IndexHNSWFlat:
        index = faiss.IndexHNSWFlat(self._points.shape[1], LINKS)
        index.hnsw.efConstruction = BUILDING_EFFORT
        threads = faiss.omp_get_max_threads()
        if not hasattr(faiss, "hnsw_add_vertices_deterministic"):
            # In older versions the links depend on which of several threads gets hold of a point first.
            faiss.omp_set_num_threads(1)
        try:
            index.add(self._scaled(self._points))
        finally:
            faiss.omp_set_num_threads(threads)
        return index

    @cached_property
    def _flat(self) -> faiss.Index:
        if "_graph" in vars(self):
            return faiss.downcast_index(self._graph.storage)  # the same points, held already
        index = faiss.IndexFlatL2(self._points.shape[1])
        index.add(self._scaled(self._points))
        return index

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self._points)

    def _scaled(self, points: np.ndarray) -> np.ndarray:
        """Centred and scaled, so that float32 has its digits where the points differ."""
        return ((points - self._offset) / self._scale).astype(np.float32)

    @cached_property
    def _offset(self) -> np.ndarray:
        return np.asarray(self._points.mean(0))

    @cached_property
    def _scale(self) -> float:
        return float(np.abs(self._points - self._offset).max()) or 1.0
