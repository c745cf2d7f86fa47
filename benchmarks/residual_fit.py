"""How long a residual code takes to fit and to find on 60,000 latents, and what its beam gains.

    geovq run mnist-first --stop-after latents --out RUN
    python benchmarks/residual_fit.py --latents RUN/latents/vae/0

Writes benchmarks/residual_fit.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geovq.quantizers import ResidualQuantizer
from geovq.seeding import set_threads, threads_wanted
from measuring import posterior_means, row, timed, write_figures

OUT = Path(__file__).with_suffix(".json")
N_RUNS = 5
N_CODES, N_LEVELS, BEAM = 256, 8, 16


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time the fitting of residual codes.")
    parser.add_argument("--latents", type=Path, required=True, help="latents folder of a mnist-first run")
    arguments = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    latents = posterior_means(arguments.latents)
    n = f"{len(latents):,} x {latents.shape[1]}"
    quantizer = ResidualQuantizer(N_CODES, n_levels=N_LEVELS, random_state=0)
    fit_seconds, _ = timed(lambda: quantizer.fit(latents), N_RUNS)
    quantizer.set_params(beam=BEAM)
    code_seconds, _ = timed(lambda: quantizer.predict(latents), N_RUNS)
    error = -quantizer.score(latents)
    greedy_error = -quantizer.set_params(beam=1).fit(latents).score(latents)
    write_figures(
        OUT,
        title="Residual codes",
        about=(
            f"{n}: posterior means of the VAE of mnist-first, training and validation images; "
            f"{N_LEVELS} levels of {N_CODES}. Seconds are medians of {N_RUNS}."
        ),
        command="python benchmarks/residual_fit.py --latents RUN/latents/vae/0",
        threads=threads,
        rows=[
            row(f"ResidualQuantizer.fit, {n}, {N_LEVELS} levels, beam 8", fit_seconds, "s"),
            row(f"ResidualQuantizer.predict, {n}, {N_LEVELS} levels, beam {BEAM}", code_seconds, "s"),
            row(f"  squared error a latent, beam 8 to fit and {BEAM} to code", error, ""),
            row("  squared error a latent, fitted and coded greedily", greedy_error, ""),
        ],
    )


if __name__ == "__main__":
    main()
