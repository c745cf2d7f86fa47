"""The stage that goes from one real image to another: over the graph of latents, straight, by blending.

Nothing is chosen by the eye: the images are drawn by the seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from torch import nn

from geovq.data import to_bytes
from geovq.geometry import ChordEdges, Latents, along, neighbor_graph, shortest_path
from geovq.pipeline.arms import POST_HOC
from geovq.pipeline.autoencoders import load_latents, model_inputs, trained_autoencoder
from geovq.pipeline.context import Context
from geovq.seeding import numpy_generator
from geovq.storage.artifact import save_artifact
from geovq.tokenizer.autoencoder import Autoencoder

N_IMAGES = 5000  # nodes of the graph at most: a picture does not get better with more
N_NEIGHBORS = 15
N_PAIRS = 4
N_STEPS = 9  # images shown along a path, both ends included
N_PIECES = 256  # that a path is cut into where its decoded length is measured
N_CANDIDATES = 32  # images among which those far apart are sought where there are no classes


def models_with_paths(run: Context) -> list[str]:
    """The models on whose frozen latents at least one arm is fitted."""
    used = {arm.config.model for arm in run.arms if arm.kind == POST_HOC}
    return [name for name in run.config.models if name in used]


def draw_paths(run: Context, name: str, seed: int) -> Path:
    """Images along ``N_PAIRS`` paths between real images, under one of the run's models, as one artefact.

    Tensors, with P pairs and S steps: ``ends`` int64 (P, 2), rows of the training images; uint8 images
    ``graph``, ``line`` and ``blend`` (P, S, C, H, W); the latents ``graph.latents`` and ``line.latents``
    float32 (P, S, D) that the first two were decoded from.
    """

    def make(folder: Path, _: Path) -> None:
        config, tensors = _paths(run, name, seed)
        save_artifact(folder, {"kind": "paths", "model": name, **config}, tensors)

    path = f"paths/{name}/{seed}"
    return run.stages.run("paths", path, model_inputs(run, name, seed), make, arm=name, seed=seed)


def draw_pairs(latents: np.ndarray, labels: np.ndarray | None, generator: np.random.Generator) -> np.ndarray:
    """Both ends of the paths, int64 (N_PAIRS, 2) rows of ``latents (n, D)``, n >= 2 N_PAIRS.

    With at least two classes in ``labels (n,)``, random images of two classes each, every class taken once
    before any is taken again. Otherwise, of ``N_CANDIDATES`` random images, the two farthest apart, then the
    two farthest apart of the rest, and so on.
    """
    order = generator.permutation(len(latents))
    classes = np.unique(labels if labels is not None else [])
    if len(classes) > 1:
        assert labels is not None
        shuffled = generator.permutation(classes)
        ends = []
        for place in range(2 * N_PAIRS):
            turn, which = divmod(place, len(classes))
            members = order[labels[order] == shuffled[which]]
            ends.append(members[turn % len(members)])
        return np.array(ends).reshape(N_PAIRS, 2)
    candidates = order[:N_CANDIDATES]
    apart = cdist(latents[candidates], latents[candidates])
    pairs = []
    for _ in range(N_PAIRS):
        first, second = divmod(int(apart.argmax()), len(candidates))
        pairs.append(candidates[[first, second]])
        apart[[first, second]] = apart[:, [first, second]] = -1.0
    return np.array(pairs)


def _paths(run: Context, name: str, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    model = trained_autoencoder(run, name, seed)
    autoencoder = Autoencoder(model.encoder, model.decoder, run.splits.image_shape)
    images = run.images("train")
    means = load_latents(run, name, seed)["train.mean"]
    generator = numpy_generator(seed, "paths")
    rows = np.sort(generator.choice(len(means), min(N_IMAGES, len(means)), replace=False))
    latents = means[rows].reshape(len(rows), -1)
    labels = None if images.labels is None else images.labels[rows]
    n_neighbors = min(N_NEIGHBORS, len(rows) - 1)
    flat_decoder = nn.Sequential(nn.Unflatten(1, model.latent_shape), model.decoder)
    graph = neighbor_graph(Latents(latents), n_neighbors, ChordEdges(flat_decoder, latents))
    pairs: list[dict[str, Any]] = []
    tensors: dict[str, list[np.ndarray]] = {}
    for pair in (ends := draw_pairs(latents, labels, generator)):
        nodes = shortest_path(graph.lengths, *pair.tolist())
        steps = np.asarray(graph.lengths[nodes[:-1], nodes[1:]]).ravel()
        facts: dict[str, Any] = {"nodes": len(nodes), "lengths": {}, "recoded_mse": {}}
        facts["classes"] = [] if labels is None else labels[pair].tolist()
        shown = {"blend": _blend(images.images(rows[pair]))}
        for kind, curve, lengths in (("graph", latents[nodes], steps), ("line", latents[pair], None)):
            points = along(curve, N_STEPS, lengths).astype(np.float32)
            finely = along(curve, N_PIECES + 1, lengths).astype(np.float32)
            shown[kind] = autoencoder.decode_latents(points.reshape(-1, *model.latent_shape))
            decoded = autoencoder.decode_latents(finely.reshape(-1, *model.latent_shape))
            facts["lengths"][kind] = _length(decoded)
            facts["direct"] = _length(decoded[[0, -1]])  # the same for both kinds
            tensors.setdefault(f"{kind}.latents", []).append(points)
        for kind, pictures in shown.items():
            facts["recoded_mse"][kind] = _recoded(autoencoder, pictures[1:-1])
            tensors.setdefault(kind, []).append(to_bytes(pictures))
        pairs.append(facts)
    config = {"n_images": len(rows), "n_neighbors": n_neighbors, "n_bridges": graph.report.n_bridges}
    stacked = {key: np.stack(arrays) for key, arrays in tensors.items()}
    return {**config, "pairs": pairs}, {"ends": rows[ends], **stacked}


def _blend(ends: np.ndarray) -> np.ndarray:
    """Pixels of two images (2, C, H, W) mixed in ``N_STEPS`` equal steps, float32."""
    blended = along(ends.reshape(2, -1), N_STEPS).astype(np.float32)
    return blended.reshape(-1, *ends.shape[1:])


def _length(images: np.ndarray) -> float:
    """Sum of the Euclidean distances from one image (C, H, W) to the next."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    return float(np.sqrt(np.square(np.diff(flat, axis=0)).sum(1)).sum())


def _recoded(autoencoder: Autoencoder, images: np.ndarray) -> float:
    """Mean squared change of images when they are encoded and decoded once more."""
    images = np.clip(images, 0, 1)
    return float(np.square(autoencoder.reconstruct(images) - images, dtype=np.float64).mean())
