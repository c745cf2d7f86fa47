"""The artefacts of a run folder that show its geometry: paths between images, clusters of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geovq.config import from_json
from geovq.errors import ConfigError, CorruptArtifactError
from geovq.reports.run_files import RunFiles, known_fields
from geovq.storage.artifact import load_artifact

PATH_KINDS = ("graph", "line", "blend")
CLUSTER_KINDS = ("geodesic", "euclidean")


@dataclass(frozen=True)
class PathPair:
    """What was measured between two real images.

    ``classes`` are those of the two, or empty; ``nodes`` counts the images that the path over the graph goes
    through; ``direct`` is the distance of the two decoded images, ``lengths`` that along each path in latent
    space; ``recoded_mse`` is the mean squared change of the images between when they are coded once more.
    """

    classes: tuple[int, ...]
    nodes: int
    direct: float
    lengths: Mapping[str, float]
    recoded_mse: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, expected in (("lengths", PATH_KINDS[:2]), ("recoded_mse", PATH_KINDS)):
            found = getattr(self, name)
            if set(found) != set(expected):
                raise ConfigError(f"{name} has {sorted(found)}; expected {', '.join(expected)}")

    @property
    def of_two_classes(self) -> bool:
        """Whether the two images are known to be of different classes."""
        return len(set(self.classes)) == 2


@dataclass(frozen=True)
class PathFacts:
    """The graph that paths were sought on, and what was measured along them."""

    n_images: int
    n_neighbors: int
    n_bridges: int
    pairs: tuple[PathPair, ...]


@dataclass(frozen=True)
class Paths:
    """Paths under one model: for each of ``PATH_KINDS``, images uint8 (pairs, steps, C, H, W)."""

    model: str
    facts: PathFacts
    images: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ClusterFacts:
    """How lengths on the graph were measured, and adjusted Rand indices: of both clusterings with each other,
    and of each with the images' classes, if there are any.
    """

    n_clusters: int
    edges: str
    agreement_ari: float | None = None
    geodesic_class_ari: float | None = None
    euclidean_class_ari: float | None = None


@dataclass(frozen=True)
class Clusters:
    """Tokens of one arm: ``coordinates (n, 2)``, and for each of ``CLUSTER_KINDS`` labels int64 (n,)."""

    arm: str
    facts: ClusterFacts
    coordinates: np.ndarray
    labels: Mapping[str, np.ndarray]


def read_paths(run: RunFiles, model: str) -> Paths | None:
    """Paths under a model at the run's first seed, or None if none are stored."""
    folder = run.model_folder("paths", model)
    if not folder.is_dir():
        return None
    config, tensors = load_artifact(folder)
    known = known_fields(PathFacts, config)
    if isinstance(known.get("pairs"), list):
        known["pairs"] = [known_fields(PathPair, pair) for pair in known["pairs"]]
    facts: PathFacts = from_json(PathFacts, known, str(folder / "config.json"))
    images = {kind: tensors.get(kind, np.empty(0)) for kind in PATH_KINDS}
    first = images["graph"]
    for kind, array in images.items():
        wanted = array.dtype == np.uint8 and array.ndim == 5 and array.size > 0 and array.shape == first.shape
        if not wanted or len(array) != len(facts.pairs):
            _refuse(folder, kind, array, f"uint8 images ({len(facts.pairs)}, steps, C, H, W), as all kinds")
    return Paths(model, facts, images)


def read_clusters(run: RunFiles, arm: str, bits: float | None) -> Clusters | None:
    """Clusters of an arm's tokens at the run's first seed, or None if none are stored."""
    folder = run.arm_folder("clusters", arm, bits)
    if not folder.is_dir():
        return None
    config, tensors = load_artifact(folder)
    if not tensors:
        return None
    facts: ClusterFacts = from_json(
        ClusterFacts, known_fields(ClusterFacts, config), str(folder / "config.json")
    )
    coordinates = tensors.get("coordinates", np.empty(0))
    if coordinates.dtype != np.float32 or coordinates.ndim != 2 or coordinates.shape[1] != 2:
        _refuse(folder, "coordinates", coordinates, "float32 (n, 2)")
    labels = {kind: tensors.get(kind, np.empty(0)) for kind in CLUSTER_KINDS}
    for kind, array in labels.items():
        in_range = (
            array.dtype == np.int64 and array.min(initial=0) >= 0 and array.max(initial=0) < facts.n_clusters
        )
        if not in_range or array.shape != (len(coordinates),):
            _refuse(folder, kind, array, f"int64 ({len(coordinates)},) in range({facts.n_clusters})")
    return Clusters(arm, facts, coordinates, labels)


def _refuse(folder: Path, name: str, array: np.ndarray, expected: str) -> None:
    raise CorruptArtifactError(
        f"{folder}: '{name}' is {array.dtype} of shape {array.shape}; expected {expected}; run the stage "
        "again"
    )
