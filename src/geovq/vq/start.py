"""Where a codebook starts: k-means on the first batch, as SoundStream does, or a fitted quantizer's.

Zeghidour et al., "SoundStream: An End-to-End Neural Audio Codec" (2021), section III.C.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from geovq.errors import CorruptArtifactError, InputError
from geovq.search import kmeans
from geovq.seeding import derive_seed, torch_generator
from geovq.storage.artifact import load_artifact
from geovq.vq.distributed import gathered, of_first_rank

MOST_VECTORS_PER_CODE = 256  # of a large first batch; more do not make a better start


@torch.compiler.disable
@torch.no_grad()
def kmeans_start(flat: Tensor, n_codes: int, seed: int) -> Tensor:
    """A codebook (K, d) of k-means centres of the vectors (n, d) of all processes, the same in each.

    Fewer vectors than codes are enlarged by mixtures of themselves.
    """
    every = max(1, len(flat) // (MOST_VECTORS_PER_CODE * n_codes))
    vectors = enlarged(gathered(flat[::every]), n_codes, seed)
    centres = kmeans(vectors.cpu().numpy(), n_codes, derive_seed(seed, "k-means start"))
    # Threads may differ between machines, and k-means' sums with them.
    return of_first_rank(torch.from_numpy(centres).to(flat))


@torch.no_grad()
def enlarged(flat: Tensor, n_wanted: int, seed: int) -> Tensor:
    """At least ``n_wanted`` vectors: those given (n, d), and mixtures of pairs if they are too few.

    ``cos(t) a + sin(t) b`` of independent vectors has their mean, once centred, and their covariance.
    Raises ``InputError`` if there are fewer than two vectors.
    """
    n_missing = n_wanted - len(flat)
    if n_missing <= 0:
        return flat
    if len(flat) < 2:
        raise InputError(
            "the first training batch gives 1 vector to start a codebook from; expected at least 2; enlarge "
            "the batch"
        )
    generator = torch_generator(seed, "mixtures")
    pairs = torch.randint(len(flat), (2, n_missing), generator=generator).to(flat.device)
    angles = torch.rand(n_missing, 1, generator=generator).to(flat.device) * (math.pi / 2)
    mean = flat.mean(0)
    first, second = (flat - mean)[pairs]
    return torch.cat([flat, mean + angles.cos() * first + angles.sin() * second])


def read_codebook(folder: str | Path) -> list[Tensor]:
    """The additive codebooks (K_l, d), one a level, of a quantizer saved in ``folder``.

    For ``layer.start_from``. Raises ``CorruptArtifactError`` if the folder is damaged or holds no quantizer.
    """
    config, arrays = load_artifact(Path(folder))
    books = [arrays["codebook_"]] if "codebook_" in arrays else []
    while f"codebook_{len(books)}" in arrays:
        books.append(arrays[f"codebook_{len(books)}"])
    if config.get("type") != "quantizer" or not books:
        raise CorruptArtifactError(
            f"{folder}: holds type {config.get('type')!r}; expected a quantizer with a codebook"
        )
    levels = [level for book in books for level in (book if book.ndim == 3 else [book])]
    return [torch.from_numpy(level.copy()).float() for level in levels]
