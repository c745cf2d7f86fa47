"""How near GeodesicQuantizer comes to the best k-medoids that FasterPAM finds in the matrix of all pairs.

    pip install kmedoids
    geovq run mnist-first --stop-after latents --out RUN
    python benchmarks/kmedoids_objective.py --latents RUN/latents/vae/0

The objective is the mean path length from every point to its nearest medoid (power 1, what FasterPAM
minimises), always taken from the exact matrix. Writes benchmarks/kmedoids_objective.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse.csgraph import shortest_path
from sklearn.datasets import make_swiss_roll

from geovq.geometry import Latents, NeighborIndex, faster_pam, neighbor_graph, snap_to_points
from geovq.quantizers import GeodesicQuantizer, KMeansQuantizer, KMedoidsQuantizer
from geovq.search import distinct_rows
from geovq.seeding import set_threads, threads_wanted
from measuring import posterior_means, row, timed, write_figures

try:
    from kmedoids import fasterpam
except ImportError:
    sys.exit("the reference needs the package kmedoids: pip install kmedoids")

OUT = Path(__file__).with_suffix(".json")
N_POINTS, N_CODES, N_NEIGHBORS, DIM = 5000, 64, 15, 4
SEEDS = range(5)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Geodesic k-medoids beside FasterPAM on all pairs.")
    parser.add_argument("--latents", type=Path, required=True, help="latents folder of a mnist-first run")
    arguments = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    rows = [
        figure for name, points in data(arguments.latents) for figure in objective_rows(name, points, threads)
    ]
    write_figures(
        OUT,
        title="The k-medoids objective on graphs",
        about=(
            f"{N_POINTS:,} points, K = {N_CODES}, {N_NEIGHBORS} neighbours, Euclidean edges: the first "
            "distinct tokens of 4 of the posterior means of the VAE of mnist-first, 4 standard normal "
            "dimensions, and a swiss roll in 3. Objectives are mean path lengths to the nearest medoid "
            "(power 1) on the exact matrix of all pairs; both quantizers are polished. Medians over "
            f"{len(SEEDS)} seeds; FasterPAM (package kmedoids) starts from as many random sets."
        ),
        command="python benchmarks/kmedoids_objective.py --latents RUN/latents/vae/0",
        threads=threads,
        rows=rows,
    )


def data(latents: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and points (n, d)."""
    tokens = posterior_means(latents).reshape(-1, DIM)
    first, _ = distinct_rows(tokens)
    yield "MNIST tokens", tokens[first[:N_POINTS]]
    yield "normal", np.random.default_rng(0).normal(size=(N_POINTS, DIM))
    yield "swiss roll", make_swiss_roll(N_POINTS, random_state=0)[0]


def objective_rows(name: str, points: np.ndarray, threads: int) -> list[dict[str, Any]]:
    """Objectives over that of FasterPAM, and seconds of both sides."""
    graph_seconds, graph = timed(lambda: neighbor_graph(Latents(points), N_NEIGHBORS).lengths, 1)
    pairs_seconds, distances = timed(lambda: shortest_path(graph, method="D"), 1)
    reference = Side(distances, lambda seed: theirs(distances, seed, threads))
    searches = Side(distances, lambda seed: faster_pam(distances, N_CODES, seed).medoids)
    geodesic = Side(distances, lambda seed: fitted_medoids(points, GeodesicQuantizer, seed))
    euclidean = Side(distances, lambda seed: fitted_medoids(points, KMedoidsQuantizer, seed))
    snapped = Side(distances, lambda seed: moved_means(points, seed))
    best = min(reference.objectives)
    over_snapped = max(
        ours / start for ours, start in zip(geodesic.objectives, snapped.objectives, strict=True)
    )
    reference_seconds = graph_seconds + pairs_seconds + len(SEEDS) * reference.seconds
    return [
        row(f"{name}: GeodesicQuantizer over FasterPAM's best", geodesic.median / best, "", 1.03),
        row("  its worst seed over FasterPAM's best", max(geodesic.objectives) / best, ""),
        row("  its worst seed over Euclidean k-means moved to points", over_snapped, "", 1),
        row("  Euclidean k-means moved to points over FasterPAM's best", snapped.median / best, ""),
        row("  KMedoidsQuantizer over FasterPAM's best", euclidean.median / best, ""),
        row("  a median start of FasterPAM over its best", reference.median / best, ""),
        row("  a median start of geovq's faster_pam over that best", searches.median / best, ""),
        row("  GeodesicQuantizer.fit, graph and all pairs included", geodesic.seconds, "s"),
        row(f"  FasterPAM, graph, all pairs and {len(SEEDS)} starts", reference_seconds, "s"),
        row("  FasterPAM, one start on the matrix", reference.seconds, "s"),
        row("  geovq's faster_pam, one start on the matrix", searches.seconds, "s"),
    ]


class Side:
    """One way to find medoids, over all seeds: objectives on the exact matrix, and median seconds."""

    def __init__(self, distances: np.ndarray, medoids: Callable[[int], np.ndarray]) -> None:
        runs = [timed(lambda seed=seed: medoids(seed), 1) for seed in SEEDS]
        self.objectives = [float(distances[found].min(0).mean()) for _, found in runs]
        self.median = statistics.median(self.objectives)
        self.seconds = statistics.median(seconds for seconds, _ in runs)


def theirs(distances: np.ndarray, seed: int, threads: int) -> np.ndarray:
    """Medoids (K,) that FasterPAM of the package kmedoids finds from a random start."""
    return fasterpam(distances, N_CODES, random_state=seed, n_cpu=threads).medoids.astype(np.int64)


def fitted_medoids(
    points: np.ndarray, quantizer: type[GeodesicQuantizer] | type[KMedoidsQuantizer], seed: int
) -> np.ndarray:
    """Medoids (K,) of a polished quantizer: its codes are distinct rows of ``points``."""
    fitted = quantizer(N_CODES, power=1, polish=True, random_state=seed).fit(points)
    return NeighborIndex(points).query(fitted.codebook_, 1)[:, 0]


def moved_means(points: np.ndarray, seed: int) -> np.ndarray:
    """The points (K,) nearest to the means of Euclidean k-means."""
    quantizer = KMeansQuantizer(N_CODES, random_state=seed).fit(points)
    return snap_to_points(points, quantizer.codebook_, quantizer.predict(points))


if __name__ == "__main__":
    main()
