"""The published procedure behind "-1.68 %", step by step: its data, its start, its learning rates, its draws.

GitHub, nikitus20/vqvae, ANALYSIS.md: STE against PCA and Lloyd on 4,000 points, seed 42. What differs from
`geovq.linear`, and makes the published figures come out again: data, k-means++ and batches are drawn from
NumPy's generators of the bare seed; baseline and training have different starts, chosen among 20,000 and
8,000 points; the encoder takes a Euclidean step and is then made orthonormal. The fresh points are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geovq.linear import LinearVQVAE, evaluate, ste_autograd
from geovq.linear.data import LARGEST_VARIANCE, SMALLEST_VARIANCE
from geovq.linear.start import START_ITERATIONS, START_POINTS, lloyd_step, to_fixed_point
from geovq.seeding import numpy_generator

D, RANK, M, K = 64, 6, 4, 32
N_TRAIN, N_EVAL = 20_000, 4000
BASELINE_ITERATIONS = 30
STEPS, BATCH, ALPHA, BETA = 500, 1024, 1.0, 0.25
LR_W, LR_E = 0.05, 0.2


def rows(seed: int, n_fresh: int) -> Iterator[dict[str, Any]]:
    """Errors of the baseline, of the baseline run on to a fixed point, of the start and of STE, a row each.

    STE is 500 steps at lrW 0.05, W made orthonormal after each. ``sse_per_sample`` on training points, on
    the 4,000 and on ``n_fresh`` further points of the distribution.
    """
    train, evaluation, fresh = _points(seed, n_fresh)
    values, vectors = np.linalg.eigh(np.cov(train.numpy(), rowvar=False, bias=True))
    W = torch.from_numpy(vectors[:, values.argsort()[::-1][:M]].T.copy())
    latents = train @ W.T
    baseline = _kmeans(latents, seed, BASELINE_ITERATIONS)
    start = LinearVQVAE(W, _kmeans(latents[:START_POINTS], seed, START_ITERATIONS))
    models = {
        "baseline": LinearVQVAE(W, baseline),
        "baseline run on": LinearVQVAE(W, to_fixed_point(latents, baseline)[-1]),
        "start": start,
        "ste": _trained(start, train, seed),
    }
    parts = {"train": train, "evaluation": evaluation, "fresh": fresh}
    for name, model in models.items():
        yield {"seed": seed, "model": name} | {
            part: evaluate(model, X)["sse_per_sample"] for part, X in parts.items()
        }


def _points(seed: int, n_fresh: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(generator.normal(size=(D, RANK)))
    variances = np.geomspace(LARGEST_VARIANCE, SMALLEST_VARIANCE, RANK)
    covariance = (axes * variances) @ axes.T
    train, evaluation = (
        generator.multivariate_normal(np.zeros(D), covariance, size=n) for n in (N_TRAIN, N_EVAL)
    )
    normal = numpy_generator(seed, "fresh points of the replica").standard_normal((n_fresh, RANK))
    fresh = (normal * np.sqrt(variances)) @ axes.T
    return torch.from_numpy(train), torch.from_numpy(evaluation), torch.from_numpy(fresh)


def _kmeans(latents: Tensor, seed: int, iterations: int) -> Tensor:
    generator, points = np.random.default_rng(seed), latents.numpy()
    chosen = [int(generator.integers(0, len(points)))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < K:
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
        chosen.append(int(generator.choice(len(points), p=nearest / nearest.sum())))
    codebook = latents[chosen]
    for _ in range(iterations):
        codebook = lloyd_step(latents, codebook)
    return codebook


def _trained(model: LinearVQVAE, X: Tensor, seed: int) -> LinearVQVAE:
    generator = np.random.RandomState(seed)
    W, E = model.W, model.E
    for _ in range(STEPS):
        batch = X[torch.from_numpy(generator.randint(0, len(X), size=BATCH))]
        found = ste_autograd.gradients(W, E, batch, ALPHA, BETA)
        left, _, right = torch.linalg.svd(W - LR_W * found.W, full_matrices=False)
        W, E = left @ right, E - LR_E * found.E
    return LinearVQVAE(W, E)
