"""The gradients derived by hand beside autograd's: the same weights, the same samples."""

from __future__ import annotations

from torch import Tensor

from geovq.linear import LinearVQVAE, ste_autograd, ste_manual
from geovq.linear.start import paired_start
from geovq.pipeline.linear_trainings import Laboratory, points, train_linear
from geovq.reports.laboratory_files import GradientCheck


def check_gradients(run: Laboratory) -> list[GradientCheck]:
    """Both gradients on all of a seed's training samples, where training starts and where it ends."""
    checks = []
    for seed in run.config.seeds:
        X = points(run.config, seed, "train")
        models = {
            "start": paired_start(X, run.config.m, run.config.K, seed),
            "trained": train_linear(run, "ste-autograd", seed)[1],
        }
        checks += [_compare(run, seed, name, model, X) for name, model in models.items()]
    return checks


def _compare(run: Laboratory, seed: int, name: str, model: LinearVQVAE, X: Tensor) -> GradientCheck:
    given = (model.W, model.E, X, run.config.alpha, run.config.beta)
    by_hand, automatic = ste_manual.gradients(*given), ste_autograd.gradients(*given)
    # One scale for both: where Lloyd has converged, the gradient on E alone is nothing but rounding.
    scale = max(float(automatic.W.abs().max()), float(automatic.E.abs().max())) or 1.0
    return GradientCheck(
        seed,
        name,
        encoder=float((by_hand.W - automatic.W).abs().max()) / scale,
        codebook=float((by_hand.E - automatic.E).abs().max()) / scale,
    )
