"""Checks of what a quantizer is given."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from geovq.errors import InputError, unknown_name

NUMBERS_A_CHUNK = 2**22  # of metric tensors checked at once
SYMMETRIC = 1e-4  # of its largest number: how far a metric tensor may be from M = M' and from M >= 0


def check_points(estimator: BaseEstimator, X: Any, reset: bool) -> np.ndarray:
    """``X`` as finite float32 or float64 ``(n, d)``; ``reset`` records its width, else it must be the same.

    Raises ``InputError``, or the ``TypeError`` that scikit-learn prescribes for sparse matrices.
    """
    try:
        points = validate_data(
            estimator, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False, order="C"
        )
    except (ValueError, RuntimeError) as error:  # RuntimeError: of a tensor that requires a gradient
        message = " ".join(str(error).split())
        raise InputError(message if message.startswith("X ") else f"X: {message}") from None
    check_finite("X", points)
    return points


def check_sigma(sigma: Any, points: np.ndarray, expected: bool | None = None) -> np.ndarray | None:
    """``sigma`` as positive numbers in the shape and dtype of ``points``, or ``None``.

    ``expected`` is whether the quantizer was fitted with sigma (``None``: it is being fitted). Raises
    ``InputError`` if that differs.
    """
    array = _check_side("sigma", sigma, points, points.shape, expected)
    if array is not None and not (array > 0).all():
        row = int(np.argwhere(array <= 0)[0, 0])
        raise InputError(f"sigma has a value of 0 or less in row {row}; expected standard deviations above 0")
    return array


def check_metric(metric: Any, points: np.ndarray, expected: bool | None = None) -> np.ndarray | None:
    """``metric`` as positive definite tensors (n, d, d) in the dtype of ``points (n, d)``, or ``None``.

    ``expected`` is whether the quantizer was fitted with metrics (``None``: it is being fitted). Raises
    ``InputError`` if that differs, or a tensor is not symmetric (to 1e-4 of its largest number) or not
    positive definite.
    """
    n, d = points.shape
    array = _check_side("metric", metric, points, (n, d, d), expected)
    if array is None:
        return None
    rows = max(1, NUMBERS_A_CHUNK // (d * d))
    for start in range(0, n, rows):
        _check_tensors(array[start : start + rows], start)
    return array


def _check_tensors(metric: np.ndarray, first: int) -> None:
    """Raise ``InputError`` unless tensors (m, d, d), those of rows ``first`` on, are positive definite."""
    largest = np.abs(metric).max((1, 2))
    tensors = metric / np.where(largest > 0, largest, 1)[:, None, None]  # squares of them are numbers
    skew = np.abs(tensors - tensors.transpose(0, 2, 1)).max((1, 2)) > SYMMETRIC
    if skew.any():
        raise InputError(f"metric is not symmetric in row {first + int(skew.argmax())}; expected M = M'")
    # Products J'J of float32 numbers may round to eigenvalues slightly below zero where a direction is flat.
    shifted = tensors + np.float32(SYMMETRIC) * np.eye(metric.shape[1], dtype=np.float32)
    if (largest > 0).all() and _have_factors(shifted):
        return
    least = np.linalg.eigvalsh(tensors)[:, 0]
    wrong = (least < -SYMMETRIC) | (largest == 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"metric has the eigenvalue {least[row] * largest[row]:.3g} in row {first + row}; expected "
            "positive definite tensors"
        )


def _have_factors(tensors: np.ndarray) -> bool:
    """Whether all are positive definite, in a fraction of the time that their eigenvalues take."""
    try:
        np.linalg.cholesky(tensors)
    except np.linalg.LinAlgError:
        return False
    return True


def _check_side(
    name: str, value: Any, points: np.ndarray, shape: tuple[int, ...], expected: bool | None
) -> np.ndarray | None:
    """What is given beside the points, as finite numbers of ``shape``, present if it was ``expected``."""
    if expected is not None and expected != (value is not None):
        fitted, called = ("with", "without") if expected else ("without", "with")
        raise InputError(
            f"the quantizer was fitted {fitted} {name} and is called {called} it; "
            f"fit and assignment use one metric: give {name} to both or to neither"
        )
    if value is None:
        return None
    try:
        with np.errstate(over="ignore"):  # what float32 does not reach is found below
            array = np.ascontiguousarray(value, dtype=points.dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is not an array of numbers: {error}") from None
    if array.shape != shape:
        of_points = "that of X, " if shape == points.shape else f"(n, d, d) for X {points.shape}, "
        raise InputError(f"{name} has shape {array.shape}; expected {of_points}{shape}")
    check_finite(name, array.reshape(len(array), -1))
    return array


def check_codes(codes: Any, codebook: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """``codes`` as integers (n,) for a codebook (K, d), (n, L) for L levels, each below its level's K."""
    array = np.asarray(codes)
    one_level = isinstance(codebook, np.ndarray) and codebook.ndim == 2
    sizes = [len(codebook)] if one_level else [len(level) for level in codebook]
    levels = () if one_level else (len(sizes),)
    if array.ndim != 1 + len(levels) or array.shape[1:] != levels:
        raise InputError(f"codes have shape {array.shape}; expected {('n', *levels)}".replace("'", ""))
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"codes are {array.dtype}; expected integers")
    by_level = array.reshape(len(array), -1)
    outside = (by_level < 0) | (by_level >= np.array(sizes))
    if outside.any():
        row, level = np.argwhere(outside)[0]
        raise InputError(
            f"code {by_level[row, level]} in row {row} does not exist; expected 0..{sizes[level] - 1}"
        )
    return array


def check_count(name: str, value: Any, minimum: int = 1) -> None:
    """Raise ``InputError`` unless ``value`` is a whole number of at least ``minimum``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        raise InputError(f"{name} is {value!r}; expected a whole number of at least {minimum}")


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
