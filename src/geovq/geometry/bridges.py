"""Joining the components of a graph by the shortest edges that do so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from geovq.geometry.edges import DATA_EDGES, EdgeLengths, norms
from geovq.geometry.latents import Latents
from geovq.geometry.lengths import floored, measured
from geovq.geometry.neighbors import NeighborIndex

EXACT_PAIRS = 10**10  # compared in about five seconds on two cores


@dataclass(frozen=True)
class Bridges:
    """What was added to connect a graph. A path over a bridge crosses a gap in the data.

    Attributes
    ----------
    lengths : float64 (b,), of every bridge
    """

    lengths: np.ndarray

    @property
    def count(self) -> int:
        """How many bridges there are: one less than the components that they joined."""
        return len(self.lengths)

    @property
    def total_length(self) -> float:
        """Length of all bridges together."""
        return float(self.lengths.sum())

    @property
    def longest(self) -> float:
        """Length of the longest bridge; 0 if there is none."""
        return float(self.lengths.max(initial=0.0))


def connect(
    graph: csr_matrix, latents: Latents, edges: EdgeLengths = DATA_EDGES["euclidean"]
) -> tuple[csr_matrix, Bridges]:
    """The graph with its components joined by a minimum spanning tree of bridges.

    Borůvka's algorithm: every component but the largest takes the shortest way out, until one component is
    left. Shortest is meant in ``edges.coordinates``; the bridge then has the length that ``edges`` measures.
    In more than 8 dimensions, ways out between very many points (1e10 pairs of them) are searched as
    ``NeighborIndex`` does beyond 100,000 points, and may be a little longer than the shortest.

    Parameters
    ----------
    graph : symmetric (n, n)
    latents : n points
    edges : how lengths are measured

    Returns
    -------
    graph : connected, symmetric (n, n)
    bridges : the edges added

    Raises
    ------
    InputError
        If a bridge's length is not finite.
    """
    component = connected_parts(graph)
    lengths: list[np.ndarray] = []
    if component.any():
        coordinates = edges.coordinates(latents)
        typical = float(np.median(graph.data)) if graph.nnz else None
    while component.any():
        starts, ends = _ways_out(coordinates, component)
        lengths.append(floored(measured(latents, edges, starts, ends), typical))
        half = csr_matrix((lengths[-1], (starts, ends)), shape=graph.shape)
        graph = graph.maximum(half.maximum(half.T))
        component = connected_parts(graph)
    return graph, Bridges(np.concatenate([np.empty(0), *lengths]))


def connected_parts(graph: csr_matrix) -> np.ndarray:
    """Which component every node of a symmetric graph is in, int32 (n,) from 0."""
    # In a symmetric graph strong components are components; the undirected mode would transpose it.
    return np.asarray(connected_components(graph, directed=True, connection="strong")[1])


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
            here = np.flatnonzero(has_digit[asking] == side)
            if len(here) == 0:
                continue
            there = np.flatnonzero(has_digit != side)
            queries, exact = coordinates[asking[here]], len(here) * len(there) <= EXACT_PAIRS
            found = there[NeighborIndex(coordinates[there]).query(queries, 1, exact=exact)[:, 0]]
            away = norms(queries - coordinates[found])
            nearer = away < distance[here]
            target[here[nearer]] = found[nearer]
            distance[here[nearer]] = away[nearer]
    return target, distance
