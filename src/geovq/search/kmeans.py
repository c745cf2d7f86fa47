"""k-means on faiss with every setting pinned, finished exactly."""

from __future__ import annotations

import warnings

import faiss
import numpy as np
import torch
from sklearn.cluster import kmeans_plusplus

from geovq.errors import InputError
from geovq.search.cells import cell_means, distinct_rows
from geovq.search.nearest import nearest_codes_and_distances
from geovq.seeding import derive_seed, numpy_generator

MAX_POINTS_PER_CODE = 1024  # that codes are fitted on
START_POINTS_PER_CODE = 64  # among which k-means++ chooses


def kmeans(points: np.ndarray, n_codes: int, seed: int, n_iterations: int = 25) -> np.ndarray:
    """A codebook of ``n_codes`` means by Lloyd's algorithm from a k-means++ start.

    faiss computes in float32 on centred, scaled data and on at most 1,024 points a code; then all points are
    assigned once more, codes without points are moved to the worst-served ones, and the means are taken
    exactly. If fewer points are distinct than there are codes, they become the codebook, the first of them
    fills it up (equal codes lose ties, so the filling is never used) and a warning says so.

    Parameters
    ----------
    points : float (n, d), finite
    n_codes : K, at most n
    seed : of the start and the sample
    n_iterations : Lloyd iterations

    Returns
    -------
    (K, d) in the dtype of ``points``

    Raises
    ------
    InputError
        If ``n_codes`` is below 1 or above n.
    """
    if not 1 <= n_codes <= len(points):
        raise InputError(
            f"n_codes is {n_codes}, but n_samples={len(points)}; expected 1 <= n_codes <= n_samples"
        )
    first, _ = distinct_rows(points)
    if len(first) < n_codes:
        warnings.warn(
            f"n_codes is {n_codes}, but only {len(first)} points are distinct; {n_codes - len(first)} codes "
            "will never be used",
            UserWarning,
            stacklevel=2,
        )
        padding = np.repeat(points[first[:1]], n_codes - len(first), axis=0)
        return np.concatenate([points[first], padding])
    # Centred and scaled, float32 has its digits where the points differ, and no square overflows.
    offset = points.mean(0, dtype=np.float64)
    centered = points - offset
    scale = float(np.abs(centered).max()) or 1.0
    centered /= scale
    codebook = _faiss_kmeans(centered.astype(np.float32), n_codes, seed, n_iterations)
    codebook = _exact_means(centered, codebook.astype(np.float64))
    return (codebook * scale + offset).astype(points.dtype)


def _faiss_kmeans(points: np.ndarray, n_codes: int, seed: int, n_iterations: int) -> np.ndarray:
    clustering = faiss.Kmeans(
        points.shape[1],
        n_codes,
        niter=n_iterations,
        seed=derive_seed(seed, "kmeans") % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=MAX_POINTS_PER_CODE,
    )
    # Random starts, faiss's own, leave clusters without a code and others with two.
    generator = numpy_generator(seed, "kmeans++")
    rows = generator.permutation(len(points))[: START_POINTS_PER_CODE * n_codes]
    random_state = np.random.RandomState(generator.integers(2**31))
    start, _ = kmeans_plusplus(points[rows], n_codes, random_state=random_state)
    clustering.train(np.ascontiguousarray(points), init_centroids=start)
    return np.asarray(clustering.centroids)


def _exact_means(points: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """One Lloyd step on all points, repeated while it leaves a code without points."""
    rows = torch.from_numpy(points)
    for _ in range(len(codebook)):
        codes, distances = (t.numpy() for t in nearest_codes_and_distances(rows, torch.from_numpy(codebook)))
        means, counts = cell_means(points, codes, len(codebook))
        empty = np.flatnonzero(counts == 0)
        if len(empty) == 0:
            return means
        worst = np.argsort(-distances, kind="stable")
        first, _ = distinct_rows(points[worst])
        codebook = means
        codebook[empty] = points[worst[first[: len(empty)]]]
    return codebook
