"""The stage that decodes the codes of an arm one by one and finds test images that use them.

A code is shown at the token where training images use it most, everything else at its mean over the training
images: the other tokens, and the other levels of its own token. Levels of a quantizer add up, so that mean
needs no image to be decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geovq.data import to_bytes
from geovq.models.cut import cut
from geovq.pipeline.arms import Arm
from geovq.pipeline.context import Context
from geovq.pipeline.tokenizers import arm_inputs, codes_of, latent_chunks, load_tokenizer
from geovq.storage.artifact import save_artifact
from geovq.tokenizer.latent import LatentTokenizer

N_CODES = 256  # shown of a single level, the most used
N_MOST, N_LEAST = (
    16,
    8,
)  # codes with examples: the most and the least used; of several levels the most used alone
N_EXAMPLES = 3
MOST_NUMBERS = 2**25  # of the test images' tokens among which examples are looked for


@dataclass(frozen=True)
class CodeTables:
    """The vectors that codes stand for, and how often training images use them.

    ``origin (d,)`` is the token of the codes 0; ``steps`` has for each of L levels what its codes add to it,
    float64 (K_l, d); ``shares`` the share of training images with each code, (T, K_l) over T tokens.
    """

    origin: np.ndarray
    steps: list[np.ndarray]
    shares: list[np.ndarray]

    @property
    def mean_steps(self) -> list[np.ndarray]:
        """What a level adds at each token on average, (T, d) a level."""
        return [share @ step for share, step in zip(self.shares, self.steps, strict=True)]

    @property
    def mean_tokens(self) -> np.ndarray:
        """Quantized tokens (T, d), mean over the training images."""
        mean: np.ndarray = self.origin + sum(self.mean_steps)
        return mean


def draw_atlas(run: Context, arm: Arm, seed: int) -> Path | None:
    """Every shown code of an arm decoded alone, and test images that use it, as one artefact.

    None for an arm whose tokenizer is hierarchical: its codes do not stand for vectors of one latent.

    Tensors of each level l: ``l.codes`` int64 (n,), the codes shown, most used by test images first;
    ``l.tiles`` uint8 (n, C, H, W), each decoded alone: the image, or where one code changes little of it the
    change of the mean image, grey where there is none; ``l.featured`` int64 (f,), places in ``l.codes``;
    ``l.examples`` int64 (f, 3), the test images that use a featured code and whose token is nearest to it, -1
    where fewer use it; ``l.images`` uint8 (f, 3, C, H, W), those. ``config.json`` has for every level its
    number of codes ``n_codes``, the share of test images that ``use`` each, and ``full_change``: the change
    of intensity that is shown as black or white, or null where the tiles are images.
    """

    tokenizer = load_tokenizer(run, arm, seed)
    if not isinstance(tokenizer, LatentTokenizer):
        return None

    def make(folder: Path, _: Path) -> None:
        config, tensors = _atlas(run, arm, seed, tokenizer)
        save_artifact(folder, {"kind": "atlas", "arm": arm.name, **config}, tensors)

    path = run.arm_path("atlas", arm, seed)
    return run.stages.run("atlas", path, arm_inputs(run, arm, seed), make, arm=arm.name, seed=seed)


def code_tables(tokenizer: LatentTokenizer, train_codes: np.ndarray) -> CodeTables:
    """The tables of a tokenizer with one grid, shares from training codes (N, S)."""
    (grid,) = tokenizer.layout.grids
    (parts,) = tokenizer.layout.split(train_codes)
    per_token = parts.reshape(len(parts), -1, len(grid.n_codes))
    steps, shares = [], []
    origin = np.empty(0)
    for level, n_codes in enumerate(grid.n_codes):
        codes = np.zeros((n_codes, tokenizer.layout.n_slots), dtype=np.int64)
        codes[:, level] = np.arange(n_codes)
        vectors = tokens_of_latents(tokenizer, tokenizer.lookup(codes))[:, 0].astype(np.float64)
        origin = vectors[0]
        steps.append(vectors - origin)
        counts = [np.bincount(token, minlength=n_codes) for token in per_token[..., level].T]
        shares.append(np.stack(counts) / len(per_token))
    return CodeTables(origin, steps, shares)


def tokens_of_latents(tokenizer: LatentTokenizer, latents: np.ndarray) -> np.ndarray:
    """Latents (N, *latent_shape) as the tokens (N, T, d) that the quantizer sees."""
    whole = torch.from_numpy(latents)
    mapped = whole if tokenizer.latent_map is None else tokenizer.latent_map(whole)
    return cut(mapped, tokenizer.tokens).numpy()


def decoded_alone(
    tokenizer: LatentTokenizer, tables: CodeTables, level: int, codes: np.ndarray
) -> np.ndarray:
    """Images float32 (n, C, H, W) of ``codes (n,)`` of one level, each with everything else at its mean."""
    tokens = np.repeat(tables.mean_tokens[None], len(codes), axis=0)
    places = tables.shares[level][:, codes].argmax(0)
    mean_step = tables.mean_steps[level][places]
    tokens[np.arange(len(codes)), places] += tables.steps[level][codes] - mean_step
    return _decode(tokenizer, tokens)


def nearest_images(
    tables: CodeTables, tokens: np.ndarray, codes: np.ndarray, level: int, wanted: np.ndarray
) -> np.ndarray:
    """Images whose token is nearest to a code, of those that use it: int64 (len(wanted), 3), -1 for none.

    ``tokens (N, T, d)`` are those of the images before quantization, ``codes (N, T, L)`` theirs; ``wanted``
    are codes of one level. A token is compared with the code in the coordinates that the level changes, the
    levels before taken as they are and those after at their mean.
    """
    changed = np.ptp(tables.steps[level], axis=0) > 0
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for place in range(tokens.shape[1]):
        own = codes[:, place, level]
        rows = np.flatnonzero(np.isin(own, wanted))
        rest = tokens[rows, place].astype(np.float64) - tables.origin
        for other, steps in enumerate(tables.steps):
            if other <= level:
                rest -= steps[codes[rows, place, other]]
            else:
                rest -= tables.mean_steps[other][place]
        found.append((own[rows], np.square(rest[:, changed]).sum(1), rows))
    of_code, distances, images = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((images, distances, of_code))
    nearest = np.full((len(wanted), N_EXAMPLES), -1, dtype=np.int64)
    for row, code in enumerate(wanted):
        mine = images[order[of_code[order] == code]]
        _, first = np.unique(mine, return_index=True)  # an image may use a code at several tokens
        closest = mine[np.sort(first)[:N_EXAMPLES]]
        nearest[row, : len(closest)] = closest
    return nearest


def share_of_images(codes: np.ndarray, n_codes: int) -> np.ndarray:
    """Share of images, (n_codes,), with each code at one token at least; ``codes (N, T)``."""
    pairs = np.unique(codes + n_codes * np.arange(len(codes))[:, None])
    return np.bincount(pairs % n_codes, minlength=n_codes) / len(codes)


def _atlas(
    run: Context, arm: Arm, seed: int, tokenizer: LatentTokenizer
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    stored = codes_of(run, arm, seed)
    (grid,) = stored.layout.grids
    tables = code_tables(tokenizer, stored.splits["train"])
    (parts,) = stored.layout.split(stored.splits["test"])
    codes = parts.reshape(len(parts), -1, len(grid.n_codes))
    tokens = _test_tokens(run, arm, seed, tokenizer)
    mean_image = _decode(tokenizer, tables.mean_tokens[None])
    levels: list[dict[str, Any]] = []
    tensors: dict[str, np.ndarray] = {}
    for level, n_codes in enumerate(grid.n_codes):
        use = share_of_images(codes[..., level], n_codes)
        shown = np.argsort(-use, kind="stable")[: N_CODES if len(grid.n_codes) == 1 else N_MOST]
        images = decoded_alone(tokenizer, tables, level, shown)
        # One site of a map, or a later level, changes too little of an image for the whole to show it.
        full_change = None
        if level > 0 or len(tokenizer.latent_shape) == 3:
            changes = images - mean_image
            # Not the largest of all: one code that changes much would leave the others grey.
            full_change = float(np.median(np.abs(changes).max((1, 2, 3))))
            images = 0.5 + changes / (2 * max(full_change, 1e-12))
        featured = _featured(int((use[shown] > 0).sum()))
        examples = nearest_images(tables, tokens, codes[: len(tokens)], level, shown[featured])
        tensors |= {
            f"{level}.codes": shown,
            f"{level}.tiles": to_bytes(images),
            f"{level}.featured": featured,
            f"{level}.examples": examples,
            f"{level}.images": _example_images(run, examples),
        }
        levels.append({"n_codes": n_codes, "full_change": full_change, "use": use.tolist()})
    return {"n_images": len(codes), "n_tokens": codes.shape[1], "levels": levels}, tensors


def _test_tokens(run: Context, arm: Arm, seed: int, tokenizer: LatentTokenizer) -> np.ndarray:
    """Tokens (n, T, d) of the first test images, all of them unless they are more than memory should hold."""
    parts: list[np.ndarray] = []
    for _, mean, _ in latent_chunks(run, arm, seed, "test"):
        parts.append(tokens_of_latents(tokenizer, mean))
        if sum(part.size for part in parts) >= MOST_NUMBERS:
            break
    return np.concatenate(parts)


def _featured(n_used: int) -> np.ndarray:
    """Places of the most and the least used of ``n_used`` codes in order of use."""
    least = max(min(N_MOST, n_used), n_used - N_LEAST)
    return np.concatenate([np.arange(min(N_MOST, n_used)), np.arange(least, n_used)])


def _example_images(run: Context, rows: np.ndarray) -> np.ndarray:
    """Test images uint8 (f, 3, C, H, W) of ``rows (f, 3)``, white where a row is -1."""
    pictures = np.full((*rows.shape, *run.splits.image_shape), 255, dtype=np.uint8)
    pictures[rows >= 0] = to_bytes(run.images("test").images(rows[rows >= 0]))
    return pictures


def _decode(tokenizer: LatentTokenizer, tokens: np.ndarray) -> np.ndarray:
    (images,) = tokenizer.in_batches(lambda batch: (tokenizer.decode_tokens(batch.float()),), tokens)
    return images
