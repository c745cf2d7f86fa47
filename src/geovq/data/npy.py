"""Images in one NumPy file, mapped rather than read: it may be larger than memory."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import Literal

import numpy as np

from geovq.data.images import ArrayStore
from geovq.data.reading import read_errors, require_file
from geovq.data.splits import ImageSplits, make_splits
from geovq.errors import DataError
from geovq.storage.artifact import file_hash

CHANNELS = (1, 3, 4)
EXPECTED = "expected (N, H, W), (N, C, H, W) or (N, H, W, C) with C of 1, 3 or 4"
CHUNK_BYTES = 2**24
HEADER_BYTES = 2**16  # NumPy's own limit is below this; a header may claim up to 4 GB


def load_npy(path: Path, name: str) -> ImageSplits:
    """Images of a .npy file: uint8, or floats in [0, 1]; (N, H, W), (N, C, H, W) or (N, H, W, C).

    C is 1, 3 or 4; where a shape could be read both ways the channels come first. There are no labels, and
    a tenth of the images is set aside for testing. The file must not change while it is in use. Raises
    ``DataError`` if it is damaged or holds anything else, naming the first image with a value outside [0, 1].
    """
    require_file(path)
    with read_errors(path):
        images = _channels_first(path, _map(path))
        if images.dtype != np.uint8:
            _check_range(path, images)
        content = file_hash(path)
    parts = {"train": np.arange(len(images), dtype=np.int64)}
    return make_splits(name, ArrayStore(images), None, parts, content)


def _map(path: Path) -> np.ndarray:
    """The file as a read-only map, once its header agrees with its size."""
    with path.open("rb") as file:
        head = io.BytesIO(file.read(HEADER_BYTES))
    shape, fortran_order, dtype = _parse_header(path, head)
    if dtype != np.uint8 and not (dtype.kind == "f" and dtype.itemsize <= 8):
        hint = "; pickled objects are never loaded" if dtype.hasobject else ""
        raise DataError(f"{path}: holds {dtype}; expected uint8, or floats in [0, 1]{hint}")
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise DataError(f"{path}: shape is {shape}; {EXPECTED}")
    claimed, found = math.prod(shape) * dtype.itemsize, path.stat().st_size - head.tell()
    if claimed != found:
        raise DataError(
            f"{path}: header claims {shape} of {dtype} = {claimed:,} bytes, but {found:,} follow; "
            "the file is truncated or damaged"
        )
    order: Literal["F", "C"] = "F" if fortran_order else "C"
    return np.memmap(path, dtype=dtype, mode="r", offset=head.tell(), shape=shape, order=order)


def _parse_header(path: Path, head: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(head)
        if version not in readers:
            raise ValueError(f"format version {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers that Python 2 wrote
            return readers[version](head)
    except Exception as error:  # NumPy parses Python syntax here, and raises whatever the parser raises
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a readable .npy file: {reason}; write it with numpy.save") from None


def _channels_first(path: Path, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    if images.shape[1] in CHANNELS:
        return images
    if images.shape[3] in CHANNELS:
        return np.moveaxis(images, 3, 1)
    raise DataError(f"{path}: shape is {images.shape}; {EXPECTED}")


def _check_range(path: Path, images: np.ndarray) -> None:
    n_rows = max(1, CHUNK_BYTES // (images[0].size * images.itemsize))
    for start in range(0, len(images), n_rows):
        chunk = images[start : start + n_rows]
        # NaN fails both comparisons.
        bad = ~((chunk >= 0) & (chunk <= 1)).all(axis=(1, 2, 3))
        if bad.any():
            index = start + int(np.argmax(bad))
            pixels = images[index]
            if not np.isfinite(pixels).all():
                raise DataError(f"{path}: image {index} holds NaN or infinity; expected values in [0, 1]")
            raise DataError(
                f"{path}: image {index} has values from {pixels.min():g} to {pixels.max():g}; expected "
                "values in [0, 1]; store 0..255 as uint8, or rescale"
            )
