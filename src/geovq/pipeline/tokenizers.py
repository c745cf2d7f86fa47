"""The stages that make an arm's tokenizer and encode every image with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from geovq.config import to_json
from geovq.models.cut import cut
from geovq.pipeline.arms import FLOOR, Arm, tokens_of
from geovq.pipeline.autoencoders import load_latents, model_inputs, model_spec, trained_model
from geovq.pipeline.context import SPLITS, Context
from geovq.pipeline.decoder_lengths import measure_with
from geovq.registry import build
from geovq.seeding import derive_seed
from geovq.storage.artifact import load_artifact, read_json
from geovq.storage.atomic import write_json
from geovq.tokenizer.codes import StoredCodes, load_codes, save_codes
from geovq.tokenizer.finetune import finetune_decoder
from geovq.tokenizer.latent import LatentTokenizer


def arm_inputs(run: Context, arm: Arm, seed: int) -> dict[str, Any]:
    """What an arm's tokenizer is determined by."""
    inputs = model_inputs(run, arm.config.model, seed)
    # The name counts: the codebook's random start depends on it.
    inputs |= {
        "arm": arm.name,
        "tokens": to_json(arm.config.tokens),
        "quantizer": to_json(arm.config.quantizer),
    }
    return inputs | {"tune": to_json(arm.config.tune)} if arm.tuned else inputs


def make_tokenizer(run: Context, arm: Arm, seed: int) -> Path | None:
    """Fit an arm's quantizer, take over its trained layer, or tune its decoder; None for the floor."""
    if arm.kind == FLOOR:
        return None

    def make(folder: Path, checkpoints: Path) -> None:
        if arm.tuned:
            _tune(run, arm, seed, folder, checkpoints)
        else:
            _assemble(run, arm, seed).save_pretrained(folder)

    path = run.arm_path("tokenizers", arm, seed)
    stage = "tune" if arm.tuned else "tokenizer"
    return run.stages.run(stage, path, arm_inputs(run, arm, seed), make, arm=arm.name, seed=seed)


def load_tokenizer(run: Context, arm: Arm, seed: int) -> LatentTokenizer:
    """An arm's tokenizer, from its folder."""
    return LatentTokenizer.from_pretrained(run.root / run.arm_path("tokenizers", arm, seed))


def encode_images(run: Context, arm: Arm, seed: int) -> Path | None:
    """Codes of every split under an arm's tokenizer; None for the floor and for tuned arms, whose codes are
    those of the arm they tune.
    """
    if arm.kind == FLOOR or arm.tuned:
        return None

    def make(folder: Path, _: Path) -> None:
        tokenizer = load_tokenizer(run, arm, seed)
        latents = load_latents(run, arm.config.model, seed)
        splits = {s: tokenizer.encode_latents(latents[f"{s}.mean"], latents[f"{s}.sigma"]) for s in SPLITS}
        stored = StoredCodes(tokenizer.layout, tokenizer.fingerprint, splits)
        save_codes(folder, stored, run.splits.fingerprint)

    return run.stages.run(
        "codes", run.arm_path("codes", arm, seed), arm_inputs(run, arm, seed), make, arm=arm.name, seed=seed
    )


def codes_of(run: Context, arm: Arm, seed: int) -> StoredCodes:
    """The codes of an arm, from its folder."""
    return load_codes(run.root / run.arm_path("codes", untuned(arm), seed))


def untuned(arm: Arm) -> Arm:
    """The arm whose codes ``arm`` uses."""
    return Arm(arm.config, arm.model)


def _assemble(run: Context, arm: Arm, seed: int) -> LatentTokenizer:
    model = trained_model(run, arm.config.model, seed)
    grid = tokens_of(arm, model.tokens)
    layer = model.layer
    if arm.config.quantizer is not None:
        latents = load_latents(run, arm.config.model, seed)
        mean, sigma = (
            cut(torch.from_numpy(latents[f"train.{part}"]), grid).flatten(0, 1).numpy()
            for part in ("mean", "sigma")
        )
        quantizer = build(
            "quantizer", arm.config.quantizer, random_state=derive_seed(seed, arm.config.name) % 2**32
        )
        measure_with(quantizer, model.decoder, latents["train.mean"])
        quantizer.fit(mean, sigma=sigma) if quantizer.takes_sigma else quantizer.fit(mean)
        layer = quantizer.as_module()
    assert layer is not None
    return LatentTokenizer(
        model.encoder,
        model.decoder,
        layer,
        image_shape=run.splits.image_shape,
        latent_shape=model.latent_shape,
        tokens=grid,
        architecture=model_spec(run, arm.config.model, seed),
    )


def _tune(run: Context, arm: Arm, seed: int, folder: Path, checkpoints: Path) -> None:
    assert arm.config.tune is not None
    codes = codes_of(run, arm, seed)
    tuned, result = finetune_decoder(
        load_tokenizer(run, untuned(arm), seed),
        run.splits.train,
        run.splits.validation,
        arm.config.tune,
        train_codes=codes.splits["train"],
        validation_codes=codes.splits["validation"],
        seed=seed,
        checkpoints=checkpoints,
        progress=run.progress,
    )
    tuned.save_pretrained(folder)
    training = {"best_epoch": result.best_epoch, "epochs": result.epochs, "log": result.log}
    write_json(folder / "training.json", training)


def training_log(folder: Path) -> list[dict[str, Any]]:
    """The log of a stage that trained something: rows of epoch, split, name and value."""
    tuned = folder / "training.json"
    if tuned.exists():
        log: list[dict[str, Any]] = read_json(tuned)["log"]
    else:
        log = load_artifact(folder)[0].get("log", [])
    return log
