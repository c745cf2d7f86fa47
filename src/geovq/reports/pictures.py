"""Test images and samples as contact sheets, enlarged without smoothing so that pixels stay visible."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 56  # screen pixels of an image's longer side, about; larger images are reduced to it
GAP = 3
SHEET_BYTES = 1_200_000  # uncompressed, over all sheets of a page, so that the page stays below 3 MB
FEWEST, MOST = 4, 12


@dataclass(frozen=True)
class Picture:
    """A PNG, the text that stands for it, and its size in screen pixels."""

    png: bytes
    alt: str
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def images_a_row(image_shape: tuple[int, ...], n_rows: int) -> int:
    """How many images of shape (C, H, W) each of ``n_rows`` rows may show within the page's size."""
    channels, height, width = image_shape
    shrink = min(1.0, SIDE / max(height, width))
    one_image = channels * height * width * shrink**2
    return int(np.clip(SHEET_BYTES // (one_image * max(n_rows, 1)), FEWEST, MOST))


def contact_sheet(images: np.ndarray, columns: int, alt: str, side: int = SIDE) -> Picture:
    """Images uint8 (n, C, H, W) row by row, ``columns`` a row, on white with a small gap.

    ``side`` is about how many pixels the longer side of an image gets.
    """
    tiles = [_tile(image, side) for image in images]
    width, height = tiles[0].size
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)
    sheet = Image.new(tiles[0].mode, size, "white")
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % columns * (width + GAP), i // columns * (height + GAP)))
    return Picture(png_bytes(sheet), alt, *size)


def png_bytes(image: Image.Image) -> bytes:
    """The image as PNG, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _tile(image: np.ndarray, side: int) -> Image.Image:
    """One image uint8 (C, H, W), enlarged by a whole factor or reduced; three channels are colour."""
    colour = image.shape[0] == 3
    pixels = image.transpose(1, 2, 0) if colour else image.mean(axis=0).round().astype(np.uint8)
    tile = Image.fromarray(np.ascontiguousarray(pixels))
    longer = max(tile.size)
    if longer > side:
        scale = side / longer
        smaller = (max(1, round(tile.width * scale)), max(1, round(tile.height * scale)))
        return tile.resize(smaller, Image.Resampling.BOX)
    factor = max(1, round(side / longer))
    return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.NEAREST)
