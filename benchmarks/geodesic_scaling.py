"""How time and memory of a geodesic fit grow with the number of points.

    GEOVQ_DATA=... python benchmarks/geodesic_scaling.py [--tokens tokens.npy]

Tokens of a grid VAE (7x7 sites of 4 dimensions an MNIST image) that is trained first for a few epochs, or
taken from a file that an earlier call wrote. Writes benchmarks/geodesic_scaling.json.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from geovq.config import DataConfig, TrainConfig
from geovq.data import chunks_of, load
from geovq.models.cut import cut
from geovq.models.vae import VAE
from geovq.quantizers import GeodesicQuantizer
from geovq.seeding import seeded_weights, set_threads, threads_wanted
from geovq.tokenizer.autoencoder import Autoencoder
from geovq.training import ImageSource, fit
from measuring import row, write_figures

OUT = Path(__file__).with_suffix(".json")
SIZES = (60_000, 480_000, 2_940_000)
N_RUNS = {60_000: 5, 480_000: 5, 2_940_000: 5}
N_CODES, N_NEIGHBORS = 256, 15


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time and memory of a geodesic fit by number of points.")
    parser.add_argument("--tokens", type=Path, default=Path("grid-tokens.npy"), help="written if missing")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    if arguments.rows:
        fit_once(arguments.tokens, arguments.rows)
        return
    if not arguments.tokens.exists():
        np.save(arguments.tokens, grid_tokens())
    rows, seconds, peaks = [], {}, {}
    for n in SIZES:
        runs = [child(arguments.tokens, n) for _ in range(N_RUNS[n])]
        seconds[n] = statistics.median(run["seconds"] for run in runs)
        peaks[n] = max(run["peak_kb"] for run in runs)
        rows += [
            row(f"fit of {n:,} tokens, median of {len(runs)}", seconds[n], "s"),
            row("  peak memory of the process", peaks[n] / 1e6, "GB"),
            row("  distinct tokens", runs[0]["nodes"], ""),
        ]
    small, middle, large = SIZES
    exponent = math.log(seconds[large] / seconds[small]) / math.log(large / small)
    upper = math.log(seconds[large] / seconds[middle]) / math.log(large / middle)
    rows += [
        row(f"time exponent, {small:,} to {large:,}", exponent, "", 1.25),
        row(f"time exponent, {middle:,} to {large:,}", upper, "", 1.25),
        row("memory a point beyond 480,000", (peaks[large] - peaks[middle]) / (large - middle), "KB", 1.5),
    ]
    write_figures(
        OUT,
        title="Geodesic codes from 60,000 to 2,940,000 points",
        about=(
            f"The first tokens of 60,000 MNIST images under one grid VAE (7x7 sites of 4 dimensions); "
            f"K = {N_CODES}, {N_NEIGHBORS} neighbours, Euclidean edges. Each fit in a process of its own."
        ),
        command="python benchmarks/geodesic_scaling.py",
        threads=threads,
        rows=rows,
    )


def child(tokens: Path, n: int) -> dict[str, float]:
    """One fit in a fresh process."""
    command = [sys.executable, __file__, "--tokens", str(tokens), "--rows", str(n)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def fit_once(tokens: Path, n: int) -> None:
    """Print seconds and peak memory of fitting the first ``n`` tokens."""
    points = np.load(tokens, mmap_mode="r")[:n].copy()
    began = time.perf_counter()
    quantizer = GeodesicQuantizer(N_CODES, n_neighbors=N_NEIGHBORS, random_state=0).fit(points)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_kb": peak, "nodes": len(quantizer.nodes_)}))


def grid_tokens() -> np.ndarray:
    """Posterior means (60,000 * 49, 4), float32, of MNIST under a grid VAE of 32-64 channels."""
    splits = load(DataConfig("mnist"))
    with seeded_weights(0, "grid VAE"):
        model = VAE(splits.image_shape, latent_dim=4, widths=(32, 64), spatial=True)
    train = TrainConfig(epochs=3, batch_size=128, learning_rate=2e-3)
    fit(model, ImageSource(splits.train), ImageSource(splits.validation), train, seed=0)
    autoencoder = Autoencoder(model.encoder, model.decoder, splits.image_shape)
    tokens = [
        cut(torch.from_numpy(autoencoder.posterior(images.images(rows))[0]), (7, 7)).flatten(0, 1).numpy()
        for images in (splits.train, splits.validation)
        for rows in chunks_of(images)
    ]
    return np.concatenate(tokens)


if __name__ == "__main__":
    main()
