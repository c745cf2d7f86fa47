"""A folder of image files, decoded when a batch asks for them: memory does not grow with their number."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

import numpy as np

from geovq.data.decoding import ImageHeader, read_header, read_pixels
from geovq.data.reading import read_errors, require_folder
from geovq.data.splits import ImageSplits, make_splits
from geovq.errors import DataError
from geovq.storage.artifact import fingerprint

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
PART_OF_FOLDER = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class FileStore:
    """Images in files below ``root``, each converted to ``shape`` (C, H, W) as it is read.

    ``size`` above 0 resizes and cuts the centre square, as ``read_pixels`` says.
    """

    root: Path
    names: tuple[str, ...]
    size: int
    shape: tuple[int, int, int]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images of the given rows (n,) as float32 (n, C, H, W) in [0, 1]."""
        batch = np.empty((len(rows), *self.shape), dtype=np.float32)
        channels, height, width = self.shape
        for position, row in enumerate(rows):
            path = self.root / self.names[row]
            pixels = read_pixels(path, self.size, channels)
            if pixels.shape != (height, width, channels):
                raise DataError(
                    f"{path}: {pixels.shape[0]}x{pixels.shape[1]} now; expected {height}x{width}, as when "
                    "the folder was loaded; restore it or start again"
                )
            np.divide(pixels.transpose(2, 0, 1), np.float32(255.0), out=batch[position])
        return batch


def load_folder(path: Path, name: str, image_size: int, channels: int) -> ImageSplits:
    """Images of a folder; its sub-folders are the labels, in the order of their names.

    Sub-folders ``train``, ``test`` and ``validation`` (or ``val``) are used as those parts where there is a
    ``train``; what is missing is set aside from training. ``image_size`` and ``channels`` convert, 0 leaves
    as it is. Raises ``DataError`` naming the file that is damaged, or two that differ in size or channels.
    """
    require_folder(path)
    names = _image_names(path)
    if not names:
        raise DataError(f"{path}: no images; expected files ending in {', '.join(SUFFIXES)}")
    part_names, class_names = _parts_and_classes(path, names)
    digests, header = _inspect_all(path, names, image_size, channels)
    shape = (channels or header.channels, image_size or header.height, image_size or header.width)
    content = fingerprint({"files": digests, "image_size": image_size, "channels": channels})
    parts = {
        part: np.asarray([row for row, found in enumerate(part_names) if found == part], dtype=np.int64)
        for part in sorted(set(part_names))
    }
    labels = _labels(path, names, part_names, class_names)
    return make_splits(name, FileStore(path, tuple(names), image_size, shape), labels, parts, content)


def _image_names(root: Path) -> list[str]:
    """Sorted names, relative to ``root``, of the image files below it; hidden ones are left out."""
    names = []
    visited = set()
    for parent, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        # A link may lead back to a folder above it.
        if (real := os.path.realpath(parent)) in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for file in files:
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                names.append((Path(parent) / file).relative_to(root).as_posix())
    return sorted(names)


def _raise(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _parts_and_classes(root: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part of every image, and the name of its class ("" without)."""
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    tops = {parts[0] if parts else "" for parts in folders}
    if "train" not in tops:
        if "test" in tops:
            raise DataError(f"{root}: test/ without train/; expected both, or neither")
        return ["train"] * len(names), [parts[0] if parts else "" for parts in folders]
    for name, parts in zip(names, folders, strict=True):
        if not parts or parts[0] not in PART_OF_FOLDER:
            raise DataError(
                f"{root / name}: lies beside train/; expected all images in train/, validation/ or test/"
            )
    part_names = [PART_OF_FOLDER[parts[0]] for parts in folders]
    return part_names, [parts[1] if len(parts) > 1 else "" for parts in folders]


def _labels(
    root: Path, names: Sequence[str], part_names: Sequence[str], class_names: Sequence[str]
) -> np.ndarray | None:
    """Labels int64 (N,), or None if there are not two classes at least."""
    classes = sorted({c for c, part in zip(class_names, part_names, strict=True) if part == "train"})
    if "" in classes and len(classes) > 1:
        loose = names[class_names.index("")]
        raise DataError(
            f"{root / loose}: lies beside the sub-folder '{classes[1]}'; expected all images in sub-folders, "
            "or none"
        )
    number = {name: index for index, name in enumerate(classes)}
    for name, class_name in zip(names, class_names, strict=True):
        if class_name not in number:
            raise DataError(
                f"{root / name}: its class '{class_name}' has no training images; expected one of "
                f"{', '.join(classes)}"
            )
    if len(classes) < 2:
        return None
    return np.asarray([number[name] for name in class_names], dtype=np.int64)


def _inspect_all(
    root: Path, names: Sequence[str], image_size: int, channels: int
) -> tuple[dict[str, str], ImageHeader]:
    """SHA-256 of every file, and the header of the first, which all share where nothing converts them."""
    digest, first = _inspect(root / names[0])
    digests = {names[0]: digest}
    for name in names[1:]:
        digests[name], header = _inspect(root / name)
        sizes = [f"{h.height}x{h.width}" for h in (first, header)]
        if not image_size and sizes[0] != sizes[1]:
            smallest = min(first.height, first.width, header.height, header.width)
            raise DataError(
                f"{root / names[0]} is {sizes[0]} and {root / name} is {sizes[1]} (height x width); expected "
                f"one size; resize with --set data.image_size={smallest}"
            )
        if not channels and header.channels != first.channels:
            raise DataError(
                f"{root / names[0]} has {first.channels} channels and {root / name} has {header.channels}; "
                "expected the same; convert with --set data.channels=3"
            )
    return digests, first


def _inspect(path: Path) -> tuple[str, ImageHeader]:
    with read_errors(path), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return digest, read_header(path, file)
