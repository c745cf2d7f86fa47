"""The stage that measures an arm on validation and test images and keeps some of its pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geovq.config import to_json
from geovq.data import ImageSet, to_bytes
from geovq.evaluation.codebook import codebook_use, usage_counts
from geovq.evaluation.likelihood import PixelLikelihood, bits_per_dim, is_eight_bit, posterior_sample
from geovq.evaluation.pixel_errors import fit_likelihood, pixel_errors
from geovq.evaluation.rate import code_rate
from geovq.evaluation.reconstruction import Reconstruction, evaluate_reconstruction
from geovq.evaluation.records import Record
from geovq.models.likelihood import gaussian_kl_nats
from geovq.models.model import AutoencoderModel
from geovq.models.pixel_likelihood import DiscretizedLogistic
from geovq.models.weights import n_parameters
from geovq.pipeline.arms import FLOOR, Arm
from geovq.pipeline.autoencoders import load_latents, trained_autoencoder, trained_model
from geovq.pipeline.code_priors import prior_values
from geovq.pipeline.context import HELD_OUT, Context
from geovq.pipeline.tokenizers import (
    arm_inputs,
    codes_of,
    latent_chunks,
    load_latent_tokenizer,
    load_tokenizer,
)
from geovq.storage.artifact import load_artifact, save_artifact
from geovq.tokenizer.autoencoder import Autoencoder
from geovq.tokenizer.loading import AnyTokenizer

N_PICTURES = 16
"""Test images kept with their reconstructions: the first ones, and as many of the worst."""


def evaluate_arm(run: Context, arm: Arm, seed: int) -> Path:
    """Measure an arm: its records, every image's squared error and some pictures as one artefact."""

    def make(folder: Path, _: Path) -> None:
        measure = _measure_floor if arm.kind == FLOOR else _measure_codes
        config, tensors = measure(run, arm, seed)
        save_artifact(folder, {"kind": "evaluation", "arm": arm.name, **config}, tensors)

    path = run.arm_path("evaluation", arm, seed)
    return run.stages.run("evaluate", path, arm_inputs(run, arm, seed), make, arm=arm.name, seed=seed)


def records_of(run: Context, arm: Arm, seed: int) -> list[Record]:
    """What was measured of an arm so far, the bits of its prior included."""
    config, _ = load_artifact(run.root / run.arm_path("evaluation", arm, seed))
    of_prior = prior_values(run, arm, seed)
    bits = None if arm.kind == FLOOR else run.config.bits
    return [
        Record(arm.name, bits, seed, split, len(run.images(split)), {**values, **of_prior.get(split, {})})
        for split, values in config["values"].items()
    ]


def n_parameters_of(run: Context, arm: Arm, seed: int) -> int:
    """Parameters of the networks of an arm: encoder, decoder and any rectifier."""
    model = trained_model(run, arm.config.model, seed)
    if not isinstance(model, AutoencoderModel):
        return n_parameters(model) - n_parameters(*(grid.layer for grid in model.grids))
    rectifier = None if arm.kind == FLOOR else load_latent_tokenizer(run, arm, seed).rectifier
    return n_parameters(model.encoder, model.decoder, *([] if rectifier is None else [rectifier]))


def _measure_floor(run: Context, arm: Arm, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    model = trained_autoencoder(run, arm.config.model, seed)
    autoencoder = Autoencoder(model.encoder, model.decoder, run.splits.image_shape)
    latents = load_latents(run, arm.config.model, seed)
    values: dict[str, dict[str, float]] = {}
    tensors: dict[str, np.ndarray] = {}
    for split in HELD_OUT:
        mean, sigma = latents[f"{split}.mean"], latents[f"{split}.sigma"]
        measured, kept = _reconstruct(run.images(split), partial(_decoded, autoencoder.decode_latents, mean))
        kl = float(gaussian_kl_nats(torch.from_numpy(mean).double(), torch.from_numpy(sigma).double()))
        values[split] = {**measured.values, "kl_nats": kl}
        if model.error.kind == "bce":
            values[split]["total_nats"] = measured.values["bce_nats"] + kl
        tensors |= {f"{split}.errors": measured.errors}
        if split == "test":
            tensors |= kept
    # Posterior means with the KL would be no bound: a bound takes a sample.
    samples = {
        split: posterior_sample(latents[f"{split}.mean"], latents[f"{split}.sigma"], seed, split)
        for split in HELD_OUT
    }
    decode = {split: partial(_decoded, autoencoder.decode_latents, samples[split]) for split in HELD_OUT}
    bits = {split: values[split]["kl_nats"] / math.log(2) for split in HELD_OUT}
    return _with_likelihood(run, values, decode, bits, autoencoder.likelihood), tensors


def _measure_codes(run: Context, arm: Arm, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    tokenizer = load_tokenizer(run, arm, seed)
    stored = codes_of(run, arm, seed)
    values: dict[str, dict[str, float]] = {}
    tensors: dict[str, np.ndarray] = {}
    for split in HELD_OUT:
        codes = stored.splits[split]
        measured, kept = _reconstruct(run.images(split), partial(_decoded, tokenizer.decode, codes))
        counts = usage_counts(stored.layout, codes)
        distortion, commitment = _latent_errors(run, arm, seed, split, tokenizer, codes)
        values[split] = {
            **measured.values,
            "bits_nominal": stored.layout.bits,
            **codebook_use(counts),
            "latent_distortion": distortion,
        }
        if "train" in stored.splits:
            values[split] |= code_rate(stored.layout, stored.splits["train"], codes)
        if commitment is not None:
            values[split]["commitment"] = commitment
            if trained_model(run, arm.config.model, seed).error.kind == "bce":
                values[split]["total_nats"] = measured.values["bce_nats"] + commitment
        tensors |= {f"{split}.errors": measured.errors}
        if split == "test":
            tensors |= {**kept, "usage_counts": counts}
    decode = {split: partial(_decoded, tokenizer.decode, stored.splits[split]) for split in HELD_OUT}
    bits = dict.fromkeys(HELD_OUT, stored.layout.bits)
    return _with_likelihood(run, values, decode, bits, tokenizer.likelihood), tensors


def _with_likelihood(
    run: Context,
    values: dict[str, dict[str, float]],
    decode: Mapping[str, Callable[[slice], np.ndarray]],
    bits: Mapping[str, float],
    own: DiscretizedLogistic | None,
) -> dict[str, Any]:
    """``values`` by split, with bits/dim where images are 8-bit, and the pixels' likelihood that gives them.

    ``bits`` are those of an image's codes; ``own`` is the likelihood that the decoder was trained with.
    """
    if not all(is_eight_bit(run.images(split)) for split in HELD_OUT):
        return {"values": values}
    errors = {split: pixel_errors(run.images(split), decode[split]) for split in HELD_OUT}
    trained = None if own is None else PixelLikelihood("logistic", own.scales)
    likelihood = fit_likelihood(errors["validation"], trained)
    for split in HELD_OUT:
        nats = errors[split].nats(likelihood)
        values[split] |= bits_per_dim(bits[split], nats, run.splits.image_shape)
    return {"values": values, "pixel_likelihood": to_json(likelihood)}


def _decoded(decode: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray, rows: slice) -> np.ndarray:
    return decode(inputs[rows])


@torch.no_grad()
def _latent_errors(
    run: Context, arm: Arm, seed: int, split: str, tokenizer: AnyTokenizer, codes: np.ndarray
) -> tuple[float, float | None]:
    """Squared error of an image's quantized latents, and the loss of the layer, where one finds the codes."""
    distortion, losses = 0.0, []
    for rows, mean, _ in latent_chunks(run, arm, seed, split):
        errors = tokenizer.lookup(codes[rows]) - mean
        distortion += float(np.square(errors, dtype=np.float64).sum())
        loss = tokenizer.layer_loss(mean)
        if loss is not None:
            losses.append(loss * len(mean))
    return distortion / len(codes), sum(losses) / len(codes) if losses else None


def _reconstruct(
    images: ImageSet, decode: Callable[[slice], np.ndarray]
) -> tuple[Reconstruction, dict[str, np.ndarray]]:
    measured = evaluate_reconstruction(images, decode)
    first = np.arange(min(N_PICTURES, len(images)))
    worst = np.argsort(-measured.errors, kind="stable")[:N_PICTURES]
    pictures = {}
    for prefix, chosen in (("", first), ("worst_", worst)):
        decoded = np.concatenate([decode(slice(i, i + 1)) for i in chosen])
        pictures[f"{prefix}originals"] = to_bytes(images.images(chosen))
        pictures[f"{prefix}reconstructions"] = to_bytes(decoded)
    return measured, pictures
