"""The nearest code of every point, without ever holding all distances.

Shapes: ``points (n, d)``, ``codebook (K, d)``, codes ``(n,)`` int64. Any device; float64 is kept, anything
narrower than float32 is widened to it. The result does not depend on an enclosing autocast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geovq.errors import InputError

SMALLEST_SPREAD = 1e-12  # of codes: squares of much smaller or larger numbers leave the range of float32
DISTANCES_A_CHUNK = 2**20  # 4 MB in float32: what leaves the cache costs up to five times as much


@torch.no_grad()
def nearest_codes(points: Tensor, codebook: Tensor) -> Tensor:
    """Index of the Euclidean-nearest code of every point, the lowest index if several are equal.

    Parameters
    ----------
    points : (n, d)
    codebook : (K, d)

    Returns
    -------
    int64 (n,)

    Raises
    ------
    InputError
        If the widths differ or the codebook is empty.
    """
    points, codebook = as_floats(points, codebook)
    with torch.autocast(points.device.type, enabled=False):
        points, centered = relative_to_codes(points, codebook)
        half_norms = centered.square().sum(1) / 2
        codes = _argmin_in_chunks(points, centered, half_norms)
    return _lowest_of_equals(codes, codebook)


@torch.no_grad()
def nearest_codes_and_distances(points: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """``nearest_codes`` and the squared distances (n,) to them, computed from the differences."""
    points, codebook = as_floats(points, codebook)
    codes = nearest_codes(points, codebook)
    return codes, (points - codebook[codes]).square().sum(1)


@torch.no_grad()
def nearest_codes_weighted(points: Tensor, weights: Tensor, codebook: Tensor) -> Tensor:
    """argmin_k sum_j w_j (x_j - c_kj)^2 with one positive weight a coordinate of every point.

    With ``weights = 1 / sigma^2`` this is the precision-weighted distance from a Gaussian to a point code.

    Parameters
    ----------
    points, weights : (n, d)
    codebook : (K, d)

    Returns
    -------
    int64 (n,); the lowest index if several codes are equal.

    Raises
    ------
    InputError
        If the shapes do not fit.
    """
    points, codebook = as_floats(points, codebook)
    if weights.shape != points.shape:
        raise InputError(
            f"weights have shape {tuple(weights.shape)}; expected that of points, {tuple(points.shape)}"
        )
    weights = weights.to(points.dtype)
    with torch.autocast(points.device.type, enabled=False):
        points, centered = relative_to_codes(points, codebook)
        weights = weights / power_of_two_near(weights.amax(1))[:, None]
        # w.(x - c)^2 / 2 = const - [w x, w].[c, -c^2 / 2]: one matrix product, as without weights.
        stacked = torch.cat([points * weights, weights], dim=1)
        features = torch.cat([centered, centered.square() / -2], dim=1)
        codes = _argmin_in_chunks(stacked, features, features.new_zeros(len(features)))
    return _lowest_of_equals(codes, codebook)


@torch.no_grad()
def lowest_scores(queries: Tensor, features: Tensor, offsets: Tensor | None = None) -> Tensor:
    """argmin_k (b_k - q.f_k): the code of least cost, for every cost that is such a product.

    Parameters
    ----------
    queries : (n, f), what a cost needs of each point
    features : (K, f), what it needs of each code
    offsets : (K,), the part ``b`` that no point changes; 0 by default

    Returns
    -------
    int64 (n,); the lowest index if several codes have equal features and offsets.

    Raises
    ------
    InputError
        If the widths differ or there are no codes.
    """
    queries, features = as_floats(queries, features)
    zero = features.new_zeros(len(features))
    offsets = zero if offsets is None else offsets.to(features)
    with torch.autocast(queries.device.type, enabled=False):
        codes = _argmin_in_chunks(queries, features, offsets)
    return _lowest_of_equals(codes, torch.cat([features, offsets[:, None]], dim=1))


def relative_to_codes(points: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Both relative to a place amid the codes, in units in which squares of their distances are numbers.

    |x - c|^2 = |x|^2 - 2 x.c + |c|^2 loses digits when the data lie far from the origin.
    """
    # The median is where most codes are, even if one of them is an outlier.
    offset = codebook.median(0).values
    points, centered = points - offset, codebook - offset
    unit = unit_of(float(centered.abs().max()))
    return (points, centered) if unit == 1 else (points / unit, centered / unit)


def unit_of(largest: float) -> float:
    """1, or the ``largest`` of numbers that are so large or small that float32 has not their squares."""
    return 1.0 if largest == 0 or SMALLEST_SPREAD < largest < 1 / SMALLEST_SPREAD else largest


def power_of_two_near(values: Tensor) -> Tensor:
    """The least power of 2 above each of ``values``, positive; dividing by it changes no digit."""
    largest = round(-math.log2(torch.finfo(values.dtype).tiny))
    exponents = torch.frexp(values).exponent.clamp(-largest, largest)
    return torch.ldexp(torch.ones_like(values), exponents)


def relative_precisions(sigma: Tensor) -> Tensor:
    """``1 / sigma^2`` of standard deviations (n, d), each row over a power of 4 near its largest.

    Weights for ``nearest_codes_weighted``, to which that makes no difference: in float32 the squares of
    standard deviations below 1e-19 or above 1e19 are 0 or infinite.
    """
    sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32))
    return (sigma / power_of_two_near(sigma.amin(1))[:, None]) ** -2


def _argmin_in_chunks(points: Tensor, codebook: Tensor, offsets: Tensor) -> Tensor:
    """argmin_k offsets_k - x.c_k for every row x."""
    rows = max(1, min(len(points), DISTANCES_A_CHUNK // len(codebook)))
    scores = points.new_empty(rows, len(codebook))  # one buffer: fresh memory costs more than the product
    codes = torch.empty(len(points), dtype=torch.int64, device=points.device)
    for start in range(0, len(points), rows):
        part = points[start : start + rows]
        torch.addmm(offsets, part, codebook.T, alpha=-1, out=scores[: len(part)])
        codes[start : start + rows] = lowest_of_rows(scores[: len(part)])
    return codes


@torch.compiler.disable
def lowest_of_rows(scores: Tensor) -> Tensor:
    """Column int64 (n,) of the lowest of each row of scores (n, K), the first of equals."""
    if scores.device.type == "cpu":
        # NumPy compares many numbers at once: faster than PyTorch on a processor.
        return torch.from_numpy(scores.numpy().argmin(1))
    return scores.argmin(1)


def _lowest_of_equals(codes: Tensor, codebook: Tensor) -> Tensor:
    """Codes in which every code is replaced by the first one with the same row.

    A matrix product may round two equal columns differently, so argmin alone does not find the lowest.
    """
    first_coordinate = codebook[:, 0].sort().values
    if not bool((first_coordinate[1:] == first_coordinate[:-1]).any()):
        return codes  # cheap, and true of nearly every codebook
    _, group = torch.unique(codebook, dim=0, return_inverse=True)
    indices = torch.arange(len(codebook), device=codebook.device)
    first = torch.full_like(indices, len(codebook)).scatter_reduce_(0, group, indices, "amin")
    return first[group[codes]]


def as_floats(points: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one dtype, float32 at least, and on the device of ``points``.

    Raises ``InputError`` if the widths differ or the codebook is empty.
    """
    fits = points.ndim == 2 and codebook.ndim == 2 and points.shape[1] == codebook.shape[1]
    if not fits or codebook.numel() == 0:
        raise InputError(
            f"points have shape {tuple(points.shape)} and the codebook {tuple(codebook.shape)}; "
            "expected (n, d) and (K, d) with the same d > 0 and K > 0"
        )
    dtype = torch.promote_types(torch.promote_types(points.dtype, codebook.dtype), torch.float32)
    return points.to(dtype), codebook.to(points.device, dtype)
