"""Means over seeds, and differences paired by seed, with 95 % Student-t intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from geovq.errors import InputError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` values and its interval; one value has none (``low`` and ``high`` are None)."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and zero lies outside it."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_interval(values: Sequence[float]) -> Estimate:
    """The mean of independent values (n,) with its 95 % Student-t interval, n - 1 degrees of freedom.

    Raises ``InputError`` if there is no value or one is not finite.

    >>> estimate = mean_interval([1.0, 2.0, 3.0])
    >>> round(estimate.mean, 3), round(estimate.low, 3), round(estimate.high, 3), estimate.n
    (2.0, -0.484, 4.484, 3)
    >>> mean_interval([0.5])
    Estimate(mean=0.5, low=None, high=None, n=1)
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise InputError(f"values are {values!r}; expected at least one, all finite")
    n = array.size
    if n == 1:
        return Estimate(float(array[0]), None, None, 1)
    if (array == array[0]).all():  # the mean of equal numbers may round away from them
        return Estimate(float(array[0]), float(array[0]), float(array[0]), n)
    mean = float(array.mean())
    half_width = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2) * array.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half_width, mean + half_width, n)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """The mean of ``a - b`` over pairs (n,), item i of both from the same seed, with its 95 % t interval.

    Raises ``InputError`` if the lengths differ.

    >>> difference = paired_difference([1.0, 2.0, 3.0], [2.0, 3.5, 4.0])
    >>> round(difference.mean, 3), difference.excludes_zero
    (-1.167, True)
    """
    if len(a) != len(b):
        raise InputError(f"{len(a)} values against {len(b)}; expected one of each for every seed")
    return mean_interval(np.subtract(a, b).tolist())
