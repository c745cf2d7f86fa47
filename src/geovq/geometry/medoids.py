"""Medoids of the cells of a graph: points that stand for all points nearest to them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from geovq.geometry.paths import multi_source


def snap_to_points(coordinates: np.ndarray, centers: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """For every center the nearest point of its own cell; for centers without points, the worst-served points.

    Parameters
    ----------
    coordinates : (n, c), n >= K
    centers : (K, c)
    cells : integers (n,) in ``range(K)``

    Returns
    -------
    int64 (K,), distinct rows of ``coordinates``
    """
    squares = np.square(coordinates - centers[cells]).sum(1)
    nearest = _least_a_cell(squares, cells)
    rows = np.full(len(centers), -1, dtype=np.int64)
    rows[cells[nearest]] = nearest
    squares[nearest] = -1.0  # taken
    empty = np.flatnonzero(rows < 0)
    rows[empty] = np.argsort(-squares, kind="stable")[: len(empty)]
    return rows


def cut_between_cells(graph: csr_matrix, cells: np.ndarray) -> csr_matrix:
    """The graph without the edges that join two cells."""
    rows = np.repeat(cells, np.diff(graph.indptr))
    kept = rows == cells[graph.indices]
    ends = np.concatenate([[0], np.cumsum(kept)])[graph.indptr]
    return csr_matrix((graph.data[kept], graph.indices[kept], ends), shape=graph.shape)


def improve_medoids(
    graph: csr_matrix,
    weights: np.ndarray,
    medoids: np.ndarray,
    distance: np.ndarray,
    cells: np.ndarray,
    generator: np.random.Generator,
    n_pivots: int,
) -> np.ndarray:
    """Medoids of lower cost: in every cell, the sum of squared path lengths to its points.

    All cells work at once, because the graph cut between cells needs one multi-source run for one source a
    cell. ``n_pivots`` random points of every cell are such sources; the point with the least mean squared
    distance to them is a candidate, its exact cost takes one more run, and it replaces the medoid only if that
    cost is lower. Assigning all points anew can only lower the costs further, so the total never rises.

    Parameters
    ----------
    graph : connected, symmetric (n, n)
    weights : (n,), how often each point counts
    medoids : int64 (K,)
    distance, cells : (n,), what ``multi_source(graph, medoids)`` returned
    generator : draws the pivots
    n_pivots : runs spent on estimates; the estimate's error falls with its square root

    Returns
    -------
    int64 (K,)
    """
    inside = cut_between_cells(graph, cells)
    cost = np.bincount(cells, weights * np.square(distance), minlength=len(medoids))
    estimate = np.zeros(len(cells))
    for _ in range(n_pivots):
        pivots = _one_a_cell(cells, weights, generator)
        estimate += np.square(multi_source(inside, pivots)[0])
    candidates = _least_a_cell(estimate, cells)
    to_candidate, _ = multi_source(inside, candidates)
    candidate_cost = np.bincount(cells, weights * np.square(to_candidate), minlength=len(medoids))
    return np.where(candidate_cost < cost, candidates, medoids)


def _one_a_cell(cells: np.ndarray, weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random point of every cell, with probability in proportion to its weight."""
    # The least of exponential clocks with these rates rings with these probabilities.
    return _least_a_cell(generator.exponential(size=len(cells)) / weights, cells)


def _least_a_cell(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The point of least value in every cell, the first if several are equal."""
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    least = np.minimum.reduceat(values[order], starts)
    hits = order[values[order] == np.repeat(least, np.diff(starts, append=len(order)))]
    _, first = np.unique(cells[hits], return_index=True)
    return hits[first]
