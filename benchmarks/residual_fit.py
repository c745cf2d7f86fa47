"""How long a residual code takes to fit and to find, and what refining its levels together gains.

    geovq run mnist-post-hoc --stop-after latents --out RUN
    python benchmarks/residual_fit.py --latents RUN/latents/vae/0

Writes benchmarks/residual_fit.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geovq.quantizers import ResidualQuantizer
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.artifact import load_artifact
from measuring import row, timed, timed_in_turn, write_figures

OUT = Path(__file__).with_suffix(".json")
N_RUNS = 3
N_CODES, N_LEVELS, BEAM = 256, 8, 16
REFINEMENTS = (0, 1, 3, 5, 10)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time the fitting of residual codes.")
    parser.add_argument("--latents", type=Path, required=True, help="latents folder of a mnist-post-hoc run")
    arguments = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    _, latents = load_artifact(arguments.latents)
    train, validation = latents["train.mean"], latents["validation.mean"]
    quantizers = [
        ResidualQuantizer(N_CODES, n_levels=N_LEVELS, beam=BEAM, n_refinements=n, random_state=0)
        for n in REFINEMENTS
    ]
    seconds, _ = timed_in_turn([lambda q=quantizer: q.fit(train) for quantizer in quantizers], N_RUNS)
    code_seconds, _ = timed(lambda: quantizers[-1].predict(train), N_RUNS)
    greedy = ResidualQuantizer(N_CODES, n_levels=N_LEVELS, beam=1, n_refinements=0, random_state=0).fit(train)
    rows = []
    for quantizer, spent in zip(quantizers, seconds, strict=True):
        rows += [
            row(f"ResidualQuantizer.fit, beam {BEAM}, n_refinements={quantizer.n_refinements}", spent, "s"),
            row("  squared error a training latent", -quantizer.score(train), ""),
            row("  squared error a validation latent", -quantizer.score(validation), ""),
        ]
    write_figures(
        OUT,
        title="Residual codes",
        about=(
            f"{len(train):,} x {train.shape[1]}: posterior means of the training images, VAE of "
            f"mnist-post-hoc; one code of {N_LEVELS} levels of {N_CODES} an image. {len(validation):,} "
            f"validation images were not fitted. Seconds are medians of {N_RUNS}, the fits in turn."
        ),
        command="python benchmarks/residual_fit.py --latents RUN/latents/vae/0",
        threads=threads,
        rows=[
            *rows,
            row(f"ResidualQuantizer.predict of the training latents, beam {BEAM}", code_seconds, "s"),
            row(
                "squared error a validation latent, fitted and coded greedily", -greedy.score(validation), ""
            ),
        ],
    )


if __name__ == "__main__":
    main()
