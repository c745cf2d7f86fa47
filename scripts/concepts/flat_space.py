"""What a neighbour graph says of space that is flat, and of latents beside it.

In flat space the geodesic between two points is the straight line. What a graph's paths say beyond that is
error of the graph; the same numbers of real latents mean something only where they differ from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse.csgraph import dijkstra
from scipy.stats import spearmanr

from geovq.geometry import DATA_EDGES, Latents, neighbor_graph
from geovq.seeding import numpy_generator
from geovq.storage.artifact import load_artifact

N_POINTS, N_NEIGHBORS = 20_000, 15
N_SOURCES, TARGETS_A_SOURCE = 100, 200
DIMENSIONS = (2, 4, 8, 16, 32, 64)
TOKEN_DIMENSION = 4
Row = dict[str, Any]


def flat_rows(seeds: int) -> Iterator[Row]:
    """Standard normal points in growing dimension."""
    for d in DIMENSIONS:
        for seed in range(seeds):
            points = numpy_generator(seed, "flat space").standard_normal((N_POINTS, d))
            yield {"cloud": "normal", "d": d, "seed": seed, **statistics(points, seed)}


def latent_rows(folder: Path, seeds: int) -> Iterator[Row]:
    """Stored latents of a VAE, whole and as tokens, each beside normal points of their covariance."""
    _, arrays = load_artifact(folder)
    whole = arrays["train.mean"].astype(np.float64)
    clouds = {"latents": whole, "tokens": whole.reshape(-1, TOKEN_DIMENSION)}
    for name, points in clouds.items():
        for seed in range(seeds):
            generator = numpy_generator(seed, f"sample of {name}")
            sample = points[generator.choice(len(points), N_POINTS, replace=False)]
            normal = like(points, N_POINTS, generator)
            d = points.shape[1]
            yield {"cloud": name, "d": d, "seed": seed, **statistics(sample, seed)}
            yield {"cloud": f"normal like {name}", "d": d, "seed": seed, **statistics(normal, seed)}


def statistics(points: np.ndarray, seed: int) -> dict[str, float]:
    """Paths of the k-NN graph of ``points (n, d)`` against straight lines, hubs and bridges.

    ``spearman`` and ``median_ratio`` are of path length and Euclidean distance over random pairs.
    """
    graph = neighbor_graph(Latents(points), N_NEIGHBORS, DATA_EDGES["euclidean"])
    generator = numpy_generator(seed, "pairs")
    sources = generator.choice(len(points), N_SOURCES, replace=False)
    targets = generator.integers(len(points), size=(N_SOURCES, TARGETS_A_SOURCE))
    paths = dijkstra(graph.lengths, directed=True, indices=sources)
    paths = np.take_along_axis(paths, targets, axis=1)
    lines = np.sqrt(np.square(points[sources][:, None] - points[targets]).sum(2))
    apart = lines > 0
    report = graph.report
    return {
        "spearman": float(spearmanr(paths[apart], lines[apart]).statistic),
        "median_ratio": float(np.median(paths[apart] / lines[apart])),
        "max_in_degree": report.max_in_degree,
        "antihubs": report.antihubs,
        "components": report.n_components,
        "bridges": report.n_bridges,
        "longest_bridge_over_median_edge": report.longest_bridge / report.median_length,
    }


def like(points: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Normal points (count, d) with the mean and covariance of ``points (n, d)``."""
    return generator.multivariate_normal(points.mean(0), np.cov(points.T), size=count, method="cholesky")
