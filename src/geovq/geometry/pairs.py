"""Shortest paths between all pairs of nodes, for graphs that are small enough."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from geovq.errors import InputError

MOST_NODES = 30_000  # 3.6 GB
ROWS_A_CHUNK = 512


def in_medians(graph: csr_matrix) -> csr_matrix:
    """The graph with its lengths in units of their median, so that float32 holds paths and their squares."""
    return graph if graph.nnz == 0 else graph / float(np.median(graph.data))


def all_pairs(graph: csr_matrix) -> np.ndarray:
    """Path lengths between all nodes of a symmetric graph, float32 (n, n): 4 n^2 bytes.

    Raises ``InputError`` above 30,000 nodes.
    """
    n = graph.shape[0]
    if n > MOST_NODES:
        raise InputError(
            f"all pairs of {n} nodes are {4e-9 * n**2:.0f} GB; expected at most {MOST_NODES} nodes; use "
            "fewer landmarks, or GeodesicQuantizer, which needs no pairs"
        )
    lengths = np.empty((n, n), dtype=np.float32)
    for start in range(0, n, ROWS_A_CHUNK):
        rows = np.arange(start, min(start + ROWS_A_CHUNK, n))
        lengths[rows] = dijkstra(graph, directed=True, indices=rows)
    return lengths
