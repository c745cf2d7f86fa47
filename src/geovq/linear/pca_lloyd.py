"""Principal subspace, then k-means in it: no gradients."""

from __future__ import annotations

from torch import Tensor

from geovq.linear.measure import evaluate, log_row, loss
from geovq.linear.model import LinearVQVAE
from geovq.linear.result import TrainingResult
from geovq.linear.settings import Settings, checked_points
from geovq.linear.start import kmeans_plus_plus, lloyd_step, principal_subspace

ITERATIONS = 30


def train(
    X_train: Tensor,
    X_eval: Tensor,
    m: int,
    K: int,
    *,
    steps: int = 200,
    batch: int = 1024,
    alpha: float = 1.0,
    beta: float = 0.25,
    lrW: float = 0.08,
    lrE: float = 0.2,
    orthonormal: bool = True,
    seed: int = 0,
    log_every: int = 10,
) -> TrainingResult:
    """Encode by the principal subspace and run 30 iterations of Lloyd's algorithm on all training latents.

    One k-means++ start, the one that the trainings by gradients start from as well. The log has a row for the
    start and for every iteration.

    Parameters
    ----------
    X_train, X_eval : (n, D), what is learnt from and what is measured on
    m : latent dimension
    K : codes
    alpha, beta : weights in the logged loss, which is over all of X_train; they change nothing else
    seed : of the start
    steps, batch, lrW, lrE, orthonormal, log_every : checked and without effect; W is always orthonormal

    Raises ``InputError`` if an argument is out of range.
    """
    Settings(m, K, steps, batch, alpha, beta, lrW, lrE, orthonormal, seed, log_every)
    X_train, X_eval = checked_points(X_train, X_eval, m, K)
    W = principal_subspace(X_train, m)
    latents = X_train @ W.T
    codebook = kmeans_plus_plus(latents, K, seed)
    logs = []
    for iteration in range(ITERATIONS + 1):
        if iteration:
            codebook = lloyd_step(latents, codebook)
        model = LinearVQVAE(W, codebook)
        logs.append(log_row(iteration, model, loss(model, X_train, alpha, beta), X_eval))
    return {"model": model, "metrics": evaluate(model, X_eval), "logs": logs}
