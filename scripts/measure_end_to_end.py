"""What can be had from a trained layer after its training: beams and tunings, on validation images.

    geovq run mnist-layers --out RUN
    python scripts/measure_end_to_end.py RUN [--arms residual ema]

Writes results/choices/end-to-end.json: validation MSE of one seed. Arms that are not named keep their rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from geovq.config import DataConfig, TuneConfig, to_json
from geovq.data import ImageSet, chunks_of, load
from geovq.pipeline.stages import machine
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.artifact import read_json
from geovq.storage.atomic import write_json
from geovq.tokenizer import LatentTokenizer
from geovq.tokenizer.finetune import finetune
from geovq.vq import ResidualVQ

OUT = Path(__file__).resolve().parents[1] / "results" / "choices" / "end-to-end.json"
BEAMS = (1, 4, 16, 64)
TUNINGS = {
    "decoder, squared error": TuneConfig(epochs=3, learning_rate=1e-3, parts="decoder"),
    "decoder, cross-entropy": TuneConfig(epochs=3, learning_rate=1e-3, parts="decoder", loss="bce"),
    "decoder and codebook": TuneConfig(epochs=3, learning_rate=1e-3, parts="decoder+codebook"),
    "encoder, codebook and decoder": TuneConfig(epochs=3, learning_rate=3e-4, parts="all"),
}


def main() -> None:
    """Measure the named arms and write after every row."""
    parser = argparse.ArgumentParser(description="Measure beams and tunings of trained layers.")
    parser.add_argument("run", type=Path, help="folder of a mnist-layers run")
    parser.add_argument("--arms", nargs="+", default=["residual", "ema"])
    options = parser.parse_args()
    set_threads(threads_wanted())
    rows: list[dict[str, Any]] = read_json(OUT)["rows"] if OUT.exists() else []
    rows = [row for row in rows if row["arm"] not in options.arms]
    for arm in options.arms:
        tokenizer = LatentTokenizer.from_pretrained(options.run / "tokenizers" / arm / "64" / "0")
        for row in measured(tokenizer):
            rows.append({"arm": arm, **row})
            print(rows[-1], flush=True)
            write(rows)


def measured(tokenizer: LatentTokenizer) -> Iterator[dict[str, Any]]:
    """Rows of one trained arm."""
    splits = load(DataConfig("mnist"))
    yield {"remedy": "none", "validation_mse": mse(tokenizer, splits.validation)}
    if isinstance(tokenizer.quantizer, ResidualVQ):
        own = tokenizer.quantizer.beam
        for beam in BEAMS:
            tokenizer.quantizer.beam = beam
            yield {"remedy": f"beam {beam}", "validation_mse": mse(tokenizer, splits.validation)}
        tokenizer.quantizer.beam = own
    for name, config in TUNINGS.items():
        tuned, result = finetune(tokenizer, splits.train, splits.validation, config, seed=0)
        yield {
            "remedy": name,
            "validation_mse": mse(tuned, splits.validation),
            "best_epoch": result.best_epoch,
            "tuning": to_json(config),
        }


def mse(tokenizer: LatentTokenizer, images: ImageSet) -> float:
    """Mean squared error over all pixels."""
    errors = []
    for rows in chunks_of(images):
        part = images.images(rows)
        errors.append(np.square(tokenizer.reconstruct(part) - part, dtype=np.float64))
    return float(np.concatenate(errors).mean())


def write(rows: list[dict[str, Any]]) -> None:
    """Write the rows."""
    write_json(OUT, {
        "schema": 1,
        "about": "Validation MSE of trained layers of mnist-layers (6 epochs, 64 bits), n = 5,000, seed 0, "
        "as trained and after further tuning on all 55,000 training images.",
        "command": "python scripts/measure_end_to_end.py RUN",
        "machine": machine(),
        "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
