"""Swaps of medoids with other nodes of a graph, which leave the optima where Lloyd's algorithm gets stuck."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from geovq.geometry.medoids import Cells
from geovq.geometry.pairs import all_pairs, in_medians
from geovq.geometry.swaps import ALL_POINTS, MAX_PASSES, draw_candidates, improve_by_swaps

MOST_OF_A_CELL = 0.75  # of its nodes lie within what counts as its radius: a few far ones would multiply it
REACH = 1.5  # of that radius: beyond it few nodes are nearer to a candidate than to their medoid
SOURCES_A_SEARCH = 16


def polish_medoids(graph: csr_matrix, cells: Cells, weights: np.ndarray, power: int, seed: int) -> Cells:
    """Eager swaps of medoids with other nodes until none of the candidates lowers the mean cost.

    Up to 10,000 nodes this is FasterPAM from the given medoids: every node is a candidate and all distances,
    0.4 GB at most, are known. On larger graphs 20 nodes a medoid are drawn and tried once, and distances are
    searched as far as the cell of a medoid reaches, or one and a half radii of the cell that a candidate lies
    in. What is not known counts as infinite, so a swap that looks like a gain is one.

    Parameters
    ----------
    graph : connected, symmetric (n, n)
    cells : around the medoids to improve
    weights : (n,), how often each node counts
    power : 1 or 2; the cost is the weighted mean of ``length ** power``
    seed : of the candidates and their order

    Source: Schubert and Rousseeuw, "Fast and eager k-medoids clustering: O(k) runtime improvement of the PAM,
    CLARA, and CLARANS algorithms", Information Systems 2021.
    """
    n = graph.shape[0]
    whole, scaled = n <= ALL_POINTS, in_medians(graph)
    swapped = improve_by_swaps(
        all_pairs(scaled).__getitem__
        if whole
        else _limited_columns(scaled, Cells.around(scaled, cells.medoids)),
        cells.medoids,
        n_points=n,
        weights=weights,
        power=power,
        candidates=draw_candidates(n, len(cells.medoids), seed),
        max_passes=MAX_PASSES if whole else 1,
    )
    polished = Cells.around(graph, swapped.medoids)
    better = polished.mean_cost(weights, power) < cells.mean_cost(weights, power)
    return polished if better else cells


def _limited_columns(graph: csr_matrix, cells: Cells) -> Callable[[np.ndarray], np.ndarray]:
    order = np.lexsort((cells.distance, cells.label))
    ends = np.cumsum(np.bincount(cells.label))
    starts = np.concatenate([[0], ends[:-1]])
    inner = order[starts + (MOST_OF_A_CELL * (ends - 1 - starts)).astype(np.int64)]
    reach = REACH * cells.distance[inner][cells.label]
    # A medoid must reach all of its cell; the last bit of a sum may differ from search to search.
    reach[cells.medoids] = (1 + 1e-9) * cells.distance[order[ends - 1]]

    def columns(nodes: np.ndarray) -> np.ndarray:
        lengths = np.empty((len(nodes), graph.shape[0]), dtype=np.float32)
        # One limit serves a whole search, so nodes of similar reach are searched from together.
        order = np.argsort(reach[nodes], kind="stable")
        for start in range(0, len(nodes), SOURCES_A_SEARCH):
            part = order[start : start + SOURCES_A_SEARCH]
            limit = float(reach[nodes[part]].max())
            lengths[part] = dijkstra(graph, directed=True, indices=nodes[part], limit=limit)
        return lengths

    return columns
