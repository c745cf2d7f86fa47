"""Where every method starts, and Lloyd's algorithm."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import kmeans_plusplus
from torch import Tensor

from geovq.linear.model import LinearVQVAE
from geovq.search import nearest_codes
from geovq.seeding import numpy_generator

START_POINTS = 8000  # the first of the training points, among which k-means++ chooses
START_ITERATIONS = 20  # of Lloyd on them, before a training by gradients
MOST_ITERATIONS = 1000  # of Lloyd to a fixed point, which comes long before


def principal_subspace(X: Tensor, m: int) -> Tensor:
    """The m axes on which points (n, D) have the largest second moments, orthonormal rows (m, D).

    Second moments about 0 and not variances, for the model has no mean. No other subspace of m dimensions
    loses less: the sum of the other eigenvalues of ``X'X / n``. The largest entry of each axis is positive.
    """
    axes = torch.linalg.eigh(X.T @ X / len(X)).eigenvectors.flip(1)[:, :m].T
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return (axes * largest.sign()).contiguous()


def kmeans_plus_plus(latents: Tensor, K: int, seed: int, start: int = 0) -> Tensor:
    """K of the first 8,000 latents (n, m), each drawn in proportion to its squared distance to those before.

    Arthur & Vassilvitskii, "k-means++: The Advantages of Careful Seeding" (2007), section 2.2, with one draw
    a code. ``start`` numbers the starts of one seed. More codes than 8,000 are drawn from the first K.
    """
    among = latents[: max(START_POINTS, K)].numpy()
    generator = numpy_generator(seed, "linear k-means++", start)
    random_state = np.random.RandomState(generator.integers(2**31))
    codebook, _ = kmeans_plusplus(among, K, random_state=random_state, n_local_trials=1)
    return torch.from_numpy(np.asarray(codebook, dtype=np.float64))


def lloyd_step(latents: Tensor, codebook: Tensor) -> Tensor:
    """The means (K, m) of the latents (n, m) nearest to each code; a code without any stays where it is."""
    codes = nearest_codes(latents, codebook)
    counts = torch.bincount(codes, minlength=len(codebook))[:, None]
    sums = torch.zeros_like(codebook).index_add_(0, codes, latents)
    return torch.where(counts > 0, sums / counts.clamp_min(1), codebook)


def to_fixed_point(latents: Tensor, codebook: Tensor) -> list[Tensor]:
    """The codebooks (K, m) of Lloyd's algorithm on latents (n, m), from a start to the end.

    The end is a codebook that a further step does not change, or that of the 1,000th iteration.
    """
    codebooks = [codebook]
    for _ in range(MOST_ITERATIONS):
        moved = lloyd_step(latents, codebooks[-1])
        if torch.equal(moved, codebooks[-1]):
            break
        codebooks.append(moved)
    return codebooks


def paired_start(X: Tensor, m: int, K: int, seed: int) -> LinearVQVAE:
    """The model that every training by gradients starts from.

    Its encoder is the principal subspace of points (n, D), its codebook 20 iterations of Lloyd's algorithm on
    the first 8,000 of their latents.
    """
    W = principal_subspace(X, m)
    latents = X @ W.T
    codebook = kmeans_plus_plus(latents, K, seed)
    for _ in range(START_ITERATIONS):
        codebook = lloyd_step(latents[:START_POINTS], codebook)
    return LinearVQVAE(W, codebook)
