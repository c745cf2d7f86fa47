"""Images that are already in memory."""

from __future__ import annotations

import numpy as np

from geovq.data.images import ArrayStore, ImageSet, chunks_of
from geovq.errors import DataError


def image_set(images: np.ndarray) -> ImageSet:
    """All of an array's images as an ``ImageSet``, which training and tuning read their batches from.

    ``images (N, C, H, W)``: uint8, or floats in [0, 1]. Nothing is copied, so the array (which may be mapped
    from a file) must not change while it is in use. Raises ``DataError`` for any other type or shape, or
    naming the first image with a value outside [0, 1].

    >>> len(image_set(np.zeros((5, 1, 8, 8), np.uint8)))
    5
    """
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise DataError(f"images are {images.dtype}; expected uint8, or floats in [0, 1]")
    if images.ndim != 4 or images.size == 0:
        raise DataError(
            f"images have shape {images.shape}; expected (N, C, H, W), all at least 1; put the channels "
            "first, and an axis for them where there is one"
        )
    whole = ImageSet(ArrayStore(images), np.arange(len(images), dtype=np.int64), None)
    if images.dtype != np.uint8:
        for rows in chunks_of(whole):
            _check_range(images[rows], rows.start)
    return whole


def _check_range(images: np.ndarray, first: int) -> None:
    # NaN fails both comparisons.
    bad = ~((images >= 0) & (images <= 1)).all(axis=(1, 2, 3))
    if bad.any():
        index = int(np.argmax(bad))
        pixels = images[index]
        if not np.isfinite(pixels).all():
            raise DataError(f"image {first + index} holds NaN or infinity; expected values in [0, 1]")
        raise DataError(
            f"image {first + index} has values from {pixels.min():g} to {pixels.max():g}; expected values in "
            "[0, 1]; give 0..255 as uint8, or rescale"
        )
