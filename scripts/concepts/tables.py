"""The tables of the page, from the rows of the measurements, and their places in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from concepts.means import mean_over_seeds, relative_difference, select
from geovq.errors import InputError
from geovq.evaluation.statistics import Estimate
from geovq.reports.numbers import rounded

Content = Mapping[str, Any]
Arms = Mapping[tuple[str, str, str], str]
"""What an arm is called, by codebook, centers and assignment."""
CLOUDS = {
    "tokens": "MNIST tokens",
    "normal like tokens": "normal, covariance of the tokens",
    "latents": "MNIST latents",
    "normal like latents": "normal, covariance of the latents",
}
ARMS: Arms = {
    ("kmedoids", "medoid", "nearest"): "Euclidean k-medoids, nearest",
    ("euclidean", "medoid", "graph"): "geodesic `euclidean`, graph",
    ("precision", "medoid", "graph"): "geodesic `precision`, graph",
    ("chord", "medoid", "graph"): "geodesic `chord`, graph",
    ("pullback", "medoid", "graph"): "geodesic `pullback`, graph",
    ("fisher", "medoid", "graph"): "geodesic `fisher`, graph",
    ("kmedoids", "medoid", "pullback graph"): "Euclidean k-medoids, `pullback` graph",
    ("pullback", "mean", "graph"): "`pullback`, means of its cells, graph",
    ("pullback", "mean", "image"): "`pullback`, means of its cells, nearest image",
    ("kmeans", "mean", "image"): "Euclidean k-means, nearest image",
    ("decoded kmeans", "mean", "image"): "k-means on decoded images, nearest image",
}
CLASS_ARMS = {
    arm: ARMS[arm]
    for arm in (
        ("kmedoids", "medoid", "nearest"),
        ("euclidean", "medoid", "graph"),
        ("precision", "medoid", "graph"),
        ("pullback", "medoid", "graph"),
        ("kmeans", "mean", "image"),
        ("decoded kmeans", "mean", "image"),
    )
}
BASELINE = {"codebook": "kmeans", "centers": "mean", "assignment": "nearest"}


def flat_space(content: Content) -> str:
    """Graphs of flat space and of latents, a row a cloud."""
    rows = content["rows"]
    dimensions = sorted({row["d"] for row in select(rows, cloud="normal")})
    clouds = [("N(0, I)", {"cloud": "normal", "d": d}) for d in dimensions]
    clouds += [(words, {"cloud": cloud}) for cloud, words in CLOUDS.items()]
    lines = [
        [
            "points",
            "d",
            "rank correlation",
            "path / line",
            "largest in-degree",
            "nobody's neighbours",
            "bridges",
        ],
        ["---", *["---:"] * 6],
    ]
    for words, wanted in clouds:
        mean = {
            name: mean_over_seeds(rows, name, **wanted)
            for name in ("d", "spearman", "median_ratio", "max_in_degree", "antihubs", "bridges")
        }
        lines.append(
            [
                words,
                f"{mean['d']:.0f}",
                f"{mean['spearman']:.3f}",
                f"{mean['median_ratio']:.2f}",
                f"{mean['max_in_degree']:.0f}",
                f"{100 * mean['antihubs']:.1f} %",
                rounded(mean["bridges"]),
            ]
        )
    return _markdown(lines)


def real_decoders(content: Content, name: str, sizes: Sequence[int], arms: Arms) -> str:
    """Differences from Euclidean k-means in per cent of its ``name``, a row an arm."""
    rows = content["rows"]
    dimensions = sorted({row["latent_dim"] for row in rows})
    places = [(n_codes, d) for n_codes in sizes for d in dimensions]
    lines = [
        ["codes, assignment", *(f"K = {n_codes}<br>D = {d}" for n_codes, d in places)],
        ["---", *["---:"] * len(places)],
        ["Euclidean k-means, nearest", *(_absolute(rows, name, n_codes, d) for n_codes, d in places)],
    ]
    for (codebook, centers, assignment), words in arms.items():
        arm = {"codebook": codebook, "centers": centers, "assignment": assignment}
        lines.append([words, *(_relative(rows, name, arm, n_codes, d) for n_codes, d in places)])
    return _markdown(lines)


def replaced(page: str, parts: Mapping[str, str]) -> str:
    """``page`` with each part between its markers, ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Raises ``InputError`` if the page does not have a part's markers once.
    """
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        page, count = pattern.subn(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", page)
        if count != 1:
            raise InputError(
                f"the page has {count} places for '{name}'; expected one begin and one end marker"
            )
    return page


def _absolute(rows: Any, name: str, n_codes: int, d: int) -> str:
    return rounded(mean_over_seeds(rows, name, **BASELINE, n_codes=n_codes, latent_dim=d))


def _relative(rows: Any, name: str, arm: Content, n_codes: int, d: int) -> str:
    place = {"n_codes": n_codes, "latent_dim": d}
    return percent(relative_difference(rows, name, {**arm, **place}, {**BASELINE, **place}))


def percent(difference: Estimate) -> str:
    """A share in per cent, in bold if its interval excludes zero.

    >>> percent(Estimate(-0.1804, -0.2, -0.1, 3)), percent(Estimate(0.004, -0.1, 0.1, 3))
    ('**−18 %**', '0 %')
    """
    whole = round(100 * difference.mean)
    text = f"{whole:+d} %".replace("-", "−") if whole else "0 %"
    return f"**{text}**" if difference.excludes_zero else text


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
