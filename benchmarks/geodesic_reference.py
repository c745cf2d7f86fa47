"""Geodesic codes on 480,000 latents, beside the usual way on a subsample of 16,000 of them.

    geovq run mnist-first --stop-after latents --out RUN
    pip install kmedoids
    python benchmarks/geodesic_reference.py --latents RUN/latents/vae/0

The usual way is a k-NN graph, all pairs of shortest paths and FasterPAM on their matrix. Both codebooks are
judged by the mean squared geodesic distance of all 480,000 points on one graph. Writes
benchmarks/geodesic_reference.json.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.sparse.csgraph import shortest_path
from sklearn.neighbors import kneighbors_graph

from geovq.geometry import Latents, NeighborIndex, connect, knn_graph, multi_source
from geovq.quantizers import GeodesicQuantizer, KMeansQuantizer
from geovq.search import kmeans
from geovq.seeding import set_threads, threads_wanted
from measuring import posterior_means, row, timed, timed_in_turn, write_figures

OUT = Path(__file__).with_suffix(".json")
N_CODES, N_NEIGHBORS, DIM, SUBSAMPLE = 256, 15, 4, 16_000
N_RUNS = 5


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Geodesic codes of all latents beside the usual way.")
    parser.add_argument("--latents", type=Path, required=True, help="latents folder of a mnist-first run")
    parser.add_argument("--only", choices=("ours", "reference"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    points = posterior_means(arguments.latents).reshape(-1, DIM)
    if arguments.only:
        ours(points) if arguments.only == "ours" else reference(points)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
        return
    peaks = {side: peak_gb(arguments.latents, side) for side in ("ours", "reference")}
    (fit_seconds, graph_seconds), (quantizer, graph) = timed_in_turn(
        [lambda: ours(points), lambda: knn_graph(Latents(points), N_NEIGHBORS)], N_RUNS
    )
    reference_seconds, medoids = timed(lambda: reference(points), N_RUNS)
    graph, _ = connect(graph, Latents(points))
    ours_error = mean_square(graph, rows_of(points, quantizer.codebook_))
    reference_error = mean_square(graph, medoids)
    euclidean = KMeansQuantizer(N_CODES, random_state=0).fit(points)
    (neighbor_seconds, start_seconds, assign_seconds, predict_seconds), _ = timed_in_turn(
        [
            lambda: NeighborIndex(points).others(N_NEIGHBORS),
            lambda: kmeans(points, N_CODES, seed=0),
            lambda: multi_source(graph, medoids),
            lambda: quantizer.predict(points),
        ],
        N_RUNS,
    )
    n = f"{len(points):,} x {DIM}"
    rows = [
        row(f"GeodesicQuantizer.fit, {n}", fit_seconds, "s"),
        row(f"  its k-NN graph alone, {n}", graph_seconds, "s"),
        row("  fit over graph", fit_seconds / graph_seconds, "x", 3),
        row("  its neighbours alone", neighbor_seconds, "s"),
        row("  its k-means start alone", start_seconds, "s"),
        row("  one assignment by shortest paths", assign_seconds, "s"),
        row(f"k-NN, all pairs, FasterPAM on {SUBSAMPLE:,}", reference_seconds, "s"),
        row("  how many times faster the fit on all points is", reference_seconds / fit_seconds, "x", 10),
        row("  peak memory of GeodesicQuantizer", peaks["ours"], "GB"),
        row("  peak memory of the usual way", peaks["reference"], "GB"),
        row("mean squared geodesic distance of all points, GeodesicQuantizer", ours_error, ""),
        row("  the usual way", reference_error, ""),
        row("  the first over the second", ours_error / reference_error, "", 1),
        row("iterations of GeodesicQuantizer", len(quantizer.objectives_) - 1, ""),
        row("objective, end over start", quantizer.objectives_[-1] / quantizer.objectives_[0], ""),
        row("GeodesicQuantizer.predict of all points", predict_seconds, "s"),
        row(
            "points whose nearest code is not the code at the end of their path",
            quantizer.nearest_disagreement_,
            "",
        ),
        row("squared error a point, GeodesicQuantizer", -quantizer.score(points), ""),
        row("squared error a point, Euclidean k-means", -euclidean.score(points), ""),
        *[row(f"graph: {name}", value, "") for name, value in quantizer.graph_report_.items()],
    ]
    write_figures(
        OUT,
        title="Geodesic codes beside the usual way",
        about=(
            f"{len(points) * DIM // 32:,} posterior means (32 dimensions) of the VAE of mnist-first as "
            f"{len(points):,} points of {DIM}, K = {N_CODES}, {N_NEIGHBORS} neighbours, Euclidean edges; "
            f"seconds are medians of {N_RUNS}. Training and validation images, for timing only."
        ),
        command="python benchmarks/geodesic_reference.py --latents RUN/latents/vae/0",
        threads=threads,
        rows=rows,
    )


def ours(points: np.ndarray) -> GeodesicQuantizer:
    """A codebook from all points."""
    return GeodesicQuantizer(N_CODES, n_neighbors=N_NEIGHBORS, random_state=0).fit(points)


def reference(points: np.ndarray) -> np.ndarray:
    """Medoids (K,), rows of ``points``, the usual way."""
    try:
        from kmedoids import fasterpam
    except ImportError:
        sys.exit("the usual way needs the package kmedoids: pip install kmedoids")
    rows = np.random.default_rng(0).choice(len(points), SUBSAMPLE, replace=False)
    graph = kneighbors_graph(points[rows], N_NEIGHBORS, mode="distance", n_jobs=-1)
    paths = shortest_path(graph, method="D", directed=False)
    unreachable = np.isinf(paths)
    paths[unreachable] = 1.1 * paths[~unreachable].max()
    return rows[fasterpam(paths, N_CODES, random_state=0).medoids.astype(np.int64)]


def mean_square(graph, medoids: np.ndarray) -> float:
    """Mean squared path length from every node to its nearest medoid."""
    return float(np.square(multi_source(graph, medoids)[0]).mean())


def rows_of(points: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Where the rows of ``codebook`` are in ``points``."""
    return NeighborIndex(points).query(codebook, 1)[:, 0]


def peak_gb(latents: Path, side: str) -> float:
    """Peak memory of one side in a process of its own."""
    command = [sys.executable, __file__, "--latents", str(latents), "--only", side]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
