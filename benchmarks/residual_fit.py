"""How long fitting takes: geodesic codes on 480,000 points, a residual code on 60,000 latents.

    python benchmarks/geodesic_fit.py                         # whitened PCA of MNIST, from GEOVQ_DATA
    python benchmarks/geodesic_fit.py --latents runs/mnist-first/latents/vae/0   # a VAE's posterior means

Writes benchmarks/geodesic_fit.json.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from geovq.data.idx import read_idx
from geovq.geometry import NeighborIndex, connect, knn_graph, multi_source
from geovq.pipeline.stages import machine
from geovq.quantizers import GeodesicQuantizer, KMeansQuantizer, ResidualQuantizer
from geovq.search import kmeans
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.artifact import load_artifact
from geovq.storage.atomic import write_json

OUT = Path(__file__).with_suffix(".json")
N_RUNS = 3
N_CODES, N_NEIGHBORS, DIM = 256, 15, 4
N_LEVELS, BEAM = 8, 16


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time the fitting of codebooks.")
    parser.add_argument(
        "--latents", type=Path, help="latents folder of a run: its training and validation means"
    )
    arguments = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    latents = posterior_means(arguments.latents) if arguments.latents else whitened_mnist()
    source = "posterior means of the VAE of mnist-first" if arguments.latents else "whitened PCA of MNIST"
    rows = [*geodesic_rows(latents.reshape(-1, DIM)), *residual_rows(latents)]
    for row in rows:
        print(f"{row['name']:70} {row['value']:10} {row['unit']}")
    names = ("numpy", "scipy", "scikit-learn", "faiss-cpu", "torch")
    content = {
        "schema": 1,
        "title": "Fitting codebooks",
        "about": (
            f"{len(latents):,} latents of {latents.shape[1]} dimensions ({source}), as "
            f"{latents.size // DIM:,} points of {DIM} for the geodesic codes; K = {N_CODES}, "
            f"{N_NEIGHBORS} neighbours. Seconds are the median of {N_RUNS}."
        ),
        "machine": machine(),
        "threads": threads,
        "versions": {name: version(name) for name in names},
        "command": "python benchmarks/geodesic_fit.py" + (" --latents DIR" if arguments.latents else ""),
        "rows": rows,
    }
    write_json(OUT, content)


def geodesic_rows(points: np.ndarray) -> list[dict[str, Any]]:
    """Seconds of the whole fit and of its stages, peak memory, and distortion beside that of k-means."""
    n = f"{len(points):,} x {DIM}"
    quantizer = GeodesicQuantizer(N_CODES, n_neighbors=N_NEIGHBORS, random_state=0)
    fit_seconds, _ = timed(lambda: quantizer.fit(points))
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    wide = points.astype(np.float64)
    neighbor_seconds, _ = timed(lambda: NeighborIndex(wide).others(N_NEIGHBORS))
    graph_seconds, graph = timed(lambda: knn_graph(wide, N_NEIGHBORS))
    connect_seconds, (graph, _) = timed(lambda: connect(graph, wide))
    start_seconds, _ = timed(lambda: kmeans(wide, N_CODES, seed=0))
    sources = np.random.default_rng(0).choice(len(points), N_CODES, replace=False)
    assign_seconds, _ = timed(lambda: multi_source(graph, sources))
    predict_seconds, _ = timed(lambda: quantizer.predict(points))
    euclidean = KMeansQuantizer(N_CODES, random_state=0).fit(points)
    return [
        row(f"GeodesicQuantizer.fit, {n}", fit_seconds, "s", 30),
        row("  peak memory of the process", peak_gb, "GB", 2),
        row("  neighbours", neighbor_seconds, "s"),
        row("  graph, neighbours included", graph_seconds, "s"),
        row("  components and bridges", connect_seconds, "s"),
        row("  k-means start", start_seconds, "s"),
        row("  one assignment by shortest paths", assign_seconds, "s"),
        row("  Lloyd iterations", len(quantizer.objectives_) - 1, ""),
        row("  objective, end over start", quantizer.objectives_[-1] / quantizer.objectives_[0], ""),
        row(f"GeodesicQuantizer.predict, {n}", predict_seconds, "s"),
        row("  squared error a point", -quantizer.score(points), ""),
        row("  squared error a point, Euclidean k-means", -euclidean.score(points), ""),
    ]


def residual_rows(latents: np.ndarray) -> list[dict[str, Any]]:
    """Seconds of fitting and coding with a beam, and what the beam gains."""
    n = f"{len(latents):,} x {latents.shape[1]}"
    quantizer = ResidualQuantizer(N_CODES, n_levels=N_LEVELS, random_state=0)
    fit_seconds, _ = timed(lambda: quantizer.fit(latents))
    quantizer.set_params(beam=BEAM)
    code_seconds, _ = timed(lambda: quantizer.predict(latents))
    error = -quantizer.score(latents)
    greedy_error = -quantizer.set_params(beam=1).fit(latents).score(latents)
    return [
        row(f"ResidualQuantizer.fit, {n}, {N_LEVELS} levels, beam 8", fit_seconds, "s"),
        row(f"ResidualQuantizer.predict, {n}, {N_LEVELS} levels, beam {BEAM}", code_seconds, "s"),
        row(f"  squared error a latent, beam 8 to fit and {BEAM} to code", error, ""),
        row("  squared error a latent, fitted and coded greedily", greedy_error, ""),
    ]


def posterior_means(folder: Path) -> np.ndarray:
    """Means (N, D) of the training and validation images in a run's stored latents."""
    _, latents = load_artifact(folder)
    return np.concatenate([latents["train.mean"], latents["validation.mean"]])


def whitened_mnist() -> np.ndarray:
    """The 60,000 training images of MNIST in 32 principal components of unit variance, float32."""
    folder = Path(os.environ.get("GEOVQ_DATA", "."))
    path = folder / "mnist" / "train-images-idx3-ubyte.gz"
    if not path.is_file():
        sys.exit(f"skipped: {path} not found; set GEOVQ_DATA to a folder with mnist/ or give --latents")
    images = read_idx(path, 3).reshape(-1, 784)
    # In blocks, so that the peak memory reported is that of the fit.
    blocks = [block.astype(np.float32) / 255 for block in np.array_split(images, 12)]
    mean = np.mean([block.mean(0) for block in blocks], axis=0)
    covariance = sum((block - mean).T @ (block - mean) for block in blocks) / len(images)
    variances, directions = np.linalg.eigh(covariance)
    projection = directions[:, -32:] / np.sqrt(variances[-32:])
    return np.concatenate([(block - mean) @ projection for block in blocks]).astype(np.float32)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Median seconds of several calls, and what the last returned."""
    seconds = []
    for _ in range(N_RUNS):
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), result


def row(name: str, value: float, unit: str, target: float | None = None) -> dict[str, Any]:
    """One figure, to four digits."""
    figure = {"name": name, "value": float(f"{value:.4g}"), "unit": unit}
    return figure if target is None else {**figure, "target": target}


if __name__ == "__main__":
    main()
