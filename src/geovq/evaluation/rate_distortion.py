"""The least decoded error of codes of given bits, were latents Gaussian and the decoder linear."""

from __future__ import annotations

import math

import numpy as np

SMALLEST_SHARE = 1e-6
"""Eigenvalues of a metric are held above this share of the largest: below, float32 Jacobians say nothing."""

ROUNDING = 1e-12
"""Variances below this share of the largest are zeros that were rounded."""


def expected_error(metric: np.ndarray, covariance: np.ndarray, bits: float, coded_in: np.ndarray) -> float:
    """Decoded error ``tr(metric N)`` that remains after codes of ``bits`` made for the metric ``coded_in``.

    N is the covariance of the error of the best codes of a Gaussian with ``covariance``, best in the squared
    distance ``coded_in``: reverse water-filling over the directions of ``coded_in``. With ``coded_in`` equal
    to ``metric`` no codes decode better. Real codebooks stay above; quotients of two such errors say what a
    metric may gain.

    Parameters
    ----------
    metric : E[J'J] of the decoder (d, d), by which errors count
    covariance : of the latents (d, d)
    bits : of a whole point, at least 0
    coded_in : symmetric, at least one positive eigenvalue (d, d); the unit matrix for Euclidean codes

    Source: Cover and Thomas, "Elements of Information Theory", 2nd edition, theorem 10.3.3.
    """
    values, directions = np.linalg.eigh(coded_in)
    scales = np.sqrt(np.maximum(values, SMALLEST_SHARE * values[-1]))
    root, inverse = (directions * scales) @ directions.T, (directions / scales) @ directions.T
    variances, axes = np.linalg.eigh(root @ covariance @ root)
    remaining = (axes * water_filled(np.maximum(variances, 0.0), bits)) @ axes.T
    return float(np.trace(metric @ inverse @ remaining @ inverse))


def water_filled(variances: np.ndarray, bits: float) -> np.ndarray:
    """What ``bits`` leave of independent Gaussian ``variances (d,)``, at least 0: ``min(variance, level)``.

    >>> water_filled(np.array([4.0, 1.0, 0.01]), 2.0).tolist()
    [0.5, 0.5, 0.01]
    """
    positive = np.sort(variances[variances > ROUNDING * variances.max(initial=0.0)])[::-1]
    if not len(positive):
        return variances
    logs = np.log(positive)
    levels = (np.cumsum(logs) - 2 * math.log(2) * bits) / np.arange(1, len(logs) + 1)
    # The level that the k largest share is right if it is below all of them and above the rest.
    n_coded = max(1, int((levels <= logs).sum()))
    return np.minimum(variances, math.exp(levels[n_coded - 1]))
