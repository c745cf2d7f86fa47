"""Checks of what a quantizer is given."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from geovq.errors import InputError, unknown_name


def check_points(estimator: BaseEstimator, X: Any, reset: bool) -> np.ndarray:
    """``X`` as finite float32 or float64 ``(n, d)``; ``reset`` records its width, else it must be the same.

    Raises ``InputError``, or the ``TypeError`` that scikit-learn prescribes for sparse matrices.
    """
    try:
        points = validate_data(
            estimator, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False, order="C"
        )
    except ValueError as error:
        message = " ".join(str(error).split())
        raise InputError(message if message.startswith("X ") else f"X: {message}") from None
    check_finite("X", points)
    return points


def check_sigma(sigma: Any, points: np.ndarray, expected: bool | None = None) -> np.ndarray | None:
    """``sigma`` as positive numbers in the shape and dtype of ``points``, or ``None``.

    ``expected`` is whether the quantizer was fitted with sigma (``None``: it is being fitted). Raises
    ``InputError`` if that differs.
    """
    if expected is not None and expected != (sigma is not None):
        fitted, called = ("with", "without") if expected else ("without", "with")
        raise InputError(
            f"the quantizer was fitted {fitted} sigma and is called {called} it; "
            "fit and assignment use one metric: give sigma to both or to neither"
        )
    if sigma is None:
        return None
    try:
        array = np.ascontiguousarray(sigma, dtype=points.dtype)
    except (TypeError, ValueError) as error:
        raise InputError(f"sigma is not an array of numbers: {error}") from None
    if array.shape != points.shape:
        raise InputError(f"sigma has shape {array.shape}; expected that of X, {points.shape}")
    check_finite("sigma", array)
    if not (array > 0).all():
        row = int(np.argwhere(array <= 0)[0, 0])
        raise InputError(f"sigma has a value of 0 or less in row {row}; expected standard deviations above 0")
    return array


def check_codes(codes: Any, codebook: np.ndarray) -> np.ndarray:
    """``codes`` as integers (n,) for a codebook (K, d), (n, L) for (L, K, d), each below K."""
    array = np.asarray(codes)
    levels = () if codebook.ndim == 2 else (len(codebook),)
    if array.ndim != 1 + len(levels) or array.shape[1:] != levels:
        raise InputError(f"codes have shape {array.shape}; expected {('n', *levels)}".replace("'", ""))
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"codes are {array.dtype}; expected integers")
    n_codes = codebook.shape[-2]
    outside = (array < 0) | (array >= n_codes)
    if outside.any():
        row = int(np.argwhere(outside)[0, 0])
        raise InputError(f"code {array[outside][0]} in row {row} does not exist; expected 0..{n_codes - 1}")
    return array


def check_count(name: str, value: Any) -> None:
    """Raise ``InputError`` unless ``value`` is a whole number of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number of at least 1")


def check_flag(name: str, value: Any) -> None:
    """Raise ``InputError`` unless ``value`` is true or false."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is {value!r}; expected True or False")


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise ``InputError`` naming the first row that holds NaN or infinity."""
    rows = np.flatnonzero(~np.isfinite(array).all(1))
    if len(rows):
        raise InputError(
            f"{name} has NaN or infinity in {len(rows)} of {len(array)} rows, first in row {rows[0]}; "
            "expected finite numbers; drop or impute those rows"
        )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ``InputError`` with the nearest name unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise InputError(unknown_name(name, str(value), choices))


def check_power(value: Any) -> None:
    """Raise ``InputError`` unless ``value`` is 1 or 2."""
    if value not in (1, 2) or isinstance(value, bool):
        raise InputError(f"power is {value!r}; expected 1 (sum of distances) or 2 (sum of their squares)")


def seed_from(random_state: Any) -> int:
    """A seed from scikit-learn's ``random_state``: whole number, generator, or ``None`` for a fresh one."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    try:
        generator = check_random_state(random_state)
    except ValueError as error:
        raise InputError(f"random_state: {error}") from None
    return int(generator.randint(2**31 - 1))
