"""How well a linear autoencoder reconstructs points, and how it uses its codes."""

from __future__ import annotations

import torch
from torch import Tensor

from geovq.linear.model import LinearVQVAE
from geovq.search import nearest_codes


def evaluate(model: LinearVQVAE, X: Tensor) -> dict[str, float]:
    """What ``model`` makes of points (n, D).

    Returns
    -------
    ``sse_per_sample`` : squared error, summed over D and averaged over points
    ``in_subspace_distortion`` : ``|z - q|^2``, summed over m and averaged; with orthonormal W the error
        without what lies outside W's subspace
    ``usage_entropy_nats`` : entropy of the codes of these points, at most ln K
    ``dead_fraction`` : share of the K codes that none of these points has
    """
    latents = model.encode(X)
    codes = nearest_codes(latents, model.E)
    quantized = model.E[codes]
    counts = torch.bincount(codes, minlength=len(model.E))
    share = counts.double() / len(X)
    return {
        "sse_per_sample": float((X - model.decode(quantized)).square().sum(1).mean()),
        "in_subspace_distortion": float((latents - quantized).square().sum(1).mean()),
        "usage_entropy_nats": float(-torch.xlogy(share, share).sum().clamp_max(0.0)),
        "dead_fraction": float((counts == 0).double().mean()),
    }


def loss(model: LinearVQVAE, X: Tensor, alpha: float, beta: float) -> float:
    """``mean |x - W'q|^2 + alpha |z - q|^2 + beta |z - q|^2``: the value of the loss on points (n, D)."""
    found = evaluate(model, X)
    return found["sse_per_sample"] + (alpha + beta) * found["in_subspace_distortion"]


def log_row(step: int, model: LinearVQVAE, training_loss: float, X_eval: Tensor) -> dict[str, float]:
    """A row of a training's log: the step, the training loss of ``model``, and ``evaluate`` on X_eval."""
    return {"step": step, "loss": training_loss, **evaluate(model, X_eval)}
