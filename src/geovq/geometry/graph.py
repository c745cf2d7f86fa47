"""k-nearest-neighbour graphs with measured edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from geovq.errors import InputError
from geovq.geometry.bridges import Bridges, connect, connected_parts
from geovq.geometry.edges import DATA_EDGES, EdgeLengths
from geovq.geometry.hubs import hub_statistics
from geovq.geometry.latents import Latents
from geovq.geometry.lengths import floored, measured
from geovq.geometry.neighbors import NeighborIndex

ROWS_A_CHUNK = 65536


@dataclass(frozen=True)
class GraphReport:
    """What a neighbour graph is like: whether paths on it can be trusted.

    Attributes
    ----------
    n_nodes : points
    n_edges : undirected edges between neighbours, bridges not counted
    median_length : of those edges; 0 if there are none
    n_components : before bridges
    n_bridges : edges added to connect the components; a path over one crosses a gap in the data
    bridge_length : of all bridges together
    longest_bridge : length; 0 if there are none
    max_in_degree, in_degree_skew, antihubs : see ``HubStatistics``
    recall : fraction of the true nearest neighbours that were found, measured; 1 if the search is exact
    """

    n_nodes: int
    n_edges: int
    median_length: float
    n_components: int
    n_bridges: int
    bridge_length: float
    longest_bridge: float
    max_in_degree: int
    in_degree_skew: float
    antihubs: float
    recall: float


@dataclass(frozen=True)
class NeighborGraph:
    """A connected graph of points.

    Attributes
    ----------
    lengths : float64 (n, n), symmetric
    report : what it is like
    """

    lengths: csr_matrix
    report: GraphReport


def neighbor_graph(
    latents: Latents,
    n_neighbors: int,
    edges: EdgeLengths = DATA_EDGES["euclidean"],
    *,
    allow_bridges: bool = True,
    index: NeighborIndex | None = None,
) -> NeighborGraph:
    """``knn_graph`` with its components joined by the shortest bridges, and a report.

    Parameters
    ----------
    latents : n points; a single one is a graph without edges, whatever ``n_neighbors``
    n_neighbors : neighbours of a point, itself not counted; at most n - 1
    edges : how lengths are measured, and where neighbours are sought
    allow_bridges : whether components may be joined
    index : of ``edges.coordinates(latents)``, if the caller has it

    Raises
    ------
    InputError
        As ``knn_graph``; or if the graph has several components and bridges are not allowed.
    """
    if len(latents) == 1:
        nearest, recall = np.empty((1, 0), dtype=np.int32), 1.0
    else:
        index = index or NeighborIndex(edges.coordinates(latents))
        nearest = _nearest(latents, n_neighbors, edges, index)
        recall = index.recall
    hubs = hub_statistics(nearest)
    starts, ends = _undirected(nearest)
    del nearest
    lengths = _lengths(latents, edges, starts, ends)
    n_edges, median = len(lengths), float(np.median(lengths)) if len(lengths) else 0.0
    separate = _symmetric(len(latents), starts, ends, lengths)
    del starts, ends, lengths
    graph, bridges = connect(separate, latents, edges)
    if len(bridges.lengths) and not allow_bridges:
        raise InputError(_in_pieces(separate, n_neighbors, median, bridges))
    report = GraphReport(
        n_nodes=len(latents),
        n_edges=n_edges,
        median_length=median,
        n_components=bridges.count + 1,
        n_bridges=bridges.count,
        bridge_length=bridges.total_length,
        longest_bridge=bridges.longest,
        max_in_degree=hubs.max_in_degree,
        in_degree_skew=hubs.skew,
        antihubs=hubs.antihubs,
        recall=recall,
    )
    return NeighborGraph(graph, report)


def knn_graph(
    latents: Latents,
    n_neighbors: int,
    edges: EdgeLengths = DATA_EDGES["euclidean"],
    index: NeighborIndex | None = None,
) -> csr_matrix:
    """The symmetric graph that joins two points if either is among the other's nearest.

    Every edge is measured once, from the point of lower number to that of higher.

    Parameters
    ----------
    latents : n points
    n_neighbors : neighbours of a point, itself not counted; at most n - 1
    edges : how lengths are measured, and where neighbours are sought
    index : of ``edges.coordinates(latents)``, if the caller has it

    Returns
    -------
    float64 (n, n), sorted, without a diagonal. Points that coincide are neighbours at a floor of 1e-12 times
    the median positive length. May have several components: see ``connect``.

    Raises
    ------
    InputError
        If ``n_neighbors`` is not in 1..n-1, a coordinate or a length is not finite, or the edges cannot
        measure these latents.
    """
    starts, ends = _undirected(_nearest(latents, n_neighbors, edges, index))
    return _symmetric(len(latents), starts, ends, _lengths(latents, edges, starts, ends))


def _nearest(
    latents: Latents, n_neighbors: int, edges: EdgeLengths, index: NeighborIndex | None
) -> np.ndarray:
    n = len(latents)
    if not 1 <= n_neighbors < n:
        raise InputError(f"n_neighbors is {n_neighbors} for {n} points; expected 1 <= n_neighbors < {n}")
    edges.check(latents)
    if index is None:
        index = NeighborIndex(edges.coordinates(latents))
    elif len(index.points) != n:
        raise InputError(
            f"index: of {len(index.points)} points, but there are {n} latents; expected an index of "
            "edges.coordinates(latents)"
        )
    return index.others(n_neighbors)


def _undirected(nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends, int32 (e,), of the edges of ``nearest (n, k)``: each once, starts < ends, in order."""
    # One sort of a number an edge is faster than sparse matrices, and holds less.
    keys = np.empty(nearest.shape, dtype=np.int64)
    for first in range(0, len(nearest), ROWS_A_CHUNK):
        found = nearest[first : first + ROWS_A_CHUNK].astype(np.int64)
        rows = np.arange(first, first + len(found))[:, None]
        keys[first : first + ROWS_A_CHUNK] = np.minimum(rows, found) << 32 | np.maximum(rows, found)
    flat = keys.reshape(-1)
    flat.sort()
    is_new = np.ones(len(flat), dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=is_new[1:])
    distinct = flat[is_new]
    return (distinct >> 32).astype(np.int32), distinct.astype(np.int32)


def _lengths(latents: Latents, edges: EdgeLengths, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    lengths = measured(latents, edges, starts, ends)
    if len(lengths) and not lengths.any() and (latents.means[starts] != latents.means[ends]).any():
        raise InputError(
            f"edges '{edges.name}': all {len(lengths)} lengths are 0, though the points differ; expected "
            "lengths that tell points apart; check that the decoder depends on its latents, or rescale points"
        )
    return floored(lengths)


def _symmetric(n: int, starts: np.ndarray, ends: np.ndarray, lengths: np.ndarray) -> csr_matrix:
    row_ends = np.searchsorted(starts, np.arange(n + 1))
    half = csr_matrix((lengths, ends, row_ends), shape=(n, n))
    return half + half.T.tocsr()  # no edge is in both, so nothing is added up


def _in_pieces(graph: csr_matrix, n_neighbors: int, median: float, bridges: Bridges) -> str:
    sizes = np.bincount(connected_parts(graph))
    return (
        f"the graph of {n_neighbors} neighbours falls into {len(sizes)} components, the largest with "
        f"{sizes.max()} of {sizes.sum()} points; to join them would take bridges of up to "
        f"{bridges.longest:.4g}, where the median edge has {median:.4g}; raise n_neighbors, drop the "
        "outliers, or allow bridges"
    )
