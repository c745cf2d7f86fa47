"""Choose the beta of `mnist-first`'s VAE and the commitment weight of its VQ-VAE on validation images.

    python scripts/choose_mnist_first.py --out runs/choices

Three values on each side, fewer epochs than the recipe's, seed 0; only validation errors are read, though the
runs store test errors too. Writes results/choices/mnist-first.json. Variants in --out are not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geovq.config import RunConfig, from_json, to_json, with_overrides
from geovq.evaluation.records import read_metrics
from geovq.pipeline.run import run_recipe
from geovq.pipeline.stages import machine
from geovq.recipes import recipe
from geovq.storage.atomic import write_json

EPOCHS, TUNE_EPOCHS = 5, 1
VARIANTS = [
    *[("residual", f"models.vae.spec.params.beta={beta}") for beta in (0.1, 0.2, 0.5)],
    *[("ema", f"models.vqvae.spec.params.layer.params.commitment={weight}") for weight in (0.1, 0.25, 1.0)],
]
OUT = Path(__file__).resolve().parents[1] / "results" / "choices" / "mnist-first.json"


def main() -> None:
    """Run every variant, print and write validation errors."""
    parser = argparse.ArgumentParser(description="Choose settings of mnist-first on validation images.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    out = parser.parse_args().out
    rows = []
    for arm, change in VARIANTS:
        name = change.rpartition("params.")[2].replace("=", "-")
        folder = run_recipe(variant(arm, change), out / name, stop_after="evaluate", tell=print)
        errors = {
            record.arm: record.values["mse"]
            for record in read_metrics(folder / "metrics.json")
            if record.split == "validation"
        }
        rows.append({"change": change, "validation_mse": errors})
        print(change, errors, flush=True)
        write_json(OUT, {
            "schema": 1,
            "about": f"Validation MSE, MNIST, 64 bits, {EPOCHS} + {TUNE_EPOCHS} epochs, seed 0, n = 5,000.",
            "command": "python scripts/choose_mnist_first.py --out runs/choices",
            "machine": machine(),
            "rows": rows,
        })  # fmt: skip


def variant(arm: str, change: str) -> RunConfig:
    """The recipe with one arm, its model alone, and one setting changed."""
    tree: dict[str, Any] = to_json(recipe("mnist-first"))
    tree["arms"] = [entry for entry in tree["arms"] if entry["name"] == arm]
    model = tree["arms"][0]["model"]
    tree["models"] = {model: tree["models"][model]}
    shorter = [f"models.{model}.train.epochs={EPOCHS}", f"arms.{arm}.tune.epochs={TUNE_EPOCHS}"]
    return with_overrides(from_json(RunConfig, tree), [change, *shorter])


if __name__ == "__main__":
    main()
