"""The stage that shows what each level of a hierarchical model carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geovq.data import to_bytes
from geovq.pipeline.arms import Arm
from geovq.pipeline.context import Context
from geovq.pipeline.tokenizers import arm_inputs, codes_of, load_tokenizer
from geovq.reports.levels import N_IMAGES
from geovq.storage.artifact import save_artifact
from geovq.tokenizer.hierarchical import HierarchicalTokenizer

MOST_NUMBERS = 2**26  # of the training images' quantized latents that a mean is taken of
NUMBERS_A_CHUNK = 2**22


def draw_levels(run: Context, arm: Arm, seed: int) -> Path | None:
    """Test images decoded from their coarsest levels alone, as one artefact; None for an arm of one grid.

    Tensors uint8 (n, C, H, W): ``originals``, and ``0``, ``1``, ... decoded from the levels up to that one,
    the coarsest being 0, every finer level at its mean over training images.
    """
    tokenizer = load_tokenizer(run, arm, seed)
    if not isinstance(tokenizer, HierarchicalTokenizer) or len(tokenizer.layout.grids) == 1:
        return None

    def make(folder: Path, _: Path) -> None:
        codes = codes_of(run, arm, seed).splits
        shown = codes["test"][:N_IMAGES]
        images = run.images("test").images(slice(0, len(shown)))
        tensors = {"originals": to_bytes(images)}
        partly = np.repeat(_mean_latent(tokenizer, codes["train"])[None], len(shown), axis=0)
        whole, start = tokenizer.lookup(shown), 0
        for level, size in enumerate(tokenizer.level_sizes):
            partly[:, start : start + size] = whole[:, start : start + size]
            tensors[str(level)] = to_bytes(tokenizer.decode_latents(partly))
            start += size
        names = [grid.name for grid in tokenizer.layout.grids]
        save_artifact(folder, {"kind": "levels", "arm": arm.name, "levels": names}, tensors)

    path = run.arm_path("levels", arm, seed)
    return run.stages.run("levels", path, arm_inputs(run, arm, seed), make, arm=arm.name, seed=seed)


def _mean_latent(tokenizer: HierarchicalTokenizer, codes: np.ndarray) -> np.ndarray:
    """Quantized latent float32 (D,), mean over training images, or over as many as can be had at once."""
    size = sum(tokenizer.level_sizes)
    codes = codes[: max(1, MOST_NUMBERS // size)]
    rows = max(1, NUMBERS_A_CHUNK // size)
    sums = sum(
        tokenizer.lookup(codes[i : i + rows]).sum(0, dtype=np.float64) for i in range(0, len(codes), rows)
    )
    return np.asarray(sums / len(codes), dtype=np.float32)
