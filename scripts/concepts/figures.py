"""The plots of the page, from the rows of the measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from concepts.means import mean_over_seeds, relative_difference, select, values_by_seed
from geovq.evaluation.statistics import mean_interval
from geovq.reports.figures import COLOURS, LINE_STYLES
from geovq.reports.plotting import new_figure

Content = Mapping[str, Any]
WIDTH = 8.2
CLOUDS = {
    "latents": ("MNIST latents", COLOURS[1], "o"),
    "normal like latents": ("normal, latents' covariance", COLOURS[1], "_"),
    "tokens": ("MNIST tokens", COLOURS[2], "s"),
    "normal like tokens": ("normal, tokens' covariance", COLOURS[2], "_"),
}
ROLL_ARMS = {"kmeans": "Euclidean k-means", "kmedoids": "Euclidean k-medoids", "geodesic": "geodesic"}
DECODER_ARMS = (
    ("k-medoids, nearest", ("kmedoids", "medoid", "nearest"), "#555555", "o", "-"),
    ("geodesic euclidean, graph", ("euclidean", "medoid", "graph"), COLOURS[0], "v", "-"),
    ("geodesic pullback, graph", ("pullback", "medoid", "graph"), COLOURS[1], "s", "-"),
    ("means of pullback cells, nearest image", ("pullback", "mean", "image"), COLOURS[1], "s", ":"),
    ("k-means, nearest image", ("kmeans", "mean", "image"), "#555555", "D", ":"),
    ("decoded k-means, nearest image", ("decoded kmeans", "mean", "image"), COLOURS[2], "^", ":"),
)
MAP_CODES = {"kmeans": "Euclidean k-means", "pullback": "geodesic pullback"}
BASELINE = {"codebook": "kmeans", "centers": "mean", "assignment": "nearest"}
CELL_COLOURS = (*COLOURS, "#999999")


def flat_space(content: Content) -> Figure:
    """Rank correlation and ratio of path and straight line by dimension, latents beside the null."""
    panels = (
        ("spearman", "rank correlation with straight lines"),
        ("median_ratio", "path / straight line (median)"),
        ("antihubs", "nobody's neighbour (share)"),
    )
    dimensions = sorted({row["d"] for row in select(content["rows"], cloud="normal")})
    with _figure(3.0, (1,) * len(panels)) as (figure, all_axes):
        for axes, (name, label) in zip(all_axes, panels, strict=True):
            null = [mean_over_seeds(content["rows"], name, cloud="normal", d=d) for d in dimensions]
            axes.plot(dimensions, null, "-", marker=".", color=COLOURS[0], label="flat space, N(0, I)")
            for cloud, (words, colour, marker) in CLOUDS.items():
                (d,) = {row["d"] for row in select(content["rows"], cloud=cloud)}
                value = mean_over_seeds(content["rows"], name, cloud=cloud)
                size = 12 if marker == "_" else 6
                axes.plot([d], [value], marker, color=colour, markersize=size, mew=1.8, label=words)
            axes.set_xscale("log", base=2)
            axes.set_xticks(dimensions, [str(d) for d in dimensions])
            axes.minorticks_off()
            axes.set_xlabel("dimension")
            axes.set_title(label, size=9.5)
            axes.grid(axis="y")
        all_axes[0].set_ylim(0, 1.03)
        all_axes[1].set_ylim(bottom=1)
        all_axes[2].set_ylim(bottom=0)
        handles, words = all_axes[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside lower center", ncols=5, fontsize=8, columnspacing=1.0)
        return figure


def swiss_roll(content: Content) -> Figure:
    """Cells of few codes on the unrolled sheet, and errors on the sheet by number of codes."""
    picture = content["picture"]
    sheet = np.array(picture["sheet"])
    with _figure(3.2, (1.45, 1)) as (figure, (left, axes)):
        left.axis("off")
        for place, arm in enumerate(("kmeans", "geodesic")):
            inset = left.inset_axes((0, 0.54 - 0.54 * place, 0.97, 0.36))
            colours = [CELL_COLOURS[code % len(CELL_COLOURS)] for code in picture[arm]]
            inset.scatter(*sheet.T, c=colours, s=3, linewidths=0)
            inset.set_title(f"{ROLL_ARMS[arm]}, K = {picture['n_codes']}, sheet unrolled", size=9.5)
            inset.set_xticks([])
            inset.set_yticks([])
            inset.spines[:].set_visible(False)
            inset.margins(0.01)
        sizes = sorted({row["n_codes"] for row in content["rows"]})
        for place, (arm, words) in enumerate(ROLL_ARMS.items()):
            ratios = [_ratio(content["rows"], arm, n_codes) for n_codes in sizes]
            axes.plot(
                sizes, ratios, LINE_STYLES[place], marker="os^"[place], color=COLOURS[place], label=words
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("codes K")
        axes.set_title("error on the sheet (1 = k-means on the sheet)", size=9.5)
        axes.legend(fontsize=8)
        axes.grid(axis="y")
        return figure


def latent_map(content: Content) -> Figure:
    """Latents coloured by how much the decoder stretches space there, with two codebooks."""
    rows = content["rows"]
    x, y, stretch = (np.array([row[name] for row in rows]) for name in ("x", "y", "stretch"))
    with _figure(3.4, (1, 1)) as (figure, all_axes):
        for axes, (name, words) in zip(all_axes, MAP_CODES.items(), strict=True):
            drawn = axes.scatter(x, y, c=stretch, s=3, linewidths=0, cmap="cividis", norm=LogNorm())
            codes = np.array(content["codes"][name])
            axes.plot(*codes.T, "o", color=COLOURS[1], markeredgecolor="white", markersize=7, label=words)
            axes.set_title(f"{words}, K = {len(codes)}", size=9.5)
            axes.set_aspect("equal")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        bar = figure.colorbar(drawn, ax=all_axes, label="√det J'J", format="{x:g}", ticks=(1, 3, 10, 30))
        bar.outline.set_visible(False)
        return figure


def real_decoders(content: Content) -> Figure:
    """Decoded error relative to Euclidean k-means by dimension of the latent, a panel a number of codes."""
    rows = content["rows"]
    dimensions = sorted({row["latent_dim"] for row in rows})
    sizes = sorted({row["n_codes"] for row in rows if "n_codes" in row})
    with _figure(3.3, (1,) * len(sizes)) as (figure, all_axes):
        for axes, n_codes in zip(all_axes, sizes, strict=True):
            for words, (codebook, centers, assignment), colour, marker, line in DECODER_ARMS:
                arm = {"codebook": codebook, "centers": centers, "assignment": assignment, "n_codes": n_codes}
                differences = [
                    relative_difference(
                        rows,
                        "decoded_error",
                        {**arm, "latent_dim": d},
                        {**BASELINE, "n_codes": n_codes, "latent_dim": d},
                    )
                    for d in dimensions
                ]
                ratios = [1 + difference.mean for difference in differences]
                axes.plot(dimensions, ratios, line, marker=marker, color=colour, label=words, markersize=4.5)
            axes.axhline(1, color="#8a8f98", linewidth=1, label="k-means, nearest (= 1)")
            axes.set_xscale("log", base=2)
            axes.set_xticks(dimensions, [str(d) for d in dimensions])
            axes.minorticks_off()
            axes.set_xlabel("latent dimension D")
            axes.set_title(f"K = {n_codes}", size=9.5)
            axes.grid(axis="y")
        lows, highs = zip(*(axes.get_ylim() for axes in all_axes), strict=True)
        for axes in all_axes:
            axes.set_ylim(min(lows), max(highs))
        all_axes[0].set_ylabel("decoded error (1 = k-means)")
        handles, words = all_axes[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside lower center", ncols=3, fontsize=8)
        return figure


def _ratio(rows: Sequence[Content], arm: str, n_codes: int) -> float:
    own = values_by_seed(rows, "sheet_error", arm=arm, n_codes=n_codes)
    best = values_by_seed(rows, "sheet_error", arm="k-means on the sheet", n_codes=n_codes)
    return mean_interval([a / b for a, b in zip(own, best, strict=True)]).mean


@contextmanager
def _figure(height: float, widths: Sequence[float]) -> Iterator[tuple[Figure, list[Axes]]]:
    with new_figure(WIDTH, height) as figure:
        yield figure, list(figure.subplots(1, len(widths), width_ratios=widths))
