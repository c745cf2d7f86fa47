"""Figures of a run's geometry: images along paths, tokens in two dimensions coloured by cluster.

The ten colours are Petroff's ("Accessible Color Sequences for Data Visualization", 2021), chosen to be told
apart by colour-blind readers; markers differ as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from geovq.reports.geometry_files import PATH_KINDS, Clusters, PathPair, Paths
from geovq.reports.numbers import rounded
from geovq.reports.pictures import SIDE, Picture, contact_sheet
from geovq.reports.plotting import as_picture, new_figure
from geovq.reports.tables import Cell, Column, Row, Table

PATH_WORDS = {"graph": "over the graph", "line": "straight line", "blend": "pixel blend"}
CLUSTER_WORDS = {"geodesic": "shortest paths over the graph", "euclidean": "Euclidean k-means"}
PATH_BYTES = 250_000  # uncompressed, over all paths of a page, so that the page stays below 3 MB
CLUSTER_INCHES = (4.6, 4.3)
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581",
    "#92dadd",
)  # fmt: skip
MARKERS = {"o": 16, "s": 14, "^": 18, "D": 13, "v": 18, "P": 22, "X": 20, "*": 32, "<": 18, ">": 18}
"""Points squared that make each look about as large as the others."""
PATH_COLUMNS = (
    Column(
        "decoded length",
        "× direct",
        about="How far the decoded image moves along the path, all changes added up, divided by the direct "
        "distance of the two decoded images; 1 is the shortest possible.",
    ),
    Column(
        "recoding error",
        "intensity²",
        about="Mean squared change when the images between the two ends are encoded and decoded once more: "
        "low where the autoencoder knows such images.",
    ),
)


def pair_words(pair: PathPair, place: int) -> str:
    """What a pair of images is called: by its two classes, or by its place, counted from 1."""
    return f"class {pair.classes[0]} to class {pair.classes[1]}" if pair.of_two_classes else f"pair {place}"


def path_sheets(paths: Paths, n_models: int) -> list[list[tuple[str, Picture]]]:
    """For every pair of images and each of ``PATH_KINDS``, a note and the images along the path in one row.

    As many pairs, the first ones, as the bytes of the page allow when ``n_models`` show their paths; large
    images are reduced if not even one pair fits.
    """
    _, n_steps, channels, height, width = paths.images["graph"].shape
    allowed = PATH_BYTES // (n_models * len(PATH_KINDS) * n_steps * channels)
    longer = max(height, width)
    n_pairs = max(1, allowed // min(longer, SIDE) ** 2)
    side = SIDE if longer**2 <= allowed else min(math.isqrt(allowed), SIDE)
    sheets = []
    for place, pair in enumerate(paths.facts.pairs[:n_pairs]):
        rows = []
        for kind in PATH_KINDS:
            images = paths.images[kind][place]
            alt = f"{len(images)} images along a path, {pair_words(pair, place + 1)}, {PATH_WORDS[kind]}."
            rows.append((_note(kind, pair), contact_sheet(images, len(images), alt, side)))
        sheets.append(rows)
    return sheets


def path_table(pairs: Sequence[PathPair]) -> Table:
    """Means over the pairs, one row a kind of path."""
    rows = []
    for kind in PATH_KINDS:
        # Mixing pixels moves an image straight from one end to the other.
        ratios = [1.0 if kind == "blend" else _ratio(pair, kind) for pair in pairs]
        recoded = float(np.mean([pair.recoded_mse[kind] for pair in pairs]))
        length = float(np.mean(ratios))
        cells = (Cell(rounded(length) if math.isfinite(length) else "–"), Cell(rounded(recoded)))
        rows.append(Row(PATH_WORDS[kind], "", cells))
    return Table("path", PATH_COLUMNS, tuple(rows))


def cluster_figure(clusters: Clusters, kind: str) -> Picture:
    """Tokens in two dimensions, with the colour and marker of their cluster of one of ``CLUSTER_KINDS``."""
    labels = clusters.labels[kind]
    with new_figure(*CLUSTER_INCHES) as figure:
        axes = figure.subplots()
        for cluster in range(clusters.facts.n_clusters):
            here = clusters.coordinates[labels == cluster]
            colour = COLOURS[cluster % len(COLOURS)]
            marker, size = list(MARKERS.items())[cluster % len(MARKERS)]
            axes.scatter(
                here[:, 0], here[:, 1], s=size, c=colour, marker=marker, linewidths=0.25, edgecolors="white"
            )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        sizes = np.sort(np.bincount(labels, minlength=clusters.facts.n_clusters))[::-1]
        alt = (
            f"{len(labels)} tokens of {clusters.arm} in two dimensions by t-SNE, coloured by cluster: "
            f"{CLUSTER_WORDS[kind]}; {', '.join(map(str, sizes))} tokens a cluster."
        )
        return as_picture(figure, alt)


def _note(kind: str, pair: PathPair) -> str:
    if kind == "blend":
        return "no model"
    ratio = _ratio(pair, kind)
    notes = [f"length {rounded(ratio)} × direct"] if math.isfinite(ratio) else []
    if kind == "graph":
        notes.append(f"through {pair.nodes - 2} other images")
    return ", ".join(notes)


def _ratio(pair: PathPair, kind: str) -> float:
    """Decoded length of a path relative to the distance of its ends; infinite where these are the same."""
    return pair.lengths[kind] / pair.direct if pair.direct > 0 else math.inf
