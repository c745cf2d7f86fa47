"""Single jobs on stored tokenizers and priors: tokenize, evaluate, sample."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from geovq.config import DataConfig
from geovq.data import ImageSplits, chunks_of, load, to_bytes
from geovq.errors import ConfigError, CorruptArtifactError, StorageError
from geovq.evaluation.codebook import codebook_use, usage_counts
from geovq.evaluation.rate import code_rate
from geovq.evaluation.reconstruction import evaluate_reconstruction
from geovq.pipeline.context import SPLITS
from geovq.priors import load_prior
from geovq.reports.pictures import SIDE, contact_sheet
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.atomic import storage_errors, write_bytes
from geovq.tokenizer.codes import StoredCodes, save_codes
from geovq.tokenizer.finetune import tokenizer_codes
from geovq.tokenizer.loading import AnyTokenizer, from_pretrained


def tokenize(folder: Path, data: DataConfig, out: Path, *, latents: bool = False) -> StoredCodes:
    """Encode every split of a data set and store the codes as an artefact in ``out``."""
    set_threads(threads_wanted())
    tokenizer = from_pretrained(folder)
    splits = _fitting(tokenizer, data)
    with storage_errors(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise StorageError(f"{out}: exists and is not an empty folder; choose another --out")
    codes: dict[str, np.ndarray] = {}
    extra: dict[str, np.ndarray] = {}
    for split in SPLITS:
        images = getattr(splits, split)
        if latents:
            chunks = [_encoded(tokenizer, images.images(rows)) for rows in chunks_of(images)]
            mean, sigma, codes[split] = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
            extra |= {f"{split}.mean": mean, f"{split}.sigma": sigma}
        else:
            codes[split] = tokenizer_codes(tokenizer, images)
        if images.labels is not None:
            extra[f"{split}.labels"] = images.labels
    stored = StoredCodes(tokenizer.layout, tokenizer.fingerprint, codes)
    save_codes(out, stored, splits.fingerprint, extra)
    return stored


def evaluate(folder: Path, data: DataConfig) -> dict[str, float]:
    """Metrics of a tokenizer on the test images; code histograms come from the training images.

    A tokenizer that calls its decoder to encode, which takes long, has no histograms and no entropy.
    """
    set_threads(threads_wanted())
    tokenizer = from_pretrained(folder)
    splits = _fitting(tokenizer, data)
    codes = tokenizer_codes(tokenizer, splits.test)
    measured = evaluate_reconstruction(splits.test, lambda rows: tokenizer.decode(codes[rows]))
    use = codebook_use(usage_counts(tokenizer.layout, codes))
    rate = {"bits_nominal": tokenizer.layout.bits}
    if not tokenizer.encodes_slowly:
        rate = code_rate(tokenizer.layout, tokenizer_codes(tokenizer, splits.train), codes)
    return {**measured.values, **rate, **use}


def sample(
    folder: Path, n: int, out: Path, *, temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    """Draw ``n`` images from a stored prior and write them as one PNG grid.

    Raises ``CorruptArtifactError`` if the tokenizer beside the prior is not the one it was trained on.
    """
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out is '{out}'; expected a file name that ends in .png")
    set_threads(threads_wanted())
    prior, info = load_prior(folder)
    if not info.tokenizer_path.is_dir():
        raise CorruptArtifactError(
            f"{folder}: its tokenizer is missing at {info.tokenizer_path}; move both together"
        )
    tokenizer = from_pretrained(info.tokenizer_path)
    if tokenizer.fingerprint != info.tokenizer_fingerprint:
        raise CorruptArtifactError(
            f"{info.tokenizer_path}: tokenizer {tokenizer.fingerprint[:12]}… is not the one this prior was "
            f"trained on ({info.tokenizer_fingerprint[:12]}…); train the prior again"
        )
    codes = prior.sample(n, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    images = to_bytes(tokenizer.decode(codes))
    side = max(SIDE, *images.shape[2:])  # never smaller than they are
    write_bytes(out, contact_sheet(images, math.ceil(math.sqrt(n)), alt="", side=side).png)


def _encoded(tokenizer: AnyTokenizer, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posterior mean, sigma and codes of images."""
    return *tokenizer.posterior(images), tokenizer.encode(images)


def _fitting(tokenizer: AnyTokenizer, data: DataConfig) -> ImageSplits:
    """The data set, resized and converted to what the tokenizer expects where the source allows it."""
    channels, height, width = tokenizer.image_shape
    if data.source.startswith("folder:") and height == width:
        data = DataConfig(data.source, image_size=height, channels=channels if channels in (1, 3) else 0)
    splits = load(data)
    if splits.image_shape != tokenizer.image_shape:
        raise ConfigError(
            f"{data.source}: images have shape {splits.image_shape}; this tokenizer expects "
            f"{tokenizer.image_shape}"
        )
    return splits
