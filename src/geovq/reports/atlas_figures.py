"""Codes as pictures: all of a codebook in order of use, and some above the images that use them."""

from __future__ import annotations

import io

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from geovq.reports.pictures import GAP, Picture, contact_sheet, png_bytes

A_ROW = 16
BAR, INK = 3, "#20242b"
PALE = 0.7  # how far towards white an unused code goes
FONT_SIZE, LABEL = 11, 15
BETWEEN = 6  # pixels between a code and its images


def percent(share: float) -> str:
    """A share as percent, in three characters.

    >>> percent(0.1234), percent(0.01234), percent(0.0004), percent(0.0)
    ('12', '1.2', '.04', '0')
    """
    value = 100 * share
    if value >= 0.995 or value == 0:
        return f"{value:.{0 if value >= 9.95 or value == 0 else 1}f}"
    return f"{value:.2f}".removeprefix("0")


def code_grid(tiles: np.ndarray, use: np.ndarray, alt: str, side: int) -> Picture:
    """Tiles uint8 (n, C, H, W) row by row, under each a bar whose length is its ``use (n,)`` of the largest.

    Codes without use are pale. ``side`` is about how many pixels the longer side of a tile gets.
    """
    pale = tiles + (255 - tiles.astype(np.float64)) * PALE
    seen = np.where((use > 0)[:, None, None, None], tiles, pale.round().astype(np.uint8))
    rows = [_row(seen[start : start + A_ROW], side) for start in range(0, len(seen), A_ROW)]
    step = (rows[0].width + GAP) / min(A_ROW, len(seen))
    height = rows[0].height + BAR + 2 * GAP
    sheet = Image.new(rows[0].mode, (rows[0].width, len(rows) * height - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, row in enumerate(rows):
        top = place * height
        sheet.paste(row, (0, top))
        for column, share in enumerate(use[place * A_ROW : (place + 1) * A_ROW]):
            if share > 0:
                left, low = round(column * step), top + row.height + 1
                length = max(1, round((step - GAP) * share / use.max()))
                draw.rectangle((left, low, left + length - 1, low + BAR - 1), fill=INK)
    return Picture(png_bytes(sheet), alt, *sheet.size)


def code_columns(tiles: np.ndarray, use: np.ndarray, images: np.ndarray, alt: str, side: int) -> Picture:
    """Tiles uint8 (n, C, H, W) in a row, each below its ``use (n,)`` in percent, and below it its images.

    ``images`` is uint8 (n, e, C, H, W); ``alt`` and ``side`` are as for ``code_grid``.
    """
    rows = [_row(tiles, side), *(_row(images[:, example], side) for example in range(images.shape[1]))]
    step = (rows[0].width + GAP) / len(tiles)
    height = LABEL + BETWEEN + sum(row.height for row in rows) + GAP * (len(rows) - 2)
    sheet = Image.new(rows[0].mode, (rows[0].width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), FONT_SIZE)
    for column, share in enumerate(use):
        centre = column * step + (step - GAP) / 2
        draw.text((centre, LABEL / 2), percent(share), fill=INK, font=font, anchor="mm")
    top = LABEL
    for place, row in enumerate(rows):
        sheet.paste(row, (0, top))
        top += row.height + (BETWEEN if place == 0 else GAP)
    return Picture(png_bytes(sheet), alt, *sheet.size)


def _row(images: np.ndarray, side: int) -> Image.Image:
    return Image.open(io.BytesIO(contact_sheet(images, len(images), "", side).png))
