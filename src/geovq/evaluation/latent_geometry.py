"""Measuring the latents of a trained continuous autoencoder and what its decoder makes of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from geovq.errors import InputError
from geovq.evaluation.diagnosis import Diagnosis
from geovq.evaluation.flat_space import paths_against_lines
from geovq.evaluation.rate_distortion import expected_error
from geovq.geometry import Latents
from geovq.geometry.decoder_calls import Decoder
from geovq.geometry.decoder_metric import DecoderMetric
from geovq.models.cut import cut, token_dim
from geovq.seeding import numpy_generator

N_IMAGES, N_GRAPH = 256, 5000
N_STATISTICS = 20_000  # latents that KL and covariance are taken from, at most
BITS_A_DIMENSION = 2.0  # wanted where neither bits nor sigma say more
LEAST_VARIATION = 1e-4  # of logarithms: below, float32 makes the ranks


def diagnose(
    decoder: Decoder,
    mean: np.ndarray | Tensor,
    sigma: np.ndarray | Tensor | None = None,
    *,
    tokens: tuple[int, int] | None = None,
    bits: float | None = None,
    seed: int = 0,
    n_images: int = N_IMAGES,
    n_graph: int = N_GRAPH,
) -> Diagnosis:
    """Which metric and which structure the latents of a continuous autoencoder should be quantized with.

    Takes d Jacobian-vector products at each of ``n_images`` latents, d being all numbers of a flat latent or
    those of one site of a map, and holds ``n_images`` d^2 numbers.

    Parameters
    ----------
    decoder : module or function, latents (N, *latent_shape) -> images (N, ...), row by row in eval mode
    mean : latents (N, D) or maps (N, D, h, w); posterior means where the encoder gives Gaussians
    sigma : posterior standard deviations in the shape of ``mean``; None or all zeros where it gives points
    tokens : grid (height, width) that codes are to stand on, which must cut the latent evenly; one token of a
        flat latent, the sites of a map by default
    bits : wanted of an image; by default the KL bits of the latents, without sigma 2 a dimension
    seed : of the latents looked at
    n_images : latents at which the Jacobian is taken, at least 2
    n_graph : tokens that the neighbour graph joins, at most

    Returns
    -------
    Diagnosis; ``diagnosis.recommendation`` is one sentence, ``diagnosis.to_json()`` has all numbers

    Raises
    ------
    InputError
        If the latents are not finite or not of one of these shapes, sigma is negative, or zero in parts, a
        number is out of range, or the decoder gives anything but one finite image for every latent or has no
        forward derivative.

    >>> decoder = lambda latents: latents * torch.tensor([10.0, 1.0])  # yours: any module
    >>> latents = numpy_generator(0, "latents").standard_normal((500, 2))
    >>> diagnose(decoder, latents).recommendation.partition(",")[0]
    "Quantize in the mean pull-back metric (eigenvalues of E[J'J] spread 100:1"
    """
    means, sigmas = _checked(mean, sigma)
    shape = means.shape[1:]
    grid = tokens or ((1, 1) if len(shape) == 1 else (shape[1], shape[2]))
    token_dim(shape, grid)
    _check_numbers(bits, n_images, n_graph)
    draw = numpy_generator(seed, "diagnosed latents")
    rows = np.sort(draw.choice(len(means), min(N_STATISTICS, len(means)), replace=False))
    kl_bits = None if sigmas is None else _kl_bits(means[rows], sigmas[rows])
    if bits is None:
        bits = BITS_A_DIMENSION * math.prod(shape) if kl_bits is None else float(kl_bits.sum())
    # A flat latent has one metric, whatever it is cut into; the sites of a map share one.
    sites = (1, 1) if len(shape) == 1 else grid
    n_sites, n_tokens = math.prod(sites), math.prod(grid)
    images = np.sort(draw.choice(len(means), min(n_images, len(means)), replace=False))
    at = draw.integers(n_sites, size=len(images))
    metrics = _metrics(decoder, means[images], sites, at)
    metric = metrics.mean(0, dtype=np.float64)
    precision = None if sigmas is None else _token(sigmas[images], sites, at) ** -2.0
    covariance = _covariance(_tokens(means[rows], sites))
    image, token = np.divmod(np.unique(draw.integers(len(means) * n_tokens, size=n_graph)), n_tokens)
    return Diagnosis(
        latent_shape=shape,
        tokens=(int(grid[0]), int(grid[1])),
        bits=float(bits),
        n_images=len(images),
        kl_bits=None if kl_bits is None else tuple(kl_bits.tolist()),
        eigenvalues=tuple(np.maximum(np.linalg.eigvalsh(metric)[::-1], 0.0).tolist()),
        **_changes(metrics, metric),
        **_agreement(precision, metrics),
        **_expected_errors(metric, covariance, precision, bits / n_sites, n_tokens // n_sites),
        paths=paths_against_lines(_token(means[image], grid, token), seed),
    )


def _checked(
    mean: np.ndarray | Tensor, sigma: np.ndarray | Tensor | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Latents as arrays; no sigma if it is zero throughout."""
    means = _array(mean)
    if means.ndim not in (2, 4) or len(means) < 2 or means[0].size == 0:
        raise InputError(
            f"mean has shape {means.shape}; expected at least 2 flat latents (N, D) or maps (N, D, h, w), as "
            "they go into the decoder"
        )
    _check_rows("mean", np.isfinite(means), "NaN or infinity", "finite numbers")
    sigmas = None if sigma is None else _array(sigma)
    if sigmas is None:
        return means, None
    if sigmas.shape != means.shape:
        raise InputError(f"sigma has shape {sigmas.shape}; expected that of mean, {means.shape}")
    if not sigmas.any():
        return means, None
    expected = "positive finite numbers, or zero throughout for an encoder that gives points"
    positive = np.asarray(np.isfinite(sigmas) & (sigmas > 0))
    _check_rows("sigma", positive, "numbers that are no deviations", expected)
    return means, sigmas


def _check_rows(name: str, valid: np.ndarray, found: str, expected: str) -> None:
    wrong = np.asarray(~valid.reshape(len(valid), -1).all(1))
    if wrong.any():
        raise InputError(
            f"{name} has {found} in {wrong.sum()} of {len(wrong)} rows, first in row {wrong.argmax()}; "
            f"expected {expected}"
        )


def _check_numbers(bits: float | None, n_images: int, n_graph: int) -> None:
    if bits is not None and not 0 < bits < math.inf:
        raise InputError(f"bits is {bits}; expected a finite number of bits an image, above 0")
    for name, value in (("n_images", n_images), ("n_graph", n_graph)):
        if value < 2:
            raise InputError(f"{name} is {value}; expected at least 2")


def _array(values: np.ndarray | Tensor) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _tokens(latents: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Latents (n, *latent_shape) as float64 tokens (n, T, d)."""
    return cut(torch.from_numpy(latents.astype(np.float64)), grid).numpy()


def _token(latents: np.ndarray, grid: tuple[int, int], at: np.ndarray) -> np.ndarray:
    """Token ``at[i]`` of latent i, float64 (n, d)."""
    return _tokens(latents, grid)[np.arange(len(at)), at]


def _kl_bits(means: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Mean KL to N(0, I) of every dimension, bits summed over sites (D,)."""
    wide = sigmas.astype(np.float64)
    nats = (np.square(means, dtype=np.float64) + wide**2 - 1) / 2 - np.log(wide)
    totals: np.ndarray = nats.reshape(*means.shape[:2], -1).sum(2).mean(0) / math.log(2)
    return totals


def _covariance(tokens: np.ndarray) -> np.ndarray:
    return np.atleast_2d(np.cov(tokens.reshape(-1, tokens.shape[2]).T))


def _metrics(decoder: Decoder, latents: np.ndarray, grid: tuple[int, int], at: np.ndarray) -> np.ndarray:
    """J'J (n, d, d) of token ``at[i]`` of latent i."""
    rows = np.arange(len(latents)) * math.prod(grid) + at
    points = Latents(_token(latents, grid, at), rows=rows)
    metrics = DecoderMetric(decoder, latents).prepared(points).metrics
    assert metrics is not None
    return metrics


def _changes(metrics: np.ndarray, metric: np.ndarray) -> dict[str, float]:
    """How far metrics (n, d, d) lie from their mean: as they are, and scaled to norm 1."""
    norms = np.array([np.linalg.norm(each.astype(np.float64)) for each in metrics])
    if not norms.all():
        return {"metric_change": 0.0, "shape_change": 0.0}
    unit = np.einsum("n,nij->ij", 1 / norms, metrics) / len(metrics)
    change = np.square(norms).mean() / np.square(np.linalg.norm(metric)) - 1
    # Of unit metrics the mean square distance from their mean is 1 minus its squared norm.
    shape = 1 - np.square(np.linalg.norm(unit))
    return {"metric_change": math.sqrt(max(0.0, change)), "shape_change": math.sqrt(max(0.0, shape))}


def _agreement(precision: np.ndarray | None, metrics: np.ndarray) -> dict[str, Any]:
    """Rank correlations of precision (n, d) and diag J'J, across dimensions and within them."""
    diagonal = np.diagonal(metrics, axis1=1, axis2=2).astype(np.float64)
    if precision is None or not (diagonal > 0).all():
        return {"precision_across": None, "precision_within": None}
    precisions, steepness = np.log(precision), np.log(diagonal)
    return {
        "precision_across": _spearman(np.log(precision.mean(0)), np.log(diagonal.mean(0))),
        "precision_within": _spearman(precisions - precisions.mean(0), steepness - steepness.mean(0)),
    }


def _spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    if min(first.std(), second.std()) < LEAST_VARIATION:
        return None
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def _expected_errors(
    metric: np.ndarray,
    covariance: np.ndarray,
    precision: np.ndarray | None,
    bits: float,
    n_chunks: int,
) -> dict[str, Any]:
    """Expected errors at ``bits`` a latent, or a site of a map, relative to those of other codes."""
    d = len(metric)
    errors: dict[str, Any] = dict.fromkeys(("mean_metric_error", "precision_error", "apart_error"))
    euclidean = expected_error(metric, covariance, bits, np.eye(d))
    if not euclidean > 0:
        return errors
    whole = expected_error(metric, covariance, bits, metric)
    errors["mean_metric_error"] = whole / euclidean
    if precision is not None:
        weights = np.diag(precision.mean(0))
        errors["precision_error"] = expected_error(metric, covariance, bits, weights) / euclidean
    if n_chunks > 1:
        chunks = np.split(np.arange(d), n_chunks)
        blocks = [(metric[np.ix_(chunk, chunk)], covariance[np.ix_(chunk, chunk)]) for chunk in chunks]
        apart = [expected_error(m, c, bits / n_chunks, m) for m, c in blocks if m.any()]
        errors["apart_error"] = sum(apart) / whole
    return errors
