"""Data sets in MNIST's layout: four IDX files, images and labels for training and for testing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from geovq.data.idx import read_idx
from geovq.data.images import ArrayStore
from geovq.data.reading import read_errors
from geovq.data.splits import ImageSplits, content_hash, make_splits
from geovq.errors import DataError

IMAGE_FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABEL_FILES = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
FILE_NAMES = (*IMAGE_FILES.values(), *LABEL_FILES.values())


def load_idx(path: Path, name: str) -> ImageSplits:
    """The user's own IDX files: a folder with the four names of MNIST, or one file of images.

    One file has no labels, and a tenth of it is set aside for testing. Raises ``DataError`` naming the path
    if a file is missing, damaged, or does not go with the others.
    """
    with read_errors(path):
        is_folder = path.is_dir()
    if is_folder:
        return load_mnist_layout(name, {file: _required_file(path, file) for file in FILE_NAMES})
    pixels = read_idx(path, n_dims=3)[:, None]
    _check_area(path, pixels)
    parts = {"train": np.arange(len(pixels), dtype=np.int64)}
    return make_splits(name, ArrayStore(pixels), None, parts, content_hash(pixels, None))


def load_mnist_layout(name: str, paths: Mapping[str, Path], n_validation: int | None = None) -> ImageSplits:
    """Splits of four IDX files; ``paths`` maps each of ``FILE_NAMES`` to where it is."""
    pixels, labels = {}, {}
    for part in ("train", "test"):
        image_path, label_path = paths[IMAGE_FILES[part]], paths[LABEL_FILES[part]]
        pixels[part] = read_idx(image_path, n_dims=3)[:, None]
        labels[part] = read_idx(label_path, n_dims=1).astype(np.int64)
        _check_area(image_path, pixels[part])
        if len(labels[part]) != len(pixels[part]):
            raise DataError(
                f"{label_path}: {len(labels[part])} labels; expected {len(pixels[part])}, one for each image "
                f"of {image_path}"
            )
    train_shape, test_shape = pixels["train"].shape[1:], pixels["test"].shape[1:]
    if train_shape != test_shape:
        raise DataError(
            f"{paths[IMAGE_FILES['test']]}: images are {_size(test_shape)}; expected {_size(train_shape)}, "
            f"the size of those in {paths[IMAGE_FILES['train']]}"
        )
    n_train, n_all = len(pixels["train"]), len(pixels["train"]) + len(pixels["test"])
    parts = {"train": np.arange(n_train, dtype=np.int64), "test": np.arange(n_train, n_all, dtype=np.int64)}
    all_pixels = np.concatenate([pixels["train"], pixels["test"]])
    all_labels = np.concatenate([labels["train"], labels["test"]])
    content = content_hash(all_pixels, all_labels)
    return make_splits(name, ArrayStore(all_pixels), all_labels, parts, content, n_validation=n_validation)


def find_file(folder: Path, file: str) -> Path | None:
    """The IDX file of this name in a folder, compressed or plain, if it is there."""
    with read_errors(folder):
        for path in (folder / f"{file}.gz", folder / file):
            if path.is_file():
                return path
    return None


def _required_file(folder: Path, file: str) -> Path:
    if path := find_file(folder, file):
        return path
    raise DataError(f"{folder}: no {file} or {file}.gz; expected the four files {', '.join(FILE_NAMES)}")


def _check_area(path: Path, pixels: np.ndarray) -> None:
    if 0 in pixels.shape[2:]:
        raise DataError(f"{path}: images are {_size(pixels.shape[1:])}; expected at least 1x1")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[-2]}x{shape[-1]}"
