"""Tuning what decodes an arm's codes on the codes that it will be given.

A frozen autoencoder's decoder has only seen continuous latents; a few epochs on the quantized ones remove
much of the error of any codebook. The codes' vectors can be tuned with it, and the encoder with both; where
the decoder must stay as it is, a light rectifier before it is trained instead.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from geovq.config import TuneConfig
from geovq.data import ImageSet, chunks_of
from geovq.errors import InputError
from geovq.models.rectifier import Rectifier
from geovq.quantizers import FittedQuantizer
from geovq.seeding import derive_seed, seeded_weights
from geovq.storage.artifact import fingerprint
from geovq.tokenizer.image_loss import image_loss
from geovq.tokenizer.joint import quantizer_of, tune_jointly
from geovq.tokenizer.latent import LatentTokenizer
from geovq.tokenizer.protocol import Tokenizer
from geovq.tokenizer.vectors import CodeVectors
from geovq.training import Progress, TrainingResult, fit


def finetune(
    tokenizer: LatentTokenizer,
    train: ImageSet,
    validation: ImageSet,
    config: TuneConfig,
    *,
    train_codes: np.ndarray | None = None,
    validation_codes: np.ndarray | None = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> tuple[LatentTokenizer, TrainingResult]:
    """A tokenizer with parts that are tuned on its codes; ``tokenizer`` stays as it was.

    The loss is summed over an image; the weights of the best validation epoch are kept, those before tuning
    included as epoch 0. The codes (N, S) are computed unless given. In every round after the first they are
    found anew, the nearest or by beam search in the tuned codebook, and the tuned tokenizer finds them so
    too; a round that does not lower the validation loss is dropped and is the last. With parts ``all`` they
    are found anew at every step, none are taken, and the encoder is another: latents of before do not fit.

    Raises ``InputError`` if the codes do not fit, or depend on the decoder that is to be tuned, or are to be
    found anew with levels of different sizes or, where the encoder is tuned, with more than a latent.
    """
    quantizer = tokenizer.quantizer
    if isinstance(quantizer, FittedQuantizer) and quantizer.follows_decoder and config.parts != "rectifier":
        raise InputError(
            f"codes of quantizer '{quantizer.kind}' depend on the decoder and would change with it; expected "
            "codes that stay; tune a rectifier, or the tokenizer of another quantizer"
        )
    if tokenizer.aware is not None:
        raise InputError(
            "decoder-aware codes depend on the decoder and would change with it; expected codes that stay; "
            "tune tokenizer.changed(aware=None) and make the tuned one aware"
        )
    if config.parts == "all":
        return tune_jointly(
            tokenizer, train, validation, config, seed=seed, checkpoints=checkpoints, progress=progress
        )
    if config.rounds > 1 and len(set(quantizer.n_codes)) > 1:
        raise InputError(
            f"codes have levels of {list(quantizer.n_codes)} codes, and rounds is {config.rounds}; codes are "
            "found anew in levels of one size alone; set rounds to 1"
        )
    given = (
        _CodedImages(tokenizer, train, train_codes),
        _CodedImages(tokenizer, validation, validation_codes),
    )
    best, result = _one_round(tokenizer, *given, config, seed, checkpoints, progress)
    best_loss = _best_loss(result)
    for number in range(1, config.rounds):
        anew = best.changed(quantizer=_with_tuned_codebook(best), vectors=None)
        coded = (_CodedImages(anew, train, None), _CodedImages(anew, validation, None))
        folder = None if checkpoints is None else checkpoints / f"round-{number}"
        tuned, further = _one_round(
            anew, *coded, config, derive_seed(seed, "round", number) % 2**31, folder, progress
        )
        loss = _best_loss(further)
        result = _joined(result, further, loss < best_loss)
        if loss >= best_loss:
            break
        best, best_loss = tuned, loss
    return best, result


def tokenizer_codes(tokenizer: Tokenizer, images: ImageSet) -> np.ndarray:
    """Codes (N, S) of a whole image set, read a chunk at a time."""
    return np.concatenate([tokenizer.encode(images.images(rows)) for rows in chunks_of(images)])


class _CodedImages:
    """Rows of (images, codes)."""

    def __init__(self, tokenizer: LatentTokenizer, images: ImageSet, codes: np.ndarray | None) -> None:
        codes = tokenizer_codes(tokenizer, images) if codes is None else codes
        tokenizer.layout.validate(codes)
        if len(codes) != len(images):
            raise InputError(f"{len(codes)} codes are given for {len(images)} images; expected as many")
        self.images, self.codes = images, codes

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, indices: np.ndarray) -> tuple[Tensor, ...]:
        return torch.from_numpy(self.images.images(indices)), torch.from_numpy(self.codes[indices])


class _DecodedCodes(nn.Module):
    """The part of a tokenizer from codes to images, copied; only the tuned parts are trainable."""

    def __init__(self, tokenizer: LatentTokenizer, config: TuneConfig, seed: int) -> None:
        super().__init__()
        self.tuned = {"decoder+codebook": ("decoder", "vectors")}.get(config.parts, (config.parts,))
        self.loss_name = config.loss
        parts: dict[str, nn.Module | None] = {
            "decoder": tokenizer.decoder,
            "vectors": tokenizer.vectors or CodeVectors.of(tokenizer.quantizer),
            "latent_map": tokenizer.latent_map,
            "rectifier": tokenizer.rectifier,
        }
        if config.parts == "rectifier" and tokenizer.rectifier is None:
            with seeded_weights(seed, "rectifier"):
                parts["rectifier"] = Rectifier(tokenizer.latent_shape)
        # Copies, and trainable ones, although a frozen autoencoder's decoder may well be frozen.
        self.parts = nn.ModuleDict(
            {
                name: copy.deepcopy(part).requires_grad_(name in self.tuned)
                for name, part in parts.items()
                if part is not None
            }
        )
        self._tokenizer = (tokenizer.changed(**self.parts),)  # no module of this one: its encoder stays out

    def tuned_parts(self) -> dict[str, nn.Module]:
        """The tuned parts by name."""
        return {name: self.parts[name] for name in self.tuned}

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        images, codes = batch
        decoded = self._tokenizer[0].decode_codes(codes)
        return image_loss(decoded, images, self.loss_name)


def _one_round(
    tokenizer: LatentTokenizer,
    train: _CodedImages,
    validation: _CodedImages,
    config: TuneConfig,
    seed: int,
    checkpoints: Path | None,
    progress: Progress | None,
) -> tuple[LatentTokenizer, TrainingResult]:
    model = _DecodedCodes(tokenizer, config, seed)
    result = fit(
        model,
        train,
        validation,
        config,
        seed=seed,
        identity=fingerprint([tokenizer.fingerprint, hashlib.sha256(train.codes.tobytes()).hexdigest()]),
        checkpoints=checkpoints,
        progress=progress,
    )
    return tokenizer.changed(**model.tuned_parts()), result


def _with_tuned_codebook(tokenizer: LatentTokenizer) -> FittedQuantizer:
    assert tokenizer.vectors is not None
    return quantizer_of(tokenizer.vectors)


def _best_loss(result: TrainingResult) -> float:
    return min(row["value"] for row in result.log if (row["split"], row["name"]) == ("validation", "total"))


def _joined(first: TrainingResult, further: TrainingResult, lower: bool) -> TrainingResult:
    """The log of a round after those before it; its epoch 0 is their last one with other codes."""
    log = [{**row, "epoch": row["epoch"] + first.epochs} for row in further.log if row["epoch"]]
    best_epoch = first.epochs + further.best_epoch if lower else first.best_epoch
    return TrainingResult(first.log + log, best_epoch, first.epochs + further.epochs)
