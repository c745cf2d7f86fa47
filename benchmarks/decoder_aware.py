"""What it costs to choose codes by what the decoder makes of them, and what that gains.

    geovq run mnist-post-hoc --stop-after tokenizers --out RUN
    python benchmarks/decoder_aware.py --run RUN

Writes benchmarks/decoder_aware.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from geovq.config import AwareConfig, RunConfig, from_json
from geovq.data import load
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.artifact import read_json
from geovq.tokenizer import LatentTokenizer
from measuring import row, timed_in_turn, write_figures

OUT = Path(__file__).with_suffix(".json")
N_RUNS = 3
N_IMAGES = 1_000
TOKENIZERS = {"kmeans": "k-means, 8 tokens of 4", "residual": "residual, 1 token of 32 in 8 levels"}
WAYS = (
    AwareConfig("image", n_candidates=4, sweeps=2),
    AwareConfig("image", n_candidates=4, sweeps=1),
    AwareConfig("metric", n_candidates=4, sweeps=2),
)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time decoder-aware encoding.")
    parser.add_argument("--run", type=Path, required=True, help="folder of a mnist-post-hoc run")
    arguments = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    tokenizers = {words: trained_tokenizer(arguments.run, arm) for arm, words in TOKENIZERS.items()}
    images = first_test_images(arguments.run)
    rows = []
    for words, tokenizer in tokenizers.items():
        rows += costs(tokenizer, words, images)
    write_figures(
        OUT,
        title="Decoder-aware encoding",
        about=(
            f"The first {len(images):,} test images, VAE of mnist-post-hoc, 64 bits an image, decoder not "
            "tuned. Encoding starts from posterior means; what choosing codes again takes is that of "
            f"encoding with it, less that of encoding without. Medians of {N_RUNS}, all ways of a tokenizer "
            "in turn."
        ),
        command="python benchmarks/decoder_aware.py --run RUN",
        threads=threads,
        rows=rows,
    )


def costs(tokenizer: LatentTokenizer, words: str, images: np.ndarray) -> list[dict[str, Any]]:
    """Milliseconds an image and decoded error of every way, after those of the quantizer's own codes."""
    mean, sigma = tokenizer.posterior(images)
    tokenizers = [tokenizer, *(tokenizer.changed(aware=way) for way in WAYS)]
    (plain, *aware), codes = timed_in_turn(
        [lambda each=each: each.encode_latents(mean, sigma, images) for each in tokenizers], N_RUNS
    )
    errors = [float(np.square(tokenizer.decode(each) - images).mean()) for each in codes]
    rows = [
        row(f"{words}: its own codes", 1e3 * plain / len(images), "ms/image"),
        row("  test MSE", errors[0], ""),
    ]
    for way, spent, error in zip(WAYS, aware, errors[1:], strict=True):
        name = f"by the {way.by}, {way.n_candidates} candidates, sweeps: {way.sweeps}"
        rows += [
            row(f"  chosen again {name}", 1e3 * (spent - plain) / len(images), "ms/image"),
            row("    test MSE", error, ""),
        ]
    return rows


def first_test_images(run: Path) -> np.ndarray:
    """The first test images (n, C, H, W) of the data that the run is on."""
    config = from_json(RunConfig, read_json(run / "config.json"))
    return load(config.data).test.images(slice(0, N_IMAGES))


def trained_tokenizer(run: Path, arm: str) -> LatentTokenizer:
    """The tokenizer of one of the run's arms."""
    folder = run / f"tokenizers/{arm}/64/0"
    if not folder.is_dir():
        sys.exit(
            f"{folder} not found; run `geovq run mnist-post-hoc --stop-after tokenizers` and give its folder"
        )
    return LatentTokenizer.from_pretrained(folder)


if __name__ == "__main__":
    main()
