"""Tuning a decoder on the codes that it will be given.

A frozen autoencoder's decoder has only seen continuous latents; a few epochs on the quantized ones, with the
codes fixed, remove much of the error of any codebook.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from geovq.config import TrainConfig
from geovq.data import ImageSet, chunks_of
from geovq.errors import InputError
from geovq.storage.artifact import fingerprint
from geovq.tokenizer.latent import LatentTokenizer
from geovq.training import Progress, TrainingResult, fit


def finetune_decoder(
    tokenizer: LatentTokenizer,
    train: ImageSet,
    validation: ImageSet,
    config: TrainConfig,
    *,
    train_codes: np.ndarray | None = None,
    validation_codes: np.ndarray | None = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> tuple[LatentTokenizer, TrainingResult]:
    """A tokenizer with the same codes and a decoder tuned on them; ``tokenizer`` itself is left as it was.

    The loss is the squared error summed over an image; the decoder of the best validation epoch is kept, the
    untuned one included as epoch 0. Codes (N, S) are computed unless given.
    """
    # Trainable, although a frozen autoencoder's decoder may well be frozen.
    model = _DecoderOnCodes(copy.deepcopy(tokenizer.decoder).requires_grad_(True))
    coded = _CodedImages(tokenizer, train, train_codes)
    result = fit(
        model,
        coded,
        _CodedImages(tokenizer, validation, validation_codes),
        config,
        seed=seed,
        identity=fingerprint([tokenizer.fingerprint, hashlib.sha256(coded.codes.tobytes()).hexdigest()]),
        checkpoints=checkpoints,
        progress=progress,
    )
    return tokenizer.with_decoder(model.decoder), result


def tokenizer_codes(tokenizer: LatentTokenizer, images: ImageSet) -> np.ndarray:
    """Codes (N, S) of a whole image set, read a chunk at a time."""
    return np.concatenate([tokenizer.encode(images.images(rows)) for rows in chunks_of(images)])


class _CodedImages:
    """Rows of (images, quantized latents)."""

    def __init__(self, tokenizer: LatentTokenizer, images: ImageSet, codes: np.ndarray | None) -> None:
        codes = tokenizer_codes(tokenizer, images) if codes is None else codes
        tokenizer.layout.validate(codes)
        if len(codes) != len(images):
            raise InputError(f"{len(codes)} codes are given for {len(images)} images; expected as many")
        self.tokenizer, self.images, self.codes = tokenizer, images, codes

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, indices: np.ndarray) -> tuple[Tensor, ...]:
        latents = self.tokenizer.lookup(self.codes[indices])
        return torch.from_numpy(self.images.images(indices)), torch.from_numpy(latents)


class _DecoderOnCodes(nn.Module):
    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        images, latents = batch
        squared_error = (self.decoder(latents) - images).square().flatten(1).sum(1).mean()
        return {"total": squared_error, "mse": squared_error / images[0].numel()}
