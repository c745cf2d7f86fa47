"""Medoids of the cells of a graph: nodes that stand for all nodes nearest to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from geovq.geometry.paths import multi_source
from geovq.search import cell_means


@dataclass(frozen=True)
class Cells:
    """K medoids and the nodes of a graph that are nearest to each.

    Attributes
    ----------
    medoids : int64 (K,), nodes
    distance : float64 (n,), length of the path from every node to its medoid
    label : int64 (n,), which medoid that is
    """

    medoids: np.ndarray
    distance: np.ndarray
    label: np.ndarray

    @classmethod
    def around(cls, graph: csr_matrix, medoids: np.ndarray) -> Cells:
        """The cells of ``medoids`` on a connected graph."""
        return cls(medoids, *multi_source(graph, medoids))

    def mean_cost(self, weights: np.ndarray, power: int) -> float:
        """Mean of distance ** power to the medoid, nodes counted with ``weights (n,)``."""
        return float(np.average(self.distance**power, weights=weights))


def improve_medoids(
    graph: csr_matrix, cells: Cells, coordinates: np.ndarray, weights: np.ndarray, power: int
) -> Cells:
    """One Lloyd step: medoids moved where that lowers their cell's cost, and all nodes assigned anew.

    A cell's cost is the weighted sum of ``length ** power`` over the paths from its medoid. Two candidates
    are tried in every cell: the node nearest to the cell's mean, and the node nearest to where the paths lead
    on average (see ``_along_paths``). All cells work at once, because on the graph cut between cells one
    multi-source run serves one source a cell. Paths in the cut graph are never shorter than in the whole one,
    so a lower cost there is a lower cost: the mean cost never rises.

    Parameters
    ----------
    graph : connected, symmetric (n, n)
    cells : current ones
    coordinates : (n, c), in which means are taken
    weights : (n,), how often each node counts
    power : 1 or 2
    """
    inside = cut_between_cells(graph, cells.label)
    medoids, cost = cells.medoids, _cost(cells.distance**power, cells.label, weights)
    repeated = np.broadcast_to(weights[:, None], coordinates.shape)
    means, _ = cell_means(coordinates, cells.label, len(medoids), repeated)
    for targets in (means, _along_paths(inside, cells, coordinates, weights, power)):
        candidates = _nearest_members(coordinates, targets, cells.label)
        distance = dijkstra(inside, directed=True, indices=candidates, min_only=True)
        candidate_cost = _cost(distance**power, cells.label, weights)
        medoids = np.where(candidate_cost < cost, candidates, medoids)
        cost = np.minimum(candidate_cost, cost)
    return Cells.around(graph, medoids)


def snap_to_points(coordinates: np.ndarray, centers: np.ndarray, label: np.ndarray) -> np.ndarray:
    """For every center the nearest point of its own cell; for centers without any, the worst-served points.

    Parameters
    ----------
    coordinates : (n, c), n >= K
    centers : (K, c)
    label : integers (n,) in ``range(K)``, the center of every point

    Returns
    -------
    int64 (K,), distinct rows of ``coordinates``
    """
    nearest = _nearest_members(coordinates, centers, label)
    rows = np.full(len(centers), -1, dtype=np.int64)
    rows[label[nearest]] = nearest
    squares = np.square(coordinates - centers[label]).sum(1)
    squares[nearest] = -1.0  # taken
    empty = np.flatnonzero(rows < 0)
    rows[empty] = np.argsort(-squares, kind="stable")[: len(empty)]
    return rows


def cut_between_cells(graph: csr_matrix, label: np.ndarray) -> csr_matrix:
    """The graph without the edges that join two cells."""
    kept = np.repeat(label, np.diff(graph.indptr)) == label[graph.indices]
    row_ends = np.concatenate([[0], np.cumsum(kept)])[graph.indptr]
    return csr_matrix((graph.data[kept], graph.indices[kept], row_ends), shape=graph.shape)


def _along_paths(
    inside: csr_matrix, cells: Cells, coordinates: np.ndarray, weights: np.ndarray, power: int
) -> np.ndarray:
    """Where every medoid's paths lead on average, (K, c).

    A path that leaves a medoid along an edge and is l long counts as a straight way of length l in the
    direction of that edge, which is the logarithm map read off the graph. With power 2 the average is the
    step of the Riemannian mean, with power 1 that of Weiszfeld's algorithm for the median.

    Source: Karcher, "Riemannian Center of Mass and Mollifier Smoothing", 1977; Fletcher, Venkatasubramanian
    and Joshi, "The Geometric Median on Riemannian Manifolds", NeuroImage 2009.
    """
    before = dijkstra(inside, directed=True, indices=cells.medoids, min_only=True, return_predecessors=True)[
        1
    ]
    hop = _first_hops(before, cells.medoids)
    here = coordinates[cells.medoids][cells.label]
    is_medoid = cells.distance[hop] == 0
    stretch = np.divide(cells.distance, cells.distance[hop], out=np.zeros(len(hop)), where=~is_medoid)
    ways = (coordinates[hop] - here) * stretch[:, None]
    if power == 1:
        weights = np.divide(weights, cells.distance, out=np.zeros(len(hop)), where=~is_medoid)
    steps, _ = cell_means(
        ways, cells.label, len(cells.medoids), np.broadcast_to(weights[:, None], ways.shape)
    )
    return coordinates[cells.medoids] + steps


def _first_hops(before: np.ndarray, medoids: np.ndarray) -> np.ndarray:
    """The first node on the path from its medoid to every node, (n,); a medoid's is itself.

    ``before (n,)`` is the node before each on its path. Every pass looks twice as far back as the one before.
    """
    is_medoid = np.zeros(len(before), dtype=bool)
    is_medoid[medoids] = True
    hop = np.where(is_medoid, np.arange(len(before)), before)
    starts = is_medoid[hop]
    hop[starts] = np.flatnonzero(starts)
    while True:
        further = hop[hop]
        if np.array_equal(further, hop):
            return hop
        hop = further


def _nearest_members(coordinates: np.ndarray, targets: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The member of every cell that is nearest to its target (K, c), for cells that have members."""
    return _least_a_cell(np.square(coordinates - targets[label]).sum(1), label)


def _cost(costs: np.ndarray, label: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.bincount(label, weights * costs)


def _least_a_cell(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The node of least value in every cell that has nodes, the first if several are equal."""
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order], prepend=-1))
    least = np.minimum.reduceat(values[order], starts)
    hits = order[values[order] == np.repeat(least, np.diff(starts, append=len(order)))]
    _, first = np.unique(label[hits], return_index=True)
    return hits[first]
