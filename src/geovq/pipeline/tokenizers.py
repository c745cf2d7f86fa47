"""The stages that make an arm's tokenizer and encode every image with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from geovq.config import MapConfig, Spec, to_json
from geovq.data import chunks_of
from geovq.geometry import pullback_metrics
from geovq.models.cut import cut
from geovq.models.model import AutoencoderModel
from geovq.models.vqvae2 import VQVAE2
from geovq.pipeline.arms import END_TO_END, FLOOR, Arm, tokens_of
from geovq.pipeline.autoencoders import load_latents, model_inputs, model_spec, trained_model
from geovq.pipeline.context import HELD_OUT, SPLITS, Context
from geovq.pipeline.decoder_lengths import METRIC_IMAGES, measure_with
from geovq.registry import build
from geovq.search import sample_rows
from geovq.seeding import derive_seed
from geovq.storage.artifact import load_artifact, read_json
from geovq.storage.atomic import write_json
from geovq.tokenizer.codes import StoredCodes, load_codes, save_codes
from geovq.tokenizer.finetune import finetune
from geovq.tokenizer.hierarchical import HierarchicalTokenizer
from geovq.tokenizer.latent import LatentTokenizer
from geovq.tokenizer.latent_map import LatentMap, mean_pullback_map
from geovq.tokenizer.loading import AnyTokenizer, from_pretrained
from geovq.tokenizer.mapped_decoder import MappedDecoder


def arm_inputs(run: Context, arm: Arm, seed: int) -> dict[str, Any]:
    """What an arm's tokenizer is determined by."""
    inputs = model_inputs(run, arm.config.model, seed)
    # The name counts: the codebook's random start depends on it.
    inputs |= {
        "arm": arm.name,
        "tokens": to_json(arm.config.tokens),
        "quantizer": to_json(arm.config.quantizer),
    }
    steps = {"latent_map": True, "tune": arm.tuned, "aware": arm.aware}
    settings = {name: getattr(arm.config, name) for name, taken in steps.items() if taken}
    return inputs | {name: to_json(setting) for name, setting in settings.items() if setting is not None}


def make_tokenizer(run: Context, arm: Arm, seed: int) -> Path | None:
    """Fit an arm's quantizer, take over its trained layer, or tune what decodes it; None for the floor."""
    if arm.kind == FLOOR:
        return None

    def make(folder: Path, checkpoints: Path) -> None:
        if arm.aware:
            start = load_latent_tokenizer(run, replace(arm, aware=False), seed)
            start.changed(aware=arm.config.aware).save_pretrained(folder)
        elif arm.tuned:
            _tune(run, arm, seed, folder, checkpoints)
        else:
            _assembled(run, arm, seed).save_pretrained(folder)

    path = run.arm_path("tokenizers", arm, seed)
    stage = "tune" if arm.tuned and not arm.aware else "tokenizer"
    return run.stages.run(stage, path, arm_inputs(run, arm, seed), make, arm=arm.name, seed=seed)


def load_tokenizer(run: Context, arm: Arm, seed: int) -> AnyTokenizer:
    """An arm's tokenizer, from its folder."""
    return from_pretrained(run.root / run.arm_path("tokenizers", arm, seed))


def load_latent_tokenizer(run: Context, arm: Arm, seed: int) -> LatentTokenizer:
    """The tokenizer of an arm whose model has one latent."""
    return LatentTokenizer.from_pretrained(run.root / run.arm_path("tokenizers", arm, seed))


def encode_images(run: Context, arm: Arm, seed: int) -> Path | None:
    """Codes of every split under an arm's tokenizer; None for the floor and for arms with another's codes.

    Encoding that calls the decoder takes long: those arms have codes of held-out images alone.
    """
    if arm.kind == FLOOR or coded_by(arm) != arm:
        return None

    def make(folder: Path, _: Path) -> None:
        tokenizer = load_tokenizer(run, arm, seed)
        splits = {}
        for split in HELD_OUT if encodes_slowly(arm) else SPLITS:
            images = run.images(split)
            if arm.kind == END_TO_END:
                parts = [tokenizer.encode(images.images(rows)) for rows in chunks_of(images)]
            else:
                assert isinstance(tokenizer, LatentTokenizer)
                parts = [
                    tokenizer.encode_latents(mean, sigma, images.images(rows) if arm.aware else None)
                    for rows, mean, sigma in latent_chunks(run, arm, seed, split)
                ]
            splits[split] = np.concatenate(parts)
        stored = StoredCodes(tokenizer.layout, tokenizer.fingerprint, splits)
        save_codes(folder, stored, run.splits.fingerprint)

    return run.stages.run(
        "codes", run.arm_path("codes", arm, seed), arm_inputs(run, arm, seed), make, arm=arm.name, seed=seed
    )


def latent_chunks(
    run: Context, arm: Arm, seed: int, split: str
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rows of a split with their mean and sigma, by the encoder that the arm codes them with.

    Those of a model that arms quantize after the fact are stored and read whole, the others are made as they
    are asked for: of an end-to-end arm no more than a chunk is held at once.
    """
    images = run.images(split)
    own_encoder = arm.tuned and arm.config.tune is not None and arm.config.tune.parts == "all"
    if own_encoder or arm.kind == END_TO_END:
        tokenizer = load_tokenizer(run, arm, seed)
        for rows in chunks_of(images):
            yield rows, *tokenizer.posterior(images.images(rows))
    else:
        latents = load_latents(run, arm.config.model, seed)
        for rows in chunks_of(images):
            yield rows, latents[f"{split}.mean"][rows], latents[f"{split}.sigma"][rows]


def codes_of(run: Context, arm: Arm, seed: int) -> StoredCodes:
    """The codes of an arm, from its folder."""
    return load_codes(run.root / run.arm_path("codes", coded_by(arm), seed))


def coded_by(arm: Arm) -> Arm:
    """The arm whose codes ``arm`` uses: a tuned one those it was tuned on, unless they were found anew."""
    tune = arm.config.tune
    own = arm.aware or (tune is not None and (tune.rounds > 1 or tune.parts == "all"))
    return arm if own else arm.plain


def encodes_slowly(arm: Arm) -> bool:
    """Whether encoding calls the decoder, so that training images are not encoded."""
    quantizer = arm.config.quantizer
    return arm.aware or (quantizer is not None and build("quantizer", quantizer).takes_metric)


def _assembled(run: Context, arm: Arm, seed: int) -> AnyTokenizer:
    model = trained_model(run, arm.config.model, seed)
    architecture = model_spec(run, arm.config.model, seed)
    if isinstance(model, VQVAE2):
        return HierarchicalTokenizer(model, image_shape=run.splits.image_shape, architecture=architecture)
    assert isinstance(model, AutoencoderModel)
    return _around_one_latent(run, arm, seed, model, architecture)


def _around_one_latent(
    run: Context, arm: Arm, seed: int, model: AutoencoderModel, architecture: Spec
) -> LatentTokenizer:
    grid = tokens_of(arm, model.tokens)
    layer, latent_map = model.layer, None
    if arm.config.quantizer is not None:
        arrays = load_latents(run, arm.config.model, seed)
        mean, sigma = (torch.from_numpy(arrays[f"train.{part}"]) for part in ("mean", "sigma"))
        decoder: nn.Module = model.decoder
        if arm.config.latent_map is not None:
            latent_map = _mean_map(arm.config.latent_map, decoder, arrays["train.mean"], grid, seed)
            mean, sigma = latent_map(mean), latent_map.sigma(sigma)
            decoder = MappedDecoder(latent_map, decoder)
        quantizer = build(
            "quantizer", arm.config.quantizer, random_state=derive_seed(seed, arm.config.name) % 2**32
        )
        given = {}
        if quantizer.takes_metric:
            rows = sample_rows(len(mean), METRIC_IMAGES, derive_seed(seed, "metrics"))
            mean, sigma = mean[rows], sigma[rows]
            metrics = pullback_metrics(decoder, mean, grid)
            given["metric"] = metrics.reshape(-1, *metrics.shape[2:])
        if quantizer.takes_sigma:
            given["sigma"] = cut(sigma, grid).flatten(0, 1).numpy()
        measure_with(quantizer, decoder, mean.numpy())
        layer = quantizer.fit(cut(mean, grid).flatten(0, 1).numpy(), **given).as_module()
    assert layer is not None
    return LatentTokenizer(
        model.encoder,
        model.decoder,
        layer,
        image_shape=run.splits.image_shape,
        latent_shape=model.latent_shape,
        tokens=grid,
        latent_map=latent_map,
        architecture=architecture,
    )


def _mean_map(
    config: MapConfig, decoder: nn.Module, latents: np.ndarray, grid: tuple[int, int], seed: int
) -> LatentMap:
    rows = sample_rows(len(latents), config.n_images, derive_seed(seed, "latent map"))
    return mean_pullback_map(decoder, latents[rows], per=config.per, tokens=grid, floor=config.floor)


def _tune(run: Context, arm: Arm, seed: int, folder: Path, checkpoints: Path) -> None:
    assert arm.config.tune is not None
    codes = codes_of(run, arm.plain, seed)
    tuned, result = finetune(
        load_latent_tokenizer(run, arm.plain, seed),
        run.splits.train,
        run.splits.validation,
        arm.config.tune,
        train_codes=codes.splits.get("train"),
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
