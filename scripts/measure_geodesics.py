"""Measure what docs/concepts.md says of geodesic codes, and write results/concepts/*.json.

    python scripts/measure_geodesics.py flat --latents runs/mnist-first/latents/vae/0
    python scripts/measure_geodesics.py roll
    python scripts/measure_geodesics.py decoders --work runs/concepts
    python scripts/measure_geodesics.py map --work runs/concepts

One thread each. ``flat`` needs the latents of a run: ``geovq run mnist-first --stop-after latents``.
``decoders`` and ``map`` train VAEs on MNIST and keep them in --work.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from concepts import flat_space, latent_map, real_decoders, swiss_roll
from concepts.autoencoders import BETA, N_TRAINING, TRAIN, WIDTHS, encoded, mnist, trained
from concepts.measurement import THREADS, write_measurement

from geovq.config import to_json
from geovq.seeding import numpy_generator, set_threads

RESULTS = Path(__file__).resolve().parents[1] / "results" / "concepts"
SEEDS = 3
VAE_SETTINGS = {"n_images": N_TRAINING, "widths": WIDTHS, "beta": BETA, "train": to_json(TRAIN)}
COMMAND = "python scripts/measure_geodesics.py"


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description="Measure what docs/concepts.md says of geodesic codes.")
    measurements = parser.add_subparsers(dest="measurement", required=True)
    flat = measurements.add_parser("flat", help="graphs of flat space and of latents")
    flat.add_argument("--latents", type=Path, required=True, help="latents/vae/0 of a run of mnist-first")
    measurements.add_parser("roll", help="cells of a swiss roll")
    decoders = measurements.add_parser("decoders", help="codebooks behind trained decoders")
    plane = measurements.add_parser("map", help="codes in a latent space of two dimensions")
    for measurement in (decoders, plane):
        measurement.add_argument("--work", type=Path, required=True, help="folder for the trained VAEs")
    options = parser.parse_args()
    set_threads(THREADS)
    if options.measurement == "flat":
        measure_flat_space(options.latents)
    elif options.measurement == "roll":
        measure_swiss_roll()
    elif options.measurement == "decoders":
        measure_decoders(options.work)
    else:
        measure_latent_map(options.work)


def measure_flat_space(latents: Path) -> None:
    """Write flat-space.json."""
    write_measurement(
        RESULTS / "flat-space.json",
        [*shown(flat_space.flat_rows(SEEDS)), *shown(flat_space.latent_rows(latents, SEEDS))],
        about="Paths of k-NN graphs against straight lines: normal points in d dimensions, posterior means "
        "of the VAE of mnist-first (whole, and as tokens), and normal points of their covariance. Pairs "
        "are random; a seed draws points and pairs.",
        command=f"{COMMAND} flat --latents runs/mnist-first/latents/vae/0",
        n=flat_space.N_POINTS,
        n_neighbors=flat_space.N_NEIGHBORS,
        n_pairs=flat_space.N_SOURCES * flat_space.TARGETS_A_SOURCE,
        seeds=SEEDS,
    )


def measure_swiss_roll() -> None:
    """Write swiss-roll.json."""
    write_measurement(
        RESULTS / "swiss-roll.json",
        shown(swiss_roll.rows(SEEDS)),
        about="Cells of points spread evenly over a rolled-up sheet, judged on the sheet by as many held-out "
        "points; a seed draws both and starts the codes.",
        command=f"{COMMAND} roll",
        n=swiss_roll.N_POINTS,
        n_neighbors=swiss_roll.N_NEIGHBORS,
        seeds=SEEDS,
        picture=swiss_roll.picture(),
    )


def measure_decoders(work: Path) -> None:
    """Write real-decoders.json, anew after every VAE."""
    splits = mnist()
    rows: list[dict[str, Any]] = []
    for seed in range(SEEDS):
        test_rows = numpy_generator(seed, "test images").permutation(len(splits.test))
        for latent_dim in real_decoders.LATENT_DIMENSIONS:
            autoencoder = trained(splits, latent_dim, seed, work)
            fitted = encoded(autoencoder, splits.train, np.arange(real_decoders.N_FITTED))
            test = encoded(autoencoder, splits.test, test_rows[: real_decoders.N_TEST])
            found = real_decoders.rows(autoencoder, fitted, test, seed)
            rows += shown({"latent_dim": latent_dim, "seed": seed, **row} for row in found)
            write_measurement(
                RESULTS / "real-decoders.json",
                rows,
                about="One code an image behind VAEs of MNIST. decoded_error: mean squared pixel error "
                "against what the unquantized latent decodes to; mse: against the image; class_nmi: "
                "normalized mutual information of codes and classes. All on test images that nothing was "
                "chosen on; a seed trains the VAE, draws the test images and starts the codes.",
                command=f"{COMMAND} decoders --work runs/concepts",
                n_fitted=real_decoders.N_FITTED,
                n_test=real_decoders.N_TEST,
                n_neighbors=real_decoders.N_NEIGHBORS,
                seeds=SEEDS,
                vae=VAE_SETTINGS,
            )


def measure_latent_map(work: Path) -> None:
    """Write latent-map.json."""
    splits = mnist()
    autoencoder = trained(splits, 2, 0, work)
    fitted = encoded(autoencoder, splits.train, np.arange(real_decoders.N_FITTED))
    write_measurement(
        RESULTS / "latent-map.json",
        latent_map.points(autoencoder, fitted),
        about="Latents of the VAE with 2 dimensions, seed 0. stretch: the root of det J'J of the decoder, by "
        "which it enlarges a small area there. codes: of Euclidean k-means and of pull-back geodesics.",
        command=f"{COMMAND} map --work runs/concepts",
        n_fitted=real_decoders.N_FITTED,
        n_neighbors=real_decoders.N_NEIGHBORS,
        codes=latent_map.codes(autoencoder, fitted, 0),
        vae=VAE_SETTINGS,
    )


def shown(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows, printed as they come."""
    for row in rows:
        print(row, flush=True)
        yield row


if __name__ == "__main__":
    main()
