"""Paths on the neighbour graph of points, beside those of a flat Gaussian cloud of the same covariance."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import dijkstra
from scipy.stats import spearmanr

from geovq.evaluation.diagnosis import PathsAgainstLines
from geovq.geometry import Latents, NeighborGraph, neighbor_graph
from geovq.search import distinct_rows
from geovq.seeding import numpy_generator

N_NEIGHBORS = 15
FEWEST_POINTS = 10 * N_NEIGHBORS  # distinct ones; the graph of fewer joins everything with everything
N_SOURCES, TARGETS_A_SOURCE = 100, 200


def paths_against_lines(points: np.ndarray, seed: int) -> PathsAgainstLines | None:
    """How graph paths between ``points (n, d)`` rank pairs, against straight lines and a flat null.

    In flat space the shortest path is the straight line, so what the paths of a Gaussian cloud of the same
    mean and covariance say beyond it is error of the graph. None for fewer than 150 distinct points.
    """
    distinct = points[distinct_rows(points)[0]].astype(np.float64)
    if len(distinct) < FEWEST_POINTS:
        return None
    cloud = numpy_generator(seed, "flat cloud").multivariate_normal(
        distinct.mean(0),
        np.atleast_2d(np.cov(distinct.T)),
        len(distinct),
        check_valid="ignore",
        method="eigh",
    )
    graph, flat = (neighbor_graph(Latents(each), N_NEIGHBORS) for each in (distinct, cloud))
    return PathsAgainstLines(
        n_points=len(distinct),
        dim=distinct.shape[1],
        n_neighbors=N_NEIGHBORS,
        correlation=_correlation(distinct, graph, seed),
        flat_correlation=_correlation(cloud, flat, seed),
        max_in_degree=graph.report.max_in_degree,
        flat_max_in_degree=flat.report.max_in_degree,
        in_degree_skew=graph.report.in_degree_skew,
        antihubs=graph.report.antihubs,
        n_bridges=graph.report.n_bridges,
    )


def _correlation(points: np.ndarray, graph: NeighborGraph, seed: int) -> float:
    """Spearman's rank correlation of path length and straight distance over random pairs."""
    generator = numpy_generator(seed, "pairs of points")
    sources = generator.choice(len(points), min(N_SOURCES, len(points)), replace=False)
    targets = generator.integers(len(points), size=(len(sources), TARGETS_A_SOURCE))
    paths = np.take_along_axis(dijkstra(graph.lengths, directed=True, indices=sources), targets, axis=1)
    lines = np.sqrt(np.square(points[sources][:, None] - points[targets]).sum(2))
    apart = lines > 0
    return float(spearmanr(paths[apart], lines[apart]).statistic)
