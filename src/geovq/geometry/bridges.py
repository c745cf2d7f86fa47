"""Joining the components of a graph by the shortest edges that do so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from geovq.geometry.edges import EDGES, EdgeLengths
from geovq.geometry.graph import floored, measure
from geovq.geometry.neighbors import NeighborIndex


@dataclass(frozen=True)
class Bridges:
    """What was added to connect a graph. A path over a bridge crosses a gap in the data."""

    count: int
    total_length: float


def connect(
    graph: csr_matrix,
    points: np.ndarray,
    sigmas: np.ndarray | None = None,
    edges: EdgeLengths = EDGES["euclidean"],
) -> tuple[csr_matrix, Bridges]:
    """The graph with its components joined by a minimum spanning tree of bridges.

    Borůvka's algorithm: every component but the largest takes the shortest way out, until one component is
    left. Shortest is meant in ``edges.coordinates``; the bridge then has the length that ``edges`` measures.

    Parameters
    ----------
    graph : symmetric (n, n)
    points, sigmas : (n, d)
    edges : how lengths are measured

    Returns
    -------
    graph : connected, symmetric (n, n)
    bridges : how many were added, and their total length
    """
    coordinates = edges.coordinates(points, sigmas)
    count, total = 0, 0.0
    while True:
        n_components, component = connected_components(graph, directed=False)
        if n_components == 1:
            return graph, Bridges(count, total)
        sources, targets = _ways_out(coordinates, component)
        lengths = floored(measure(points, sigmas, edges, sources, targets))
        count, total = count + len(sources), total + float(lengths.sum())
        added = csr_matrix((lengths, (sources, targets)), shape=graph.shape)
        graph = graph.maximum(added).maximum(added.T.tocsr())


def _ways_out(coordinates: np.ndarray, component: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the bridges of one round: no two components are joined twice."""
    asking = np.flatnonzero(component != np.bincount(component).argmax())
    target, distance = _nearest_elsewhere(coordinates, component, asking)
    # Shortest first and equal ones by index, so that the graph is always the same.
    order = np.lexsort((target, asking, distance))
    _, first = np.unique(component[asking][order], return_index=True)
    joined = DisjointSet(range(int(component.max()) + 1))
    kept = [
        way
        for way in order[np.sort(first)]
        # False if two components chose each other, or ties closed a ring.
        if joined.merge(component[asking[way]], component[target[way]])
    ]
    return asking[kept], target[kept]


def _nearest_elsewhere(
    coordinates: np.ndarray, component: np.ndarray, asking: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For the points ``asking``, the nearest point of another component and its distance.

    The numbers of two components differ in some binary digit. Asking, digit by digit, the points whose digit
    is the other one covers all other components with two searches a digit, however many there are.
    """
    target = np.zeros(len(asking), dtype=np.int64)
    distance = np.full(len(asking), np.inf)
    for digit in range(int(component.max()).bit_length()):
        has_digit = (component >> digit) & 1 == 1
        for side in (True, False):
            there = np.flatnonzero(has_digit != side)
            here = np.flatnonzero(has_digit[asking] == side)
            found = there[NeighborIndex(coordinates[there]).query(coordinates[asking[here]], 1)[:, 0]]
            away = np.sqrt(np.square(coordinates[asking[here]] - coordinates[found]).sum(1))
            nearer = away < distance[here]
            target[here[nearer]] = found[nearer]
            distance[here[nearer]] = away[nearer]
    return target, distance
