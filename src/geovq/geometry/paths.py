"""Shortest paths from many sources at once."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from geovq.errors import InputError


def multi_source(graph: csr_matrix, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance from every node to its nearest source, and which source that is.

    One run of Dijkstra's algorithm for all sources together. Nodes at equal distance from several sources go
    to the one that comes first in ``sources``, whatever the order in which edges are visited.

    Parameters
    ----------
    graph : (n, n), symmetric, positive lengths
    sources : distinct nodes (K,)

    Returns
    -------
    distance : float64 (n,)
    label : int64 (n,), position in ``sources``

    Raises
    ------
    InputError
        If a source is repeated, or a node cannot be reached from any.
    """
    sources = np.asarray(sources)
    n_distinct = len(np.unique(sources))
    if n_distinct != len(sources):
        raise InputError(f"{len(sources)} sources, {n_distinct} of them distinct; expected no repeats")
    # A symmetric graph is searched as a directed one: the undirected mode would transpose it at every call.
    distance, _, nearest = dijkstra(
        graph, directed=True, indices=sources, min_only=True, return_predecessors=True
    )
    unreachable = int(np.isinf(distance).sum())
    if unreachable:
        raise InputError(
            f"{unreachable} of {len(distance)} nodes cannot be reached from any source; "
            "expected a connected graph, as geovq.geometry.connect gives"
        )
    position = np.full(len(distance), -1, dtype=np.int64)
    position[sources] = np.arange(len(sources))
    return distance, _lowest_of_ties(graph, distance, position[nearest])


def _lowest_of_ties(graph: csr_matrix, distance: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Labels in which a node takes the lowest one that arrives over any of its shortest paths."""
    degrees = np.diff(graph.indptr)
    while True:
        border = np.flatnonzero(np.repeat(label, degrees) < label[graph.indices])
        tail = np.searchsorted(graph.indptr, border, side="right") - 1
        head = graph.indices[border]
        tied = distance[tail] + graph.data[border] == distance[head]
        if not tied.any():
            return label
        np.minimum.at(label, head[tied], label[tail[tied]])
