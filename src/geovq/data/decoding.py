"""One image file: what its header says, and its pixels.

Only the named formats are tried, since Pillow would also start interpreters of others, and sizes are
checked before pixels are decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from geovq.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
MAX_PIXELS = 2**26
CHANNELS_OF_MODE = {"1": 1, "L": 1, "P": 3, "RGB": 3, "CMYK": 3, "YCbCr": 3}
MODE_OF_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class ImageHeader:
    """Size in pixels, the right way up, and channels: 1 grey, 3 colour, 4 with transparency."""

    height: int
    width: int
    channels: int


def read_header(path: Path, file: BinaryIO) -> ImageHeader:
    """Size and channels of an open image file, without decoding it.

    Raises ``DataError`` naming ``path`` if it is no image of ``FORMATS``, has over 2^26 pixels, or has other
    than 8 bits a channel.
    """
    with _image_errors(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata is common, and harmless
        with Image.open(file, formats=FORMATS) as image:
            _check_pixels(path, image)
            width, height = image.size
            if _is_jpeg(image) and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:
                height, width = width, height
            return ImageHeader(height, width, _channels(path, image))


def read_pixels(path: Path, size: int, channels: int) -> np.ndarray:
    """Pixels of an image file, uint8 (H, W, C).

    ``size`` above 0 resizes the shorter side to it (by area when shrinking, Lanczos when enlarging) and
    cuts the centre square. ``channels`` 1 or 3 lays transparent images on white. Raises ``DataError``
    naming the path if the file cannot be decoded.
    """
    with _image_errors(path), Image.open(path, formats=FORMATS) as opened:
        _check_pixels(path, opened)
        image: Image.Image = ImageOps.exif_transpose(opened) if _is_jpeg(opened) else opened
        image = _convert(image, channels)
        if size:
            method = Image.Resampling.BOX if min(image.size) > size else Image.Resampling.LANCZOS
            image = ImageOps.fit(image, (size, size), method=method)
        return np.asarray(image).reshape(image.height, image.width, channels)


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if channels < 4 and image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert(MODE_OF_CHANNELS[channels])


def _channels(path: Path, image: Image.Image) -> int:
    if image.has_transparency_data:
        return 4
    if image.mode not in CHANNELS_OF_MODE:
        raise DataError(
            f"{path}: pixels are of Pillow's mode {image.mode}; expected 8 bits a channel; convert the file"
        )
    return CHANNELS_OF_MODE[image.mode]


def _is_jpeg(image: Image.Image) -> bool:
    """Whether a camera may have stored the picture sideways (MPO is JPEG with a second picture)."""
    return image.format in ("JPEG", "MPO")


def _check_pixels(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{path}: {image.width}x{image.height} pixels; expected at most {MAX_PIXELS:,}; shrink it"
        )


@contextmanager
def _image_errors(path: Path) -> Iterator[None]:
    """Pillow's decoders raise whatever a damaged file makes them trip over; all of it is the file's fault."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; it was removed since the folder was loaded") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: too many pixels; expected at most {MAX_PIXELS:,}; shrink it") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: not a readable image: {reason}; replace or remove it") from None
