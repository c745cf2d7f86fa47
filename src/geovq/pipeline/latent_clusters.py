"""The stage that draws tokens in two dimensions, with geodesic and Euclidean clusters of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from threadpoolctl import threadpool_limits

from geovq.config import Spec
from geovq.models.cut import cut
from geovq.pipeline.arms import Arm, tokens_of
from geovq.pipeline.autoencoders import load_latents, trained_autoencoder
from geovq.pipeline.context import Context
from geovq.pipeline.decoder_lengths import measure_with
from geovq.pipeline.tokenizers import arm_inputs
from geovq.quantizers import KMeansQuantizer
from geovq.registry import build
from geovq.search import distinct_rows
from geovq.seeding import derive_seed, numpy_generator
from geovq.storage.artifact import save_artifact

N_CLUSTERS = 10
N_TOKENS = 1000  # at most; more would cover each other in the picture
FEWEST_TOKENS = 4 * N_CLUSTERS  # distinct ones, above the perplexity of t-SNE; fewer show nothing


def arm_with_clusters(run: Context) -> Arm | None:
    """The run's first geodesic arm, or None."""
    arms = (arm for arm in run.arms if arm.config.quantizer and arm.config.quantizer.kind == "geodesic")
    return next(arms, None)


def draw_clusters(run: Context, arm: Arm, seed: int) -> Path:
    """Tokens of a geodesic arm in two dimensions and two clusterings of them, as one artefact.

    Tensors, of all n tokens of some images drawn by the seed: ``coordinates`` float32 (n, 2) by t-SNE, for
    the eye alone; ``geodesic`` and ``euclidean`` int64 (n,), clusters by the arm's quantizer and by k-means,
    the latter numbered so that they overlap with the former as much as possible; ``images`` int64 (n,), the
    training images that the tokens belong to; ``classes`` int64 (n,), theirs, if the data has labels.
    No tensor if there are too few distinct tokens.
    """

    def make(folder: Path, _: Path) -> None:
        config, tensors = _clusters(run, arm, seed)
        save_artifact(folder, {"kind": "clusters", "arm": arm.name, **config}, tensors)

    path = run.arm_path("clusters", arm, seed)
    return run.stages.run("clusters", path, arm_inputs(run, arm, seed), make, arm=arm.name, seed=seed)


def matched(clusters: np.ndarray, reference: np.ndarray, count: int) -> np.ndarray:
    """``clusters (n,)`` in ``range(count)`` renumbered to agree with ``reference (n,)`` as often as possible.

    Source: the assignment problem; Kuhn, "The Hungarian Method for the Assignment Problem", 1955.
    """
    overlap = np.zeros((count, count), dtype=np.int64)
    np.add.at(overlap, (clusters, reference), 1)
    return np.asarray(linear_sum_assignment(overlap, maximize=True)[1])[clusters]


def _clusters(run: Context, arm: Arm, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from sklearn.metrics import adjusted_rand_score

    latents = load_latents(run, arm.config.model, seed)
    grid = tokens_of(arm, None)
    n_tokens = grid[0] * grid[1]
    n_images = min(max(1, N_TOKENS // n_tokens), len(latents["train.mean"]))
    rows = numpy_generator(seed, "clusters").choice(len(latents["train.mean"]), n_images, replace=False)
    rows.sort()
    whole = latents["train.mean"][rows]
    mean, sigma = (
        cut(torch.from_numpy(latents[f"train.{part}"][rows]), grid).flatten(0, 1).numpy()
        for part in ("mean", "sigma")
    )
    assert arm.config.quantizer is not None
    params = arm.config.quantizer.params
    config = {"n_clusters": N_CLUSTERS, "edges": params.get("edges", "euclidean")}
    if len(distinct_rows(mean)[0]) < FEWEST_TOKENS:
        return config, {}
    state = derive_seed(seed, "clusters") % 2**32
    # A graph of few tokens may fall apart where that of all does not.
    spec = Spec("geodesic", {**params, "n_codes": N_CLUSTERS, "allow_bridges": True})
    quantizer = build("quantizer", spec, random_state=state)
    measure_with(quantizer, trained_autoencoder(run, arm.config.model, seed).decoder, whole)
    geodesic = quantizer.fit_predict(mean, sigma=sigma if quantizer.takes_sigma else None)
    kmeans = KMeansQuantizer(N_CLUSTERS, random_state=state).fit_predict(mean)
    tensors = {
        "coordinates": _in_two_dimensions(mean, state),
        "geodesic": geodesic,
        "euclidean": matched(kmeans, geodesic, N_CLUSTERS),
        "images": np.repeat(rows, n_tokens),
    }
    config["agreement_ari"] = float(adjusted_rand_score(geodesic, kmeans))
    labels = run.images("train").labels
    if labels is not None:
        tensors["classes"] = labels[tensors["images"]]
        for name in ("geodesic", "euclidean"):
            config[f"{name}_class_ari"] = float(adjusted_rand_score(tensors["classes"], tensors[name]))
    return config, tensors


def _in_two_dimensions(tokens: np.ndarray, state: int) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton, JMLR 2008) of ``tokens (n, d)``: float32 (n, 2)."""
    from sklearn.manifold import TSNE

    # One thread: how several add up their sums differs from run to run, and the picture with it.
    with threadpool_limits(1):
        start = "pca" if tokens.shape[1] > 1 else "random"
        found: np.ndarray = TSNE(init=start, random_state=state).fit_transform(tokens)
    return found.astype(np.float32)
