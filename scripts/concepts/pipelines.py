"""The diagram of both pipelines, drawn in boxes and arrows."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from geovq.reports.figures import COLOURS
from geovq.reports.plotting import DPI

BLUE, ORANGE, GREEN = COLOURS[0], COLOURS[1], COLOURS[2]
FROZEN, SHARED, INK = "#e8eef5", "#f2f2f2", "#3b4048"
WIDTH, HEIGHT = 12.6, 6.1


def pipelines() -> Figure:
    """The figure."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, HEIGHT)
    axes.axis("off")
    _after_the_fact(axes)
    _end_to_end(axes)
    _both(axes)
    return figure


def _after_the_fact(axes: Axes) -> None:
    axes.text(0.2, 5.8, "After the fact", weight="bold", size=12, color=BLUE)
    axes.text(1.75, 5.8, "train a VAE, freeze it, then fit a codebook on its latents", size=10, color=INK)
    _box(axes, 0.2, 4.65, 0.95, "images", SHARED)
    _box(axes, 1.55, 4.65, 1.3, "encoder\n(frozen)", FROZEN, BLUE)
    _box(axes, 3.25, 4.65, 1.45, "latents\nmean, sigma", SHARED)
    _box(axes, 5.1, 4.65, 1.1, "tokens\n(cut)", SHARED)
    _box(axes, 6.6, 4.65, 1.45, "codebook\nK vectors", "#fbe9de", ORANGE)
    _box(axes, 8.45, 4.65, 0.85, "codes", "#e3f1ec", GREEN)
    _box(axes, 9.8, 4.65, 1.3, "decoder\n(frozen)", FROZEN, BLUE)
    _box(axes, 11.45, 4.65, 0.95, "images", SHARED)
    for start, end in (
        (1.15, 1.55),
        (2.85, 3.25),
        (4.7, 5.1),
        (6.2, 6.6),
        (8.05, 8.45),
        (9.3, 9.8),
        (11.1, 11.45),
    ):
        _arrow(axes, (start, 5.0), (end, 5.0))
    _wide_box(
        axes,
        3.05,
        2.98,
        6.1,
        1.25,
        "Geometry: a k-NN graph of tokens, its edges measured by",
        (
            ("euclidean", "the means", 3.9),
            ("wasserstein, precision", "means and sigma", 5.75),
            ("chord, pullback, fisher", "the decoder", 8.0),
        ),
    )
    _arrow(axes, (5.65, 4.65), (5.65, 4.23), ORANGE)
    _arrow(axes, (7.3, 4.23), (7.3, 4.65), ORANGE)
    axes.text(7.4, 4.4, "medoids of paths", size=8.5, color=ORANGE, va="center")
    _arrow(axes, (10.45, 4.65), (9.15, 3.6), ORANGE, bend=-0.35)


def _end_to_end(axes: Axes) -> None:
    axes.text(0.2, 2.45, "End to end", weight="bold", size=12, color=ORANGE)
    axes.text(1.45, 2.45, "train encoder, codebook and decoder together", size=10, color=INK)
    _box(axes, 0.2, 1.3, 0.95, "images", SHARED)
    _box(axes, 1.55, 1.3, 1.3, "encoder", "#fbe9de", ORANGE)
    _box(axes, 3.25, 1.3, 1.45, "latents\na point", SHARED)
    _box(axes, 5.1, 1.3, 1.1, "tokens\n(cut)", SHARED)
    _box(axes, 6.6, 1.3, 1.45, "quantizer\nlayer", "#fbe9de", ORANGE)
    _box(axes, 8.45, 1.3, 0.85, "codes", "#e3f1ec", GREEN)
    _box(axes, 9.8, 1.3, 1.3, "decoder", "#fbe9de", ORANGE)
    _box(axes, 11.45, 1.3, 0.95, "images", SHARED)
    for start, end in (
        (1.15, 1.55),
        (2.85, 3.25),
        (4.7, 5.1),
        (6.2, 6.6),
        (8.05, 8.45),
        (9.3, 9.8),
        (11.1, 11.45),
    ):
        _arrow(axes, (start, 1.65), (end, 1.65))
    _arrow(axes, (10.45, 2.0), (2.2, 2.0), ORANGE, bend=0.05, dashed=True)
    axes.text(6.9, 2.5, "gradient, straight through the quantizer", size=8.5, color=ORANGE, ha="left")


def _both(axes: Axes) -> None:
    axes.text(
        0.2,
        0.42,
        "Either way: S codes an image, of a stated layout and number of bits. A prior learns to predict them "
        "and samples new images;\neverything is compared on held-out images at the same number of bits.",
        size=10,
        color=INK,
        va="center",
        linespacing=1.5,
    )
    axes.plot([0.2, WIDTH - 0.2], [0.95, 0.95], color="#c9ccd1", linewidth=0.8)
    axes.plot([0.2, WIDTH - 0.2], [2.8, 2.8], color="#c9ccd1", linewidth=0.8)


def _box(axes: Axes, x: float, y: float, width: float, words: str, fill: str, edge: str = "#8a8f98") -> None:
    shape = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((x, y), width, 0.7, shape, facecolor=fill, edgecolor=edge, linewidth=1.2))
    axes.text(x + width / 2, y + 0.35, words, ha="center", va="center", size=9.5, color=INK, linespacing=1.35)


def _wide_box(
    axes: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    title: str,
    columns: tuple[tuple[str, str, float], ...],
) -> None:
    shape = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, shape, facecolor="#fdf5ef", edgecolor=ORANGE, linewidth=1.2)
    )
    axes.text(x + width / 2, y + height - 0.26, title, ha="center", va="center", size=9.5, color=INK)
    for names, needs, centre in columns:
        axes.text(centre, y + 0.6, names, ha="center", va="center", size=9, weight="bold", color=ORANGE)
        axes.text(centre, y + 0.28, f"need {needs}", ha="center", va="center", size=8.5, color=INK)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str = INK,
    bend: float = 0.0,
    dashed: bool = False,
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=11,
            connectionstyle=f"arc3,rad={bend}",
            color=colour,
            linewidth=1.2,
            linestyle="--" if dashed else "-",
            shrinkA=0,
            shrinkB=0,
        )
    )
