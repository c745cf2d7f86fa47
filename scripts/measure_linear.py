"""Measure what docs/linear.md says of the linear laboratory, and write results/linear/*.json.

    python scripts/measure_linear.py [--out results/linear]

One thread, some ten minutes. A part whose file is there already is not measured again. The tables of the page
are then written by scripts/write_linear.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import linear_replica
import torch
from concepts.measurement import THREADS, write_measurement
from torch import Tensor

from geovq.config.laboratory import BASELINE
from geovq.errors import GeovqError
from geovq.linear import LinearVQVAE, evaluate, low_rank_gaussian, ste_autograd, ste_manual
from geovq.linear.descent import GradientRule, Gradients, batch_rows, descend
from geovq.linear.pca_lloyd import ITERATIONS
from geovq.linear.pca_lloyd_converged import N_STARTS
from geovq.linear.settings import Settings
from geovq.linear.start import kmeans_plus_plus, lloyd_step, paired_start, principal_subspace
from geovq.recipes import recipe
from geovq.registry import resolve
from geovq.search import nearest_codes
from geovq.seeding import set_threads

RESULTS = Path(__file__).resolve().parents[1] / "results" / "linear"
CONFIG = recipe("lowrank-comprehensive")  # the published settings, 500 steps
SETTINGS = ("D", "rank", "m", "K", "n_train", "n_eval", "steps", "batch", "alpha", "beta", "lrW", "lrE")
N_FRESH = 100_000
SEEDS = tuple(range(20))
PUBLISHED_SEED = 42
OTHER_START = f"{BASELINE}, another start"
FACTORS = (1, 2, 4, 8, 16, 32)  # of lrE
ENCODER_FACTORS = (1, 8)

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A measurement: what its file says it is, the rows of one seed, the seeds, and what it was run with."""

    about: str
    rows: Callable[[int], Iterator[Row]]
    seeds: tuple[int, ...] = SEEDS
    settings: tuple[str, ...] = SETTINGS


class Points(NamedTuple):
    """Points (n, D) to train on, those to measure on as in the published experiment, and further ones."""

    train: Tensor
    evaluation: Tensor
    fresh: Tensor


def main(argv: list[str] | None = None) -> int:
    """Measure what is missing and return the exit code."""
    parser = argparse.ArgumentParser(description="Measure what docs/linear.md says of the linear laboratory.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON files")
    out = parser.parse_args(argv).out
    set_threads(THREADS)
    try:
        for name in PARTS:
            measure(name, out)
    except GeovqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def measure(name: str, out: Path) -> None:
    """Write ``out/NAME.json`` unless it is there."""
    path, part = out / f"{name}.json", PARTS[name]
    if path.exists():
        print(f"{path} is there")
        return
    rows = []
    for seed in part.seeds:
        rows += part.rows(seed)
        print(f"{name}: seed {seed}", flush=True)
    write_measurement(
        path,
        rows,
        about=part.about,
        command="python scripts/measure_linear.py",
        seeds=part.seeds,
        n_fresh=N_FRESH,
        **{setting: getattr(CONFIG, setting) for setting in part.settings},
    )


def points(seed: int) -> Points:
    """The laboratory's points of a seed, and 100,000 more of the same distribution."""
    train = low_rank_gaussian(CONFIG.n_train, CONFIG.D, CONFIG.rank, seed=seed, part="train")
    n = CONFIG.n_eval + N_FRESH
    others = low_rank_gaussian(n, CONFIG.D, CONFIG.rank, seed=seed, part="evaluation")
    return Points(train, others[: CONFIG.n_eval], others[CONFIG.n_eval :])


def errors(model: LinearVQVAE, data: Points) -> dict[str, float]:
    """``sse_per_sample`` of a model on each kind of points."""
    return {part: evaluate(model, X)["sse_per_sample"] for part, X in data._asdict().items()}


def method_rows(seed: int) -> Iterator[Row]:
    """Every method of the laboratory, and the baseline from another k-means++ start."""
    data = points(seed)
    for method in CONFIG.methods:
        options = {name: getattr(CONFIG, name) for name in ("steps", "batch", "alpha", "beta", "lrW", "lrE")}
        train = resolve("linear-method", method)
        result = train(
            data.train, data.evaluation, CONFIG.m, CONFIG.K, seed=seed, log_every=CONFIG.steps, **options
        )
        use = {name: result["metrics"][name] for name in ("usage_entropy_nats", "dead_fraction")}
        yield {"seed": seed, "method": method, **errors(result["model"], data), **use}
    W = principal_subspace(data.train, CONFIG.m)
    latents = data.train @ W.T
    codebook = kmeans_plus_plus(latents, CONFIG.K, seed, start=N_STARTS)  # the first that no method has
    for _ in range(ITERATIONS):
        codebook = lloyd_step(latents, codebook)
    yield {"seed": seed, "method": OTHER_START, **errors(LinearVQVAE(W, codebook), data)}


def gradient_rows(seed: int) -> Iterator[Row]:
    """How far the gradients by hand are from autograd's on the first batch, each over its largest entry."""
    data = points(seed)
    batch = data.train[batch_rows(len(data.train), CONFIG.batch, seed, step=0)]
    start = paired_start(data.train, CONFIG.m, CONFIG.K, seed)
    for at, model in (("start", start), ("trained", trained(ste_autograd.gradients, data, seed, CONFIG.lrE))):
        given = (model.W, model.E, batch, CONFIG.alpha, CONFIG.beta)
        by_hand, automatic = ste_manual.gradients(*given), ste_autograd.gradients(*given)
        differences = {
            name: float((a - b).abs().max() / b.abs().max())
            for name, a, b in (("W", by_hand.W, automatic.W), ("E", by_hand.E, automatic.E))
        }
        yield {"seed": seed, "at": at, **differences}


def rate_rows(seed: int) -> Iterator[Row]:
    """Straight-through training with other learning rates of the codebook, and with steps a code."""
    data = points(seed)
    for factor in FACTORS:
        model = trained(ste_manual.gradients, data, seed, factor * CONFIG.lrE)
        yield {"seed": seed, "average_over": "batch", "factor": factor, **errors(model, data)}
    model = trained(averaged_by_code, data, seed, CONFIG.lrE)
    yield {"seed": seed, "average_over": "code", "factor": 1, **errors(model, data)}


def encoder_rows(seed: int) -> Iterator[Row]:
    """Straight-through training with the whole gradient of W, with its decoder's part, and with none."""
    data = points(seed)
    rules = {"none": frozen_encoder, "decoder": decoder_part, "both": ste_manual.gradients}
    for factor in ENCODER_FACTORS:
        for gradient, rule in rules.items():
            model = trained(rule, data, seed, factor * CONFIG.lrE)
            yield {"seed": seed, "gradient": gradient, "factor": factor, **errors(model, data)}


def trained(rule: GradientRule, data: Points, seed: int, lrE: float) -> LinearVQVAE:
    """The model that the laboratory's descent by ``rule`` ends with."""
    c = CONFIG
    settings = Settings(c.m, c.K, c.steps, c.batch, c.alpha, c.beta, c.lrW, lrE, True, seed, c.steps)
    return descend(rule, data.train, data.evaluation, settings)["model"]


def averaged_by_code(W: Tensor, E: Tensor, X: Tensor, alpha: float, beta: float) -> Gradients:
    """A code's gradient as the mean over its own points of the batch, about K times as long."""
    found = ste_manual.gradients(W, E, X, alpha, beta)
    counts = torch.bincount(nearest_codes(X @ W.T, E), minlength=len(E)).clamp_min(1)
    return found._replace(E=found.E * (len(X) / counts)[:, None])


def frozen_encoder(W: Tensor, E: Tensor, X: Tensor, alpha: float, beta: float) -> Gradients:
    """Only the codebook learns."""
    return ste_manual.gradients(W, E, X, alpha, beta)._replace(W=torch.zeros_like(W))


def decoder_part(W: Tensor, E: Tensor, X: Tensor, alpha: float, beta: float) -> Gradients:
    """W learns as decoder, ``-2/n Q'R``, and not as encoder."""
    quantized = E[nearest_codes(X @ W.T, E)]
    of_W = quantized.T @ (X - quantized @ W) * (-2 / len(X))
    return ste_manual.gradients(W, E, X, alpha, beta)._replace(W=of_W)


PARTS = {
    "replica": Part(
        "sse_per_sample of the published procedure (scripts/linear_replica.py) on its training and "
        "evaluation points and on fresh ones: baseline (PCA, 30 iterations of Lloyd), baseline run on to a "
        "fixed point, start of the training, and after 500 steps of STE. The seed published is 42.",
        lambda seed: linear_replica.rows(seed, N_FRESH),
        seeds=(*SEEDS, PUBLISHED_SEED),
        settings=("D", "rank", "m", "K", "n_train", "n_eval", "steps"),
    ),
    "methods": Part(
        "sse_per_sample of every method, and of pca-lloyd from a k-means++ start of its own, on training, "
        "evaluation and fresh points; use of codes on evaluation points. A seed determines data, start and "
        "batches.",
        method_rows,
    ),
    "gradients": Part(
        "Largest difference of the gradients derived by hand from autograd's, over the largest entry, on one "
        "batch at the weights that ste-autograd starts from and ends with.",
        gradient_rows,
        seeds=SEEDS[:5],
    ),
    "rates": Part(
        "sse_per_sample of ste-manual with lrE times a factor; with average_over 'code', the gradient of a "
        "code is the mean over its own points of the batch, as in the published manual STE.",
        rate_rows,
    ),
    "encoder": Part(
        "sse_per_sample of ste-manual with the gradient of W whole (both), with its part as decoder alone, "
        "and with W frozen at the principal subspace (none); lrE times a factor.",
        encoder_rows,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
