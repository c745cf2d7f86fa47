"""Medoids of the cells of a graph: nodes that stand for all nodes nearest to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from geovq.geometry.paths import multi_source
from geovq.search import cell_means

N_PIVOTS = 4  # runs spent on an estimate, whose error falls with their square root


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
    graph: csr_matrix,
    cells: Cells,
    coordinates: np.ndarray,
    weights: np.ndarray,
    generator: np.random.Generator,
    power: int,
) -> Cells:
    """One Lloyd step: medoids moved where that lowers their cell's cost, and all nodes assigned anew.

    A cell's cost is the weighted sum of ``length ** power`` over the paths from its medoid. Two candidates are
    tried in every cell: the node nearest to the cell's mean, and that neighbour of the medoid with the least
    summed cost to random pivots of the cell. All cells work at once, because on the graph cut between cells
    one multi-source run serves one source a cell. Paths in the cut graph are never shorter than in the whole
    one, so a lower cost there is a lower cost: the mean cost never rises.

    Parameters
    ----------
    graph : connected, symmetric (n, n)
    cells : current ones
    coordinates : (n, c), in which means are taken
    weights : (n,), how often each node counts
    generator : draws the pivots
    power : 1 or 2
    """
    inside = cut_between_cells(graph, cells.label)
    medoids, cost = cells.medoids, _cost(cells.distance**power, cells.label, weights)
    for candidates in (
        _at_means(coordinates, cells, weights),
        _best_neighbors(inside, cells, weights, generator, power),
    ):
        candidate_cost = _cost(_distances(inside, candidates) ** power, cells.label, weights)
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
    squares = np.square(coordinates - centers[label]).sum(1)
    nearest = _least_a_cell(squares, label)
    rows = np.full(len(centers), -1, dtype=np.int64)
    rows[label[nearest]] = nearest
    squares[nearest] = -1.0  # taken
    empty = np.flatnonzero(rows < 0)
    rows[empty] = np.argsort(-squares, kind="stable")[: len(empty)]
    return rows


def cut_between_cells(graph: csr_matrix, label: np.ndarray) -> csr_matrix:
    """The graph without the edges that join two cells."""
    kept = np.repeat(label, np.diff(graph.indptr)) == label[graph.indices]
    row_ends = np.concatenate([[0], np.cumsum(kept)])[graph.indptr]
    return csr_matrix((graph.data[kept], graph.indices[kept], row_ends), shape=graph.shape)


def _at_means(coordinates: np.ndarray, cells: Cells, weights: np.ndarray) -> np.ndarray:
    repeated = np.broadcast_to(weights[:, None], coordinates.shape)
    means, _ = cell_means(coordinates, cells.label, len(cells.medoids), repeated)
    return snap_to_points(coordinates, means, cells.label)


def _best_neighbors(
    inside: csr_matrix, cells: Cells, weights: np.ndarray, generator: np.random.Generator, power: int
) -> np.ndarray:
    summed = np.zeros(len(cells.label))
    for _ in range(N_PIVOTS):
        # The first of exponential clocks with these rates: a draw in proportion to the weights.
        clocks = generator.exponential(size=len(weights)) / weights
        summed += _distances(inside, _least_a_cell(clocks, cells.label)) ** power
    # The same few pivots rank far nodes by chance, near ones by the trend that they share.
    near = np.zeros(len(summed), dtype=bool)
    near[cells.medoids] = True
    near[inside[cells.medoids].indices] = True
    return _least_a_cell(np.where(near, summed, np.inf), cells.label)


def _distances(inside: csr_matrix, sources: np.ndarray) -> np.ndarray:
    """Distance of every node from the source in its own cell."""
    return np.asarray(dijkstra(inside, directed=True, indices=sources, min_only=True))


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
