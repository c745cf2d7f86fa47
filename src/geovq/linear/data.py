"""Gaussian data of low rank: what a linear autoencoder is the right model for."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from geovq.errors import InputError, unknown_name
from geovq.seeding import numpy_generator

Part = Literal["train", "evaluation"]

LARGEST_VARIANCE, SMALLEST_VARIANCE = 4.0, 0.25


def low_rank_gaussian(n: int, D: int, rank: int, *, seed: int, part: Part) -> Tensor:
    """Points ``x = U diag(sqrt(v)) g``, g standard normal: of mean 0 and variances v on ``rank`` random axes.

    The axes U (orthonormal) and the variances, falling geometrically from 4 to 0.25 (4 alone if the rank is
    1), depend on the seed alone, the normal numbers on the seed and the part. Fewer points are the first of
    more.

    Parameters
    ----------
    n : points
    D : their dimension
    rank : of their covariance, at most D
    seed : of axes and points
    part : "train" or "evaluation", two independent samples of one distribution

    Returns
    -------
    float64 (n, D)

    Raises
    ------
    InputError
        If n is below 1, the rank is not in 1..D, or there is no such part.
    """
    if n < 1:
        raise InputError(f"n is {n}; expected at least 1 point")
    if not 1 <= rank <= D:
        raise InputError(f"rank is {rank} and D {D}; expected 1 <= rank <= D")
    if part not in get_args(Part):
        raise InputError(unknown_name("part", part, get_args(Part)))
    axes, triangle = np.linalg.qr(numpy_generator(seed, "linear axes").standard_normal((D, rank)))
    axes = axes * np.sign(np.diagonal(triangle))  # else the axes' signs are the linear algebra library's
    deviations = np.sqrt(np.geomspace(LARGEST_VARIANCE, SMALLEST_VARIANCE, rank))
    normal = numpy_generator(seed, f"linear {part} points").standard_normal((n, rank))
    return torch.from_numpy((normal * deviations) @ axes.T)
