"""How fast a beam finds residual codes, and what its width gains.

    geovq run mnist-first --stop-after latents --out RUN
    python benchmarks/beam_encoding.py --latents RUN/latents/vae/0

Writes benchmarks/beam_encoding.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from geovq.quantizers import ResidualQuantizer
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.artifact import load_artifact
from measuring import row, timed_in_turn, write_figures

OUT = Path(__file__).with_suffix(".json")
N_RUNS = 5
N_CODES, N_LEVELS, BEAM = 256, 8, 16
BEAMS = (1, 4, 8, 16, 32, 64)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time the finding of residual codes.")
    parser.add_argument("--latents", type=Path, required=True, help="latents folder of a mnist-first run")
    arguments = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    _, latents = load_artifact(arguments.latents)
    train, validation = latents["train.mean"], latents["validation.mean"]
    fitted = ResidualQuantizer(N_CODES, n_levels=N_LEVELS, beam=BEAM, random_state=0).fit(train)
    seconds, errors = timed_in_turn([lambda b=beam: coded(fitted, b, validation) for beam in BEAMS], N_RUNS)
    rows = []
    for beam, spent, error in zip(BEAMS, seconds, errors, strict=True):
        target = 2000 if beam == BEAM else None
        rows += [
            row(f"beam {beam}", len(validation) / spent, "images/s", target),
            row("  squared error a latent", error, ""),
        ]
    n = f"{len(validation):,} x {validation.shape[1]}"
    write_figures(
        OUT,
        title="Beam coding of residual codes",
        about=(
            f"{n}: posterior means of the validation images, VAE of mnist-first, one residual code an image: "
            f"{N_LEVELS} levels of {N_CODES}, fitted with beam {BEAM} on the training images' means. Medians "
            f"of {N_RUNS}, the beams in turn."
        ),
        command="python benchmarks/beam_encoding.py --latents RUN/latents/vae/0",
        threads=threads,
        rows=rows,
    )


def coded(quantizer: ResidualQuantizer, beam: int, points: np.ndarray) -> float:
    """Mean squared error of points as a beam of some width codes them."""
    return -quantizer.set_params(beam=beam).score(points)


if __name__ == "__main__":
    main()
