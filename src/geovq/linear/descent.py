"""The loop of every method that learns by gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from geovq.errors import TrainingError
from geovq.linear.measure import evaluate, log_row
from geovq.linear.model import LinearVQVAE
from geovq.linear.result import TrainingResult
from geovq.linear.settings import Settings, checked_points
from geovq.linear.start import paired_start
from geovq.linear.stiefel import euclidean_step, stiefel_step
from geovq.seeding import numpy_generator


class Gradients(NamedTuple):
    """Euclidean gradients of the loss averaged over a batch, W (m, D) and E (K, m), and its value."""

    W: Tensor
    E: Tensor
    loss: float


GradientRule = Callable[[Tensor, Tensor, Tensor, float, float], Gradients]
"""``rule(W, E, X, alpha, beta)`` on a batch X (n, D)."""


def descend(rule: GradientRule, X_train: Tensor, X_eval: Tensor, settings: Settings) -> TrainingResult:
    """Train by stochastic gradient steps, ``rule`` giving the gradients.

    At one seed every rule starts from the same model and sees the same batches, so that trainings differ by
    the rule alone. W takes a Riemannian step if it is to stay orthonormal, else a Euclidean one; E always a
    Euclidean one. The log has the start, every ``log_every``-th step and the end.

    Raises
    ------
    InputError
        If the points and the settings do not fit, as ``checked_points`` says.
    TrainingError
        If the loss is no longer finite.
    """
    X_train, X_eval = checked_points(X_train, X_eval, settings.m, settings.K)
    model = paired_start(X_train, settings.m, settings.K, settings.seed)
    encoder_step = stiefel_step if settings.orthonormal else euclidean_step
    logs = []
    for step in range(settings.steps + 1):
        batch = X_train[batch_rows(len(X_train), settings.batch, settings.seed, step)]
        gradients = rule(model.W, model.E, batch, settings.alpha, settings.beta)
        if not math.isfinite(gradients.loss):
            raise TrainingError(
                f"loss is {gradients.loss} at step {step}; expected a finite number; lower lrW "
                f"({settings.lrW}) or lrE ({settings.lrE})"
            )
        if step % settings.log_every == 0 or step == settings.steps:
            logs.append(log_row(step, model, gradients.loss, X_eval))
        if step < settings.steps:
            W = encoder_step(model.W, gradients.W, settings.lrW)
            model = LinearVQVAE(W, model.E - settings.lrE * gradients.E)
    return {"model": model, "metrics": evaluate(model, X_eval), "logs": logs}


def batch_rows(n: int, batch: int, seed: int, step: int) -> Tensor:
    """Rows int64 (batch,) of n training points for a step, drawn with replacement."""
    return torch.from_numpy(numpy_generator(seed, "linear batch", step).integers(0, n, batch))
