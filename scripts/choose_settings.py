"""Choose the settings of a recipe on validation images, and write what was tried to results/choices/.

    python scripts/choose_settings.py mnist-post-hoc --out runs/choices [--data KIND:PATH] [--reuse DIR ...]

The beta of the VAE, the commitment weight of the VQ-VAE, the coding of 64 bits, the weights of every layer,
how networks are trained: fewer epochs than the recipe's, seed 0, validation errors alone. Variants in --out
are not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from geovq.config import DataConfig, RunConfig, TuneConfig, with_overrides
from geovq.data import load
from geovq.pipeline.choice import coding_arms, try_variants
from geovq.pipeline.stages import machine
from geovq.recipes import recipe
from geovq.storage.atomic import write_json

EPOCHS, LAYER_EPOCHS, LEVEL_EPOCHS, TUNE_EPOCHS = 5, 2, 6, 1
TUNED = ("residual", "residual+metric", "ema")
BETA, COMMITMENT = "models.vae.spec.params.beta", "models.vqvae.spec.params.layer.params.commitment"
EFFORT = {
    "mnist-first": f"{EPOCHS} epochs and {TUNE_EPOCHS} of tuning",
    "mnist-post-hoc": f"{EPOCHS} epochs and {TUNE_EPOCHS} of tuning, but 2 where tuning is the question",
    "mnist-layers": f"{LAYER_EPOCHS} epochs",
    "cifar10-vqvae2": f"{LEVEL_EPOCHS} epochs, one training each, from a learning rate of 0.002, a decay of "
    "0.99, a commitment of 0.25 and gradients that are not bounded",
}
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Try every variant of the recipe's questions; write validation errors as they come."""
    parser = argparse.ArgumentParser(description="Choose the settings of a recipe on validation images.")
    parser.add_argument("recipe", choices=sorted(QUESTIONS))
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--data", metavar="NAME|KIND:PATH", help="images in place of the recipe's")
    parser.add_argument("--reuse", type=Path, action="append", default=[], help="folder of an earlier run")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for question, (config, variants) in QUESTIONS[options.recipe]().items():
        if options.data:
            config = replace(config, data=DataConfig(options.data))
        images = load(config.data)
        about = f"Validation MSE, {images.name}, {config.bits:g} bits, seed 0, n = {len(images.validation):,}"
        for name, changes in variants.items():
            (choice,) = try_variants(
                config, {f"{question}-{name}": changes}, options.out, reuse=options.reuse, tell=print
            )
            options.reuse.append(options.out / choice.name)
            errors = {arm: choice.mse(arm) for arm in choice.errors}
            print(choice.name, errors, flush=True)
            rows.append({"question": question, "value": name, "validation_mse": errors})
            write(options.recipe, f"{about}; {EFFORT[options.recipe]}.", rows)


def write(name: str, about: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``results/choices/NAME.json``."""
    write_json(ROOT / "results" / "choices" / f"{name}.json", {
        "schema": 1,
        "about": about,
        "command": f"python scripts/choose_settings.py {name} --out runs/choices",
        "machine": machine(),
        "rows": rows,
    })  # fmt: skip


Questions = Mapping[str, tuple[RunConfig, Mapping[str, Sequence[str]]]]


def mnist_first() -> Questions:
    """Three values on each side."""
    config = recipe("mnist-first")
    return {
        "beta": (shorter(config, ["residual"]), {str(b): [f"{BETA}={b}"] for b in (0.1, 0.2, 0.5)}),
        "commitment": (
            shorter(config, ["ema"]),
            {str(w): [f"{COMMITMENT}={w}"] for w in (0.1, 0.25, 1.0)},
        ),
    }


def mnist_post_hoc() -> Questions:
    """The curve of beta, commitment weights, codings of 64 bits and ways of tuning at the recipe's beta."""
    config = recipe("mnist-post-hoc")
    arms = ["continuous", "kmeans", "kmeans+metric", "residual+metric"]
    codings = replace(shorter(config, ["continuous"]), arms=coding_arms(64, 32, "vae"))
    tune = "arms.residual+metric.tune"
    return {
        "beta": (
            shorter(config, arms),
            {str(b): [f"{BETA}={b}"] for b in (0.025, 0.05, 0.1, 0.2)},
        ),
        "tuning": (
            shorter(config, ["residual+metric"]),
            {
                "decoder": [f"{tune}.parts=decoder", f"{tune}.epochs=2"],
                "decoder+codebook": [f"{tune}.epochs=2"],
                "decoder+codebook, 2 rounds of 1": [f"{tune}.rounds=2"],
                "decoder+codebook, bce": [f"{tune}.loss=bce", f"{tune}.epochs=2"],
                "rectifier": [f"{tune}.parts=rectifier", f"{tune}.epochs=2"],
            },
        ),
        "coding": (codings, {"all": []}),
        "commitment": (
            shorter(config, ["ema"]),
            {str(w): [f"{COMMITMENT}={w}"] for w in (2.0, 4.0)},
        ),
    }


def mnist_layers() -> Questions:
    """Two or more commitment weights of every layer of one table that has one; the others as they are."""
    config = recipe("mnist-layers")
    commitments = {
        "vq": (0.25, 1.0, 4.0, 16.0, 64.0),
        "ema": (0.25, 1.0, 4.0),
        "rotation": (0.25, 1.0, 4.0),
        "simvq": (4.0, 16.0),
        "cosine": (4.0, 16.0, 64.0),
        "optvq": (4.0, 16.0),
        "gumbel": (0.25, 4.0),
    }
    return {
        f"commitment of {layer}": (
            shorter(config, [layer], epochs=LAYER_EPOCHS),
            {str(w): [f"models.{layer}.spec.params.layer.params.commitment={w}"] for w in weights},
        )
        for layer, weights in commitments.items()
    }


def cifar10_vqvae2() -> Questions:
    """How one level and two are trained: rate, decay, commitment, clipping; of two what else there is."""
    config = recipe("cifar10-vqvae2")
    # From where the search began, whatever the recipe has taken over from it since.
    for name, model in config.models.items():
        levels = [f"models.{name}.spec.params.layers.{i}" for i in range(len(model.spec.params["layers"]))]
        start = [
            f"models.{name}.train.clip_norm=0",
            f"models.{name}.train.learning_rate=0.002",
            *(f"{level}.params.decay=0.99" for level in levels),
        ]
        config = with_overrides(config, start)
    questions: dict[str, tuple[RunConfig, Mapping[str, Sequence[str]]]] = {}
    for arm in ("two-levels", "one-level"):
        few = shorter(config, [arm], epochs=LEVEL_EPOCHS)
        levels = [
            f"models.{arm}.spec.params.layers.{i}.params"
            for i in range(len(config.models[arm].spec.params["layers"]))
        ]
        rates = {str(r): [f"models.{arm}.train.learning_rate={r}"] for r in (1e-3, 2e-3, 4e-3)}
        decays = {str(d): [f"{level}.decay={d}" for level in levels] for d in (0.9, 0.95, 0.99)}
        weights = {str(w): [f"{level}.commitment={w}" for level in levels] for w in (1.0, 4.0)}
        bounds = {str(c): [f"models.{arm}.train.clip_norm={c}"] for c in (10, 50)}
        questions |= {
            f"learning rate of {arm}": (few, rates),
            f"decay of {arm}": (few, decays),
            f"commitment of {arm}": (few, weights),
            f"gradient norm of {arm}": (few, bounds),
        }
    few, model = shorter(config, ["two-levels"], epochs=LEVEL_EPOCHS), "models.two-levels"
    others = {
        "weights averaged over the last ninth of all steps": [f"{model}.train.ema_decay=0.99"],
        "float32": [f"{model}.train.precision=float32"],
        "images not standardised": [f"{model}.spec.params.normalization=null"],
        "64 bits in the top level": [
            f"{model}.spec.params.layers.0.params.n_codes=16",
            f"{model}.spec.params.layers.1.params.n_codes=512",
        ],
    }
    return {**questions, "training of two-levels": (few, others)}


QUESTIONS = {
    "mnist-first": mnist_first,
    "mnist-post-hoc": mnist_post_hoc,
    "mnist-layers": mnist_layers,
    "cifar10-vqvae2": cifar10_vqvae2,
}


def shorter(config: RunConfig, arms: Sequence[str], epochs: int = EPOCHS) -> RunConfig:
    """The recipe with some arms and their models, fewer epochs, seed 0; few tuned, none decoder-aware."""
    kept = tuple(
        replace(arm, aware=None, tune=shorter_tuning(arm.tune) if arm.tune and arm.name in TUNED else None)
        for arm in config.arms
        if arm.name in arms
    )
    models = {
        name: replace(model, train=replace(model.train, epochs=epochs))
        for name, model in config.models.items()
        if name in {arm.model for arm in kept}
    }
    return replace(config, arms=kept, models=models, seeds=(0,))


def shorter_tuning(tune: TuneConfig) -> TuneConfig:
    """Tuning for fewer epochs."""
    return replace(tune, epochs=TUNE_EPOCHS)


if __name__ == "__main__":
    main()
