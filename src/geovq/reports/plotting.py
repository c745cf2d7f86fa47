"""How every plot of a report looks, and its PNG. Drawn on ``Figure`` objects, without any window system."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from geovq.reports.pictures import Picture, png_bytes

WIDTH_INCHES, DPI = 5.6, 160
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#3b4048",
    "xtick.color": "#3b4048",
    "ytick.color": "#3b4048",
    "grid.color": "#e3e5e8",
    "legend.frameon": False,
    "text.parse_math": False,  # an arm's name may hold a dollar sign
}


@contextmanager
def new_axes(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure ``height`` inches high with one pair of axes, in the style of the report."""
    with new_figure(WIDTH_INCHES, height) as figure:
        yield figure, figure.subplots()


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """An empty figure, inches, in the style of the report."""
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def as_picture(figure: Figure, alt: str) -> Picture:
    """The figure as a PNG of at most 256 colours, 100 screen pixels an inch; equal figures, equal bytes.

    Few colours make it a third as large, and an eye sees no difference.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the bundled font lacks shows as boxes here; the page itself has it in full.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="png")
    pixels = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    width, height = figure.get_size_inches() * 100
    return Picture(png_bytes(pixels), alt, round(width), round(height))
