"""The arguments of a training, checked once for all methods."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geovq.errors import InputError


@dataclass(frozen=True)
class Settings:
    """The numbers of a training; ``lrW`` and ``lrE`` are the learning rates of encoder and codebook.

    Raises ``InputError`` if one of them is out of its range.
    """

    m: int
    K: int
    steps: int
    batch: int
    alpha: float
    beta: float
    lrW: float
    lrE: float
    orthonormal: bool
    seed: int
    log_every: int

    def __post_init__(self) -> None:
        for name in ("m", "K", "steps", "batch", "log_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; expected a finite weight of at least 0")
        for name in ("lrW", "lrE"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; expected a finite learning rate above 0")


def checked_points(X_train: Tensor, X_eval: Tensor, m: int, K: int) -> tuple[Tensor, Tensor]:
    """Both as float64.

    Raises ``InputError`` if one is not (n, D) with n and D above 0, or not finite; if their D differ; if
    m > D or K > n of X_train.
    """
    for name, X in (("X_train", X_train), ("X_eval", X_eval)):
        if X.ndim != 2 or X.numel() == 0:
            raise InputError(f"{name} has shape {tuple(X.shape)}; expected (n, D), points by dimensions")
        n_bad = int((~torch.isfinite(X)).sum())
        if n_bad:
            raise InputError(f"{name}: {n_bad} of {X.numel()} numbers are not finite; expected finite ones")
    n, D = X_train.shape
    if X_eval.shape[1] != D:
        raise InputError(
            f"X_eval has D = {X_eval.shape[1]} and X_train D = {D}; expected points of one dimension"
        )
    if m > D:
        raise InputError(f"m is {m} and D {D}; expected a latent dimension m of at most D")
    if n < K:
        raise InputError(f"K is {K} and X_train has {n} points; expected at most a code a point; lower K")
    return X_train.double(), X_eval.double()
