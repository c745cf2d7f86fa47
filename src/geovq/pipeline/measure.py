"""The stage that measures an arm on validation and test images and keeps some of its pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geovq.data import ImageSet, to_bytes
from geovq.evaluation.codebook import codebook_use, usage_counts
from geovq.evaluation.rate import code_rate
from geovq.evaluation.reconstruction import Reconstruction, evaluate_reconstruction
from geovq.evaluation.records import Record
from geovq.models.cut import cut
from geovq.models.likelihood import gaussian_kl_nats
from geovq.models.weights import n_parameters
from geovq.pipeline.arms import FLOOR, Arm
from geovq.pipeline.autoencoders import load_latents, trained_model
from geovq.pipeline.code_priors import prior_values
from geovq.pipeline.context import HELD_OUT, Context
from geovq.pipeline.tokenizers import arm_inputs, codes_of, latents_of, load_tokenizer
from geovq.quantizers import FittedQuantizer
from geovq.storage.artifact import load_artifact, save_artifact
from geovq.tokenizer.autoencoder import Autoencoder
from geovq.tokenizer.latent import LatentTokenizer

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
    rectifier = None if arm.kind == FLOOR else load_tokenizer(run, arm, seed).rectifier
    return n_parameters(model.encoder, model.decoder, *([] if rectifier is None else [rectifier]))


def _measure_floor(run: Context, arm: Arm, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    model = trained_model(run, arm.config.model, seed)
    autoencoder = Autoencoder(model.encoder, model.decoder, run.splits.image_shape)
    latents = load_latents(run, arm.config.model, seed)
    values: dict[str, dict[str, float]] = {}
    tensors: dict[str, np.ndarray] = {}
    for split in HELD_OUT:
        mean, sigma = latents[f"{split}.mean"], latents[f"{split}.sigma"]
        measured, kept = _reconstruct(run.images(split), partial(_decoded, autoencoder.decode_latents, mean))
        kl = float(gaussian_kl_nats(torch.from_numpy(mean).double(), torch.from_numpy(sigma).double()))
        values[split] = {**measured.values, "kl_nats": kl, "total_nats": measured.values["bce_nats"] + kl}
        tensors |= {f"{split}.errors": measured.errors}
        if split == "test":
            tensors |= kept
    return {"values": values}, tensors


def _measure_codes(run: Context, arm: Arm, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    tokenizer = load_tokenizer(run, arm, seed)
    stored = codes_of(run, arm, seed)
    values: dict[str, dict[str, float]] = {}
    tensors: dict[str, np.ndarray] = {}
    for split in HELD_OUT:
        codes = stored.splits[split]
        measured, kept = _reconstruct(run.images(split), partial(_decoded, tokenizer.decode, codes))
        counts = usage_counts(stored.layout, codes)
        mean, _ = latents_of(run, arm, seed, split)
        errors = (tokenizer.lookup(codes) - mean).astype(np.float64) ** 2
        values[split] = {
            **measured.values,
            "bits_nominal": stored.layout.bits,
            **codebook_use(counts),
            "latent_distortion": float(errors.sum() / len(codes)),
        }
        if "train" in stored.splits:
            values[split] |= code_rate(stored.layout, stored.splits["train"], codes)
        if not isinstance(tokenizer.quantizer, FittedQuantizer):  # a layer still finds the codes
            commitment = _layer_loss(tokenizer, mean)
            values[split]["commitment"] = commitment
            values[split]["total_nats"] = measured.values["bce_nats"] + commitment
        tensors |= {f"{split}.errors": measured.errors}
        if split == "test":
            tensors |= {**kept, "usage_counts": counts}
    return {"values": values}, tensors


def _decoded(decode: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray, rows: slice) -> np.ndarray:
    return decode(inputs[rows])


@torch.no_grad()
def _layer_loss(tokenizer: LatentTokenizer, latents: np.ndarray) -> float:
    """The layer's loss in eval mode, per image."""
    tokens = cut(torch.from_numpy(latents), tokenizer.tokens)
    return float(tokenizer.quantizer(tokens).loss) * tokens.shape[1]


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
