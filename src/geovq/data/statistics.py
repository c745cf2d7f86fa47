"""Mean and standard deviation of the channels of images."""

from __future__ import annotations

import math

import numpy as np

from geovq.data.images import ImageSet, chunks_of
from geovq.errors import DataError

MOST_NUMBERS = 2**28  # intensities; decoding more files would take long and change nothing that matters


def channel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel's intensities, over all pixels: (C,) each, to six digits.

    Of more images than hold 2^28 intensities as many are read, evenly spread. Raises ``DataError`` for a
    channel in which all pixels are equal.
    """
    rows = images.rows[:: math.ceil(len(images) * math.prod(images.shape) / MOST_NUMBERS)]
    read = ImageSet(images.store, rows, None)
    count, sums, squares = 0, 0.0, 0.0
    for chunk in chunks_of(read):
        pixels = read.images(chunk).astype(np.float64)
        count += pixels[:, 0].size
        sums = sums + pixels.sum(axis=(0, 2, 3))
        squares = squares + np.square(pixels).sum(axis=(0, 2, 3))
    mean = np.asarray(sums) / count
    deviation = np.sqrt(np.maximum(np.asarray(squares) / count - mean**2, 0))
    if (deviation < 1e-6).any():
        raise DataError(
            f"channel {int(deviation.argmin())} has one intensity in every pixel of {len(rows)} training "
            "images; expected channels that vary; leave out normalization"
        )
    return tuple(round(float(m), 6) for m in mean), tuple(round(float(d), 6) for d in deviation)
