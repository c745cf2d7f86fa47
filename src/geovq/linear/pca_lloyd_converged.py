"""Principal subspace, then the best of several k-means in it, each run to its end or 1,000 iterations."""

from __future__ import annotations

from torch import Tensor

from geovq.linear.measure import evaluate, log_row, loss
from geovq.linear.model import LinearVQVAE
from geovq.linear.result import TrainingResult
from geovq.linear.settings import Settings, checked_points
from geovq.linear.start import kmeans_plus_plus, principal_subspace, to_fixed_point
from geovq.search import nearest_codes_and_distances

N_STARTS = 12


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
    """Encode by the principal subspace and take the best of 12 k-means++ starts, each run to its end.

    The end is a fixed point of Lloyd's algorithm, or 1,000 iterations; the best is the one of least
    *training* distortion. The first start is that of "pca-lloyd". The log is that of the best: its start,
    every ``log_every``-th iteration and its end.

    Parameters
    ----------
    X_train, X_eval : (n, D), what is learnt from and what is measured on
    m : latent dimension
    K : codes
    alpha, beta : weights in the logged loss, which is over all of X_train; they change nothing else
    seed : of the starts
    log_every : iterations from one row of the log to the next
    steps, batch, lrW, lrE, orthonormal : checked and without effect; W is always orthonormal

    Raises ``InputError`` if an argument is out of range.
    """
    Settings(m, K, steps, batch, alpha, beta, lrW, lrE, orthonormal, seed, log_every)
    X_train, X_eval = checked_points(X_train, X_eval, m, K)
    W = principal_subspace(X_train, m)
    latents = X_train @ W.T
    ways = (to_fixed_point(latents, kmeans_plus_plus(latents, K, seed, i)) for i in range(N_STARTS))
    way = min(ways, key=lambda codebooks: _distortion(latents, codebooks[-1]))
    logs = []
    for iteration, codebook in enumerate(way):
        if iteration % log_every == 0 or iteration == len(way) - 1:
            model = LinearVQVAE(W, codebook)
            logs.append(log_row(iteration, model, loss(model, X_train, alpha, beta), X_eval))
    return {"model": model, "metrics": evaluate(model, X_eval), "logs": logs}


def _distortion(latents: Tensor, codebook: Tensor) -> float:
    return float(nearest_codes_and_distances(latents, codebook)[1].mean())
