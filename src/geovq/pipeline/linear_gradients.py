"""The gradients derived by hand beside autograd's: the same weights, the same batch."""

from __future__ import annotations

from torch import Tensor

from geovq.linear import LinearVQVAE, ste_autograd, ste_manual
from geovq.linear.descent import batch_rows
from geovq.linear.start import paired_start
from geovq.pipeline.linear_trainings import Laboratory, points, train_linear
from geovq.reports.laboratory_files import GradientCheck


def check_gradients(run: Laboratory) -> list[GradientCheck]:
    """Both gradients on a seed's first batch, at the weights that training starts from and ends with."""
    checks = []
    for seed in run.config.seeds:
        X = points(run.config, seed, "train")
        models = {
            "start": paired_start(X, run.config.m, run.config.K, seed),
            "trained": train_linear(run, "ste-autograd", seed)[1],
        }
        batch = X[batch_rows(len(X), run.config.batch, seed, step=0)]
        checks += [_compare(run, seed, name, model, batch) for name, model in models.items()]
    return checks


def _compare(run: Laboratory, seed: int, name: str, model: LinearVQVAE, batch: Tensor) -> GradientCheck:
    given = (model.W, model.E, batch, run.config.alpha, run.config.beta)
    by_hand, automatic = ste_manual.gradients(*given), ste_autograd.gradients(*given)
    return GradientCheck(
        seed,
        name,
        encoder=_difference(by_hand.W, automatic.W),
        codebook=_difference(by_hand.E, automatic.E),
    )


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())
