"""Shortest paths on a graph: from many sources at once, between two nodes, to the farthest nodes."""

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


def shortest_path(graph: csr_matrix, start: int, end: int) -> np.ndarray:
    """The nodes of a shortest path, int64 (m,) from ``start`` to ``end``, both included.

    Parameters
    ----------
    graph : (n, n), symmetric, positive lengths
    start, end : nodes; if they are equal, the path is that node

    Raises
    ------
    InputError
        If one of them is no node, or no path joins them.
    """
    _check_nodes(graph, start, end)
    distance, before = dijkstra(graph, directed=True, indices=end, return_predecessors=True)
    if np.isinf(distance[start]):
        raise InputError(
            f"no path joins nodes {start} and {end}; expected a connected graph, as geovq.geometry.connect "
            "gives"
        )
    nodes = [start]
    while nodes[-1] != end:
        nodes.append(int(before[nodes[-1]]))
    return np.array(nodes, dtype=np.int64)


def farthest_first(graph: csr_matrix, count: int, start: int) -> np.ndarray:
    """Nodes that each lie farthest from all those before, int64 (count,); the first is ``start``.

    Every node is then nearer to one of them than twice the least radius with which ``count`` nodes can cover
    the graph. Of nodes equally far the lowest is taken. Components without a node so far are infinitely far.
    A search ends at the radius still to be covered: beyond, a new node brings nothing nearer.

    Parameters
    ----------
    graph : (n, n), symmetric, positive lengths
    count : nodes wanted, at most n
    start : the first node

    Raises
    ------
    InputError
        If ``count`` is not in 1..n, or ``start`` is no node.

    Source: Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance", Theoretical Computer Science
    1985.
    """
    _check_nodes(graph, start)
    if not 1 <= count <= graph.shape[0]:
        raise InputError(f"count is {count} for {graph.shape[0]} nodes; expected 1 <= count <= n")
    nodes = np.full(count, start, dtype=np.int64)
    radius = np.full(graph.shape[0], np.inf)
    for position in range(1, count):
        last = nodes[position - 1]
        reached = dijkstra(graph, directed=True, indices=last, limit=radius[last])
        np.minimum(radius, reached, out=radius)
        nodes[position] = radius.argmax()
    return nodes


def _check_nodes(graph: csr_matrix, *nodes: int) -> None:
    for node in nodes:
        if not 0 <= node < graph.shape[0]:
            raise InputError(f"node {node} in a graph of {graph.shape[0]} nodes; expected 0 <= node < n")


def _lowest_of_ties(graph: csr_matrix, distance: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Labels in which a node takes the lowest one that arrives over any of its shortest paths."""
    degrees = np.diff(graph.indptr)
    label = label.astype(np.int32)  # one label an edge is held twice
    while True:
        border = np.flatnonzero(np.repeat(label, degrees) < label[graph.indices])
        tail = np.searchsorted(graph.indptr, border, side="right") - 1
        head = graph.indices[border]
        tied = distance[tail] + graph.data[border] == distance[head]
        if not tied.any():
            return label.astype(np.int64)
        np.minimum.at(label, head[tied], label[tail[tied]])
