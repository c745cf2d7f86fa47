"""k-nearest-neighbour graphs with measured edges."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from geovq.errors import InputError
from geovq.geometry.edges import EDGES, EdgeLengths
from geovq.geometry.neighbors import NeighborIndex

FLOOR = 1e-12  # of the median positive length: sparse matrices drop edges of length 0
ROWS_A_CHUNK = 65536


def knn_graph(
    points: np.ndarray,
    n_neighbors: int,
    sigmas: np.ndarray | None = None,
    edges: EdgeLengths = EDGES["euclidean"],
    index: NeighborIndex | None = None,
) -> csr_matrix:
    """The symmetric graph that joins two points if either is among the other's nearest.

    Parameters
    ----------
    points : (n, d)
    n_neighbors : neighbours of a point, itself not counted; at most n - 1
    sigmas : (n, d), for edges that measure Gaussians
    edges : how lengths are measured, and where neighbours are sought
    index : of ``edges.coordinates(points, sigmas)``, if the caller has it

    Returns
    -------
    float64 (n, n), sorted, without a diagonal. Points that coincide are neighbours at a floor of 1e-12 times
    the median positive length. May have several components: see ``connect``.

    Raises
    ------
    InputError
        If ``n_neighbors`` is not in 1..n-1.
    """
    n = len(points)
    if not 1 <= n_neighbors < n:
        raise InputError(f"n_neighbors is {n_neighbors} for {n} points; expected 1 <= n_neighbors < {n}")
    nearest = (index or NeighborIndex(edges.coordinates(points, sigmas))).others(n_neighbors)
    lengths = np.empty(nearest.shape)
    for start in range(0, n, ROWS_A_CHUNK):
        part = nearest[start : start + ROWS_A_CHUNK]
        rows = np.repeat(np.arange(start, start + len(part)), n_neighbors)
        measured = measure(points, sigmas, edges, rows, part.ravel())
        lengths[start : start + ROWS_A_CHUNK] = measured.reshape(part.shape)
    row_ends = np.arange(n + 1) * n_neighbors
    directed = csr_matrix((floored(lengths).ravel(), nearest.ravel(), row_ends), shape=(n, n))
    # The maximum, because adding the transpose would double the edges that both ends chose.
    graph = directed.maximum(directed.T.tocsr())
    graph.sort_indices()
    return graph


def measure(
    points: np.ndarray, sigmas: np.ndarray | None, edges: EdgeLengths, rows: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Lengths of the edges between ``points[rows]`` and ``points[others]``, in the order of the rows."""
    if sigmas is None:
        return edges.lengths(points[rows], None, points[others], None)
    return edges.lengths(points[rows], sigmas[rows], points[others], sigmas[others])


def floored(lengths: np.ndarray) -> np.ndarray:
    """Lengths in which 0 has become 1e-12 of the median positive one (1 if all are 0)."""
    positive = lengths[lengths > 0]
    if len(positive) == lengths.size:
        return lengths
    typical = float(np.median(positive)) if len(positive) else 1.0
    return np.maximum(lengths, FLOOR * typical)
