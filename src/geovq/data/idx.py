"""Reader of IDX, the format of MNIST: a big-endian header, then unsigned bytes; plain or gzip.

The header is believed only as far as the file's size bears it out, so a damaged or hostile file is refused
before memory is allocated for what it claims to hold. Format: Y. LeCun, C. Cortes, C. Burges, "The MNIST
database of handwritten digits", 1998.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from geovq.data.reading import read_errors, require_file
from geovq.errors import DataError

UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"
# Deflate reaches 1,032:1 on zeros, real images 3:1 to 50:1: a larger claim is a bomb or a damaged header.
MAX_COMPRESSION_RATIO = 256


def read_idx(path: Path, n_dims: int) -> np.ndarray:
    """The uint8 array of ``n_dims`` dimensions (3 for images, 1 for labels) in an IDX file.

    Raises ``DataError`` naming the path if it is missing, has another magic number, claims more than it can
    hold, is truncated, has bytes left over, or is a damaged gzip file.
    """
    require_file(path)
    # gzip errors come first: BadGzipFile is an OSError, and says more than "cannot be read".
    with read_errors(path):
        try:
            with path.open("rb") as file:
                compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
                file.seek(0)
                if not compressed:
                    return _read(path, file, n_dims, path.stat().st_size, compressed=False)
                capacity = path.stat().st_size * MAX_COMPRESSION_RATIO
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _read(path, unpacked, n_dims, capacity, compressed=True)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path}: damaged gzip file: {error}; fetch it again") from None


def _read(path: Path, file: io.BufferedIOBase, n_dims: int, capacity: int, *, compressed: bool) -> np.ndarray:
    shape = _read_header(path, file, n_dims)
    size = math.prod(shape)
    claim = f"{path}: header claims {'x'.join(map(str, shape))} = {size:,} bytes"
    available = capacity - 4 - 4 * n_dims
    if size > available and compressed:
        raise DataError(
            f"{claim}, over {MAX_COMPRESSION_RATIO} times the file's compressed size; expected a sound file; "
            "if it is one, unpack it with gunzip first"
        )
    if size > available:
        raise DataError(f"{claim}, but {max(available, 0):,} follow; the file is truncated")
    array = np.empty(size, dtype=np.uint8)
    found = _fill(file, array)
    if found < size:
        raise DataError(f"{claim}, but {found:,} follow; the file is truncated")
    # For gzip this read past the end is also what checks the checksum.
    if file.read(1):
        raise DataError(f"{claim}, but more bytes follow; expected the file to end there")
    return array.reshape(shape)


def _read_header(path: Path, file: io.BufferedIOBase, n_dims: int) -> tuple[int, ...]:
    expected = f"0x{UNSIGNED_BYTE:06x}{n_dims:02x} ({n_dims} dimension{'s' * (n_dims > 1)} of unsigned bytes)"
    magic = file.read(4)
    if magic != bytes([0, 0, UNSIGNED_BYTE, n_dims]):
        found = f"magic number is 0x{magic.hex()}" if len(magic) == 4 else f"only {len(magic)} bytes"
        raise DataError(f"{path}: {found}; expected an IDX file with magic number {expected}")
    sizes = file.read(4 * n_dims)
    if len(sizes) < 4 * n_dims:
        raise DataError(f"{path}: ends inside its header; the file is truncated")
    return struct.unpack(f">{n_dims}I", sizes)


def _fill(file: io.BufferedIOBase, array: np.ndarray) -> int:
    view, found = array.data, 0
    while found < len(array) and (count := file.readinto(view[found:])):
        found += count
    return found
