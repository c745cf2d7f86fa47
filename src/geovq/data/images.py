"""What every source of images looks like to the rest of the package."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

NUMBERS_A_CHUNK = 2**20


class ImageStore(Protocol):
    """Somewhere images are kept: an array in memory, a mapped file, a folder of image files."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images of the given rows (n,) as float32 (n, C, H, W) in [0, 1]."""


class ArrayStore:
    """Images in an array (N, C, H, W): uint8, or floats in [0, 1].

    The array is kept in its own type (and may be mapped from a file); only batches become float32.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""
        _, channels, height, width = self._pixels.shape
        return channels, height, width

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images of the given rows (n,) as float32 (n, C, H, W) in [0, 1]."""
        batch = np.ascontiguousarray(self._pixels[rows])
        if batch.dtype == np.uint8:
            # Divided rather than multiplied by 1/255, so that 255 becomes exactly 1.
            return np.divide(batch, np.float32(255.0), dtype=np.float32)
        return batch.astype(np.float32)


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8; values outside, which a decoder may give, are clipped."""
    return np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)


def chunks_of(images: ImageSet) -> list[slice]:
    """Slices that cover an image set, each of about 4 MB as float32."""
    size = max(1, NUMBERS_A_CHUNK // math.prod(images.shape))
    return [slice(start, min(start + size, len(images))) for start in range(0, len(images), size)]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One part of a data set: some rows of a store, and their labels.

    ``rows`` is int64 (n,); ``labels`` is int64 (n,) or ``None``.
    """

    store: ImageStore
    rows: np.ndarray
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""
        return self.store.shape

    def images(self, indices: np.ndarray | slice) -> np.ndarray:
        """Images as float32 (n, C, H, W) in [0, 1], read on each call.

        ``indices`` count within this set: an integer array (n,) or a slice. Raises ``DataError`` naming
        the file when an image file was changed or removed since the set was loaded.
        """
        return self.store.read(self.rows[indices])
