"""How fast a beam finds residual codes, with and without the encoder, and what its width gains.

    geovq run mnist-post-hoc --stop-after latents --out RUN
    python benchmarks/beam_encoding.py --run RUN

Writes benchmarks/beam_encoding.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from after_the_fact import trained_vae
from geovq.quantizers import ResidualQuantizer
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.artifact import load_artifact
from geovq.tokenizer import LatentTokenizer
from measuring import row, timed_in_turn, write_figures

OUT = Path(__file__).with_suffix(".json")
N_RUNS = 5
N_CODES, N_LEVELS, BEAM = 256, 8, 16
BEAMS = (1, 4, 8, 16, 32, 64)
TARGET = 2000


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time the finding of residual codes.")
    parser.add_argument("--run", type=Path, required=True, help="folder of a mnist-post-hoc run")
    arguments = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    model, splits = trained_vae(arguments.run, 0)
    _, latents = load_artifact(arguments.run / "latents/vae/0")
    train, validation, sigma = (
        latents[name] for name in ("train.mean", "validation.mean", "validation.sigma")
    )
    images = splits.validation.images(slice(None))
    fitted = ResidualQuantizer(N_CODES, n_levels=N_LEVELS, beam=BEAM, random_state=0).fit(train)
    tokenizer = LatentTokenizer(
        model.encoder,
        model.decoder,
        fitted.as_module(),
        image_shape=splits.image_shape,
        latent_shape=model.latent_shape,
        tokens=(1, 1),
    )
    (of_images, of_latents), _ = timed_in_turn(
        [lambda: tokenizer.encode(images), lambda: tokenizer.encode_latents(validation, sigma)], N_RUNS
    )
    seconds, errors = timed_in_turn([lambda b=beam: coded(fitted, b, validation) for beam in BEAMS], N_RUNS)
    rows = [
        row(f"LatentTokenizer.encode, beam {BEAM}", len(images) / of_images, "images/s", TARGET),
        row("  without the encoder network", len(images) / of_latents, "images/s", TARGET),
    ]
    for beam, spent, error in zip(BEAMS, seconds, errors, strict=True):
        rows += [
            row(f"ResidualQuantizer.score, beam {beam}", len(validation) / spent, "latents/s"),
            row("  squared error a latent", error, ""),
        ]
    n = f"{len(validation):,} x {validation.shape[1]}"
    write_figures(
        OUT,
        title="Beam coding of residual codes",
        about=(
            f"{n}: posterior means of the validation images, VAE of mnist-post-hoc, one residual code an "
            f"image: {N_LEVELS} levels of {N_CODES}, fitted with beam {BEAM} on the training images' means. "
            f"Medians of {N_RUNS}, the two ways and the beams in turn."
        ),
        command="python benchmarks/beam_encoding.py --run RUN",
        threads=threads,
        rows=rows,
    )


def coded(quantizer: ResidualQuantizer, beam: int, points: np.ndarray) -> float:
    """Mean squared error of points as a beam of some width codes them."""
    return -quantizer.set_params(beam=beam).score(points)


if __name__ == "__main__":
    main()
