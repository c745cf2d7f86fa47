"""The same images through every arm in one labelled picture, for papers and READMEs."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from geovq.reports.pictures import GAP, Picture, png_bytes

FONT_SIZE = 17
MARGIN = 14


def labelled_rows(rows: Sequence[tuple[str, Picture]]) -> Picture:
    """Pictures one below the other, each with its label to the left."""
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), FONT_SIZE)
    images = [Image.open(io.BytesIO(picture.png)).convert("RGB") for _, picture in rows]
    left = 2 * MARGIN + max(round(font.getlength(label)) for label, _ in rows)
    width = left + max(image.width for image in images) + MARGIN
    height = 2 * MARGIN + sum(image.height + GAP for image in images) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for (label, _), image in zip(rows, images, strict=True):
        draw.text((MARGIN, top + image.height / 2), label, fill="#20242b", font=font, anchor="lm")
        sheet.paste(image, (left, top))
        top += image.height + GAP
    alt = f"The same test images in {len(rows)} rows: {', '.join(label for label, _ in rows)}."
    return Picture(png_bytes(sheet), alt, width, height)
