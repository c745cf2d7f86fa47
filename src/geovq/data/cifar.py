"""CIFAR-10's binary layout: records of one label byte and 3,072 pixel bytes, channel by channel.

Format: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, binary version. The
Python version of the same data is pickled and never loaded.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geovq.data.idx import GZIP_MAGIC, MAX_COMPRESSION_RATIO
from geovq.data.images import ArrayStore
from geovq.data.mnist_layout import find_file
from geovq.data.reading import read_errors, require_folder
from geovq.data.splits import ImageSplits, content_hash, make_splits
from geovq.errors import DataError

IMAGE_SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
LARGEST_LABEL = 9
TRAIN_FILE = re.compile(r"(data_batch_(\d+)\.bin)(\.gz)?")
TEST_FILE = "test_batch.bin"
ARCHIVE = "cifar-10-binary.tar"
MEMBERS = tuple(
    f"cifar-10-batches-bin/{file}" for file in (*(f"data_batch_{i}.bin" for i in range(1, 6)), TEST_FILE)
)


def load_cifar_bin(path: Path, name: str) -> ImageSplits:
    """The user's own files in CIFAR-10's binary layout: a folder of training batches and one of testing.

    Training images are those of every ``data_batch_N.bin`` or ``data_batch_N.bin.gz``, however many there
    are, in the order of N; test images those of ``test_batch.bin`` or ``test_batch.bin.gz``. Where a file is
    there both ways the compressed one is read. Raises ``DataError`` naming the path if a file is missing or
    damaged, has a size that is no multiple of 3,073 bytes, or has a label above 9.
    """
    require_folder(path)
    batches = _training_files(path)
    if not batches:
        raise DataError(
            f"{path}: no data_batch_1.bin or data_batch_1.bin.gz; expected CIFAR-10's binary version "
            "(the pickled Python version is never loaded)"
        )
    test = find_file(path, TEST_FILE)
    if test is None:
        raise DataError(f"{path}: no {TEST_FILE} or {TEST_FILE}.gz; expected one beside {batches[0].name}")
    *train, held_out = (_records(file, _content(file)) for file in (*batches, test))
    return _splits(name, train, held_out, None)


def load_cifar_archive(name: str, paths: Mapping[str, Path], n_validation: int | None = None) -> ImageSplits:
    """Splits of the published archive; ``paths`` maps ``ARCHIVE`` to where it is.

    Only the six files of images are read, by their names, and none is unpacked to disk. Raises ``DataError``
    if the archive is damaged or one of them is missing.
    """
    path = paths[ARCHIVE]
    contents: dict[str, bytes] = {}
    with read_errors(path):
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.name in MEMBERS and (file := archive.extractfile(member)) is not None:
                        contents[member.name] = file.read()
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path}: damaged archive: {error}; fetch it again") from None
    for member_name in MEMBERS:
        if member_name not in contents:
            raise DataError(f"{path}: no {member_name}; expected the binary version of CIFAR-10")
    *train, held_out = (_records(path / member_name, contents.pop(member_name)) for member_name in MEMBERS)
    return _splits(name, train, held_out, n_validation)


def _training_files(folder: Path) -> list[Path]:
    """The training batches in a folder, by number, each once."""
    found: dict[tuple[int, str], Path] = {}
    with read_errors(folder):
        # In this order a compressed file takes the place of a plain one of the same name.
        for path in sorted(folder.iterdir()):
            if (match := TRAIN_FILE.fullmatch(path.name)) and path.is_file():
                found[int(match[2]), match[1]] = path
    return [found[key] for key in sorted(found)]


def _content(path: Path) -> bytes:
    """All bytes of a file, unpacked if it is compressed."""
    # gzip errors come first: BadGzipFile is an OSError, and says more than "cannot be read".
    with read_errors(path):
        try:
            with path.open("rb") as file:
                # No record starts like this: its label would be 31.
                compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
                file.seek(0)
                if not compressed:
                    return file.read()
                capacity = path.stat().st_size * MAX_COMPRESSION_RATIO
                with gzip.GzipFile(fileobj=file) as unpacked:
                    content = unpacked.read(capacity + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path}: damaged gzip file: {error}; fetch it again") from None
    if len(content) > capacity:
        raise DataError(
            f"{path}: holds over {MAX_COMPRESSION_RATIO} times the file's compressed size; expected a sound "
            "file; if it is one, unpack it with gunzip first"
        )
    return content


def _records(path: Path, content: bytes) -> np.ndarray:
    """Records (n, 3073) uint8, label first."""
    if not content or len(content) % RECORD_BYTES:
        raise DataError(
            f"{path}: {len(content):,} bytes; expected a multiple of {RECORD_BYTES:,}, one label and "
            f"{'x'.join(map(str, IMAGE_SHAPE))} pixels a record; it is truncated or of another layout"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD_BYTES)
    wrong = np.flatnonzero(records[:, 0] > LARGEST_LABEL)
    if len(wrong):
        raise DataError(
            f"{path}: record {wrong[0]} has label {records[wrong[0], 0]}; expected 0 to {LARGEST_LABEL}; the "
            "file is damaged or of another layout"
        )
    return records


def _splits(
    name: str, train: Sequence[np.ndarray], test: np.ndarray, n_validation: int | None
) -> ImageSplits:
    n_train = sum(len(records) for records in train)
    batches = [*train, test]
    pixels = np.concatenate([records[:, 1:] for records in batches]).reshape(-1, *IMAGE_SHAPE)
    labels = np.concatenate([records[:, 0] for records in batches]).astype(np.int64)
    parts = {
        "train": np.arange(n_train, dtype=np.int64),
        "test": np.arange(n_train, len(pixels), dtype=np.int64),
    }
    content = content_hash(pixels, labels)
    return make_splits(name, ArrayStore(pixels), labels, parts, content, n_validation=n_validation)
