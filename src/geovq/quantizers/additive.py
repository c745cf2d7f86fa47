"""Codebooks of an additive code fitted together: least squares given the codes, codes found again by beam.

Legend of suffixes: n points, l levels, k codes, d coordinates.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from geovq.quantizers.base import Quantizer, as_tensor
from geovq.search import beam_search, cell_means

UNKNOWNS_AT_ONCE = 4096  # levels x K of one least-squares system: 134 MB and a few seconds of one core
RIDGE = 1.0  # a code stays where it is with the weight of one point


def refine_codebooks(
    points: np.ndarray, codebooks: np.ndarray, beam: int, n_refinements: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codebooks and codes fitted in turn, until the squared error no longer falls or refinements are used up.

    Every refinement is ``least_squares_codebooks`` followed by ``beam_search`` of all levels. A refinement
    after which the points, as coded by that beam, lie no nearer to their sums is not taken.

    Parameters
    ----------
    points : (n, d)
    codebooks : (L, K, d), the start
    beam : partial sums kept while coding
    n_refinements : at most

    Returns
    -------
    codebooks : (L, K, d), in the dtype of ``points``
    objectives : (refinements taken + 1,), mean squared error of the coded points before each and after the
        last; always falls

    Source: Babenko and Lempitsky, "Additive Quantization for Extreme Vector Compression", CVPR 2014.
    """
    codes, objective = _code(points, codebooks, beam)
    objectives = [objective]
    for _ in range(n_refinements):
        candidate = least_squares_codebooks(points, codes, codebooks).astype(points.dtype)
        codes, objective = _code(points, candidate, beam)
        if objective >= objectives[-1]:
            break
        codebooks = candidate
        objectives.append(objective)
    return codebooks, np.array(objectives)


def _code(points: np.ndarray, codebooks: np.ndarray, beam: int) -> tuple[np.ndarray, float]:
    """Codes int64 (n, L) and the mean squared error that they leave."""
    codes = beam_search(as_tensor(points), as_tensor(codebooks), beam).numpy()
    return codes, float(np.square(_residual(points, codes, codebooks)).sum(1).mean())


def least_squares_codebooks(points: np.ndarray, codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """The codebooks of all levels that serve given codes best, near those given.

    With B (n, L K) the 0/1 matrix of the codes and C (L K, d) the codebooks stacked, the change D minimizes
    ``|X - B C - B D|^2 + ridge |D|^2``, so ``(B'B + ridge) D = B'(X - B C)``; B'B holds the counts of pairs
    of codes, and B is never made. A ridge on the change, not on the codebooks, has three effects: the squared
    error never rises, codes without points stay, and of the many solutions (a constant may move from one
    level to another) the nearest is taken. Of more than 4,096 codes in sum, as many levels as fit are solved
    together, then the next ones.

    Parameters
    ----------
    points : (n, d)
    codes : integers (n, L)
    codebooks : (L, K, d)

    Returns
    -------
    float64 (L, K, d)

    Source: Babenko and Lempitsky, CVPR 2014; Martinez, Clement, Hoos and Little, "Revisiting Additive
    Quantization", ECCV 2016.
    """
    n_levels, n_codes, _ = codebooks.shape
    updated = codebooks.astype(np.float64)
    residual = _residual(points, codes, updated)
    together = max(1, UNKNOWNS_AT_ONCE // n_codes)
    for start in range(0, n_levels, together):
        levels = slice(start, start + together)
        change = _best_change(residual, codes[:, levels], n_codes)
        updated[levels] += change
        residual -= Quantizer.look_up(change, codes[:, levels])
    return updated


def _residual(points: np.ndarray, codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """What the sums leave over, float64 (n, d), taken off level by level: far from the origin, first of all
    the level that holds the offset.
    """
    residual = points.astype(np.float64)
    for level, codebook in enumerate(codebooks):
        residual -= codebook[codes[:, level]]
    return residual


def _best_change(residual: np.ndarray, codes: np.ndarray, n_codes: int) -> np.ndarray:
    """D (L, K, d) with ``(B'B + ridge) D = B' residual``."""
    cells = [cell_means(residual, codes_n, n_codes) for codes_n in codes.T]
    counts = np.concatenate([counts_k for _, counts_k in cells])
    sums = np.concatenate([means_kd * counts_k[:, None] for means_kd, counts_k in cells])
    n_levels, width = codes.shape[1], residual.shape[1]
    if n_levels == 1:
        change = sums / (counts + RIDGE)[:, None]
    else:
        system = _pair_counts(codes, n_codes)
        system[np.diag_indices_from(system)] = counts + RIDGE
        change = cho_solve(cho_factor(system, lower=True, overwrite_a=True), sums)
    return change.reshape(n_levels, n_codes, width)


def _pair_counts(codes: np.ndarray, n_codes: int) -> np.ndarray:
    """B'B below its diagonal: float64 (L K, L K), how many points have both of two codes."""
    n_levels = codes.shape[1]
    counts = np.zeros((n_levels, n_codes, n_levels, n_codes))
    for low in range(n_levels):
        for high in range(low + 1, n_levels):
            pairs = codes[:, high] * n_codes + codes[:, low]
            counts[high, :, low] = np.bincount(pairs, minlength=n_codes**2).reshape(n_codes, n_codes)
    return counts.reshape(n_levels * n_codes, n_levels * n_codes)
