"""Train, validation and test: fixed once for a data set, whatever the seed of a run.

Validation images always come from the training images. Test images are the data set's own; only data that
arrives in one piece has a tenth of it set aside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geovq.data.images import ImageSet, ImageStore
from geovq.data.statistics import channel_statistics
from geovq.errors import DataError
from geovq.seeding import numpy_generator
from geovq.storage.artifact import fingerprint

SPLIT_SEED = 0  # never changed: figures on one split do not compare with figures on another
MIN_IMAGES = 10


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """A data set in its three parts.

    ``n_classes`` is 0 without labels. ``fingerprint`` is the SHA-256 of the content and of the split: equal
    fingerprints mean the same images in the same parts.
    """

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    n_classes: int
    fingerprint: str

    @cached_property
    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of every channel of the training images; see ``data.statistics``."""
        return channel_statistics(self.train)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""
        return self.train.shape


def make_splits(
    name: str,
    store: ImageStore,
    labels: np.ndarray | None,
    parts: Mapping[str, np.ndarray],
    content: str,
    *,
    n_test: int | None = None,
    n_validation: int | None = None,
) -> ImageSplits:
    """Complete ``parts`` (rows of the store under ``train`` and, where given, ``validation`` and ``test``).

    A missing part is set aside from the training rows: ``n_test`` or ``n_validation`` images, by default a
    tenth, the same share of every class where there are ``labels`` (N,). ``content`` is the SHA-256 of the
    images and labels. Raises ``DataError`` if there are too few images.
    """
    rows = dict(parts)
    if len(rows["train"]) < MIN_IMAGES:
        raise DataError(f"{name}: {len(rows['train'])} training images; expected at least {MIN_IMAGES}")
    for part, count in (("test", n_test), ("validation", n_validation)):
        if part not in rows:
            count = count or max(1, round(len(rows["train"]) / 10))
            rows["train"], rows[part] = set_aside(rows["train"], labels, count, part)
        if len(rows[part]) == 0:
            raise DataError(f"{name}: no {part} images; expected at least 1")
    digests = {part: hashlib.sha256(rows[part].astype("<i8").tobytes()).hexdigest() for part in rows}
    sets = {
        part: ImageSet(store, rows[part], None if labels is None else labels[rows[part]]) for part in rows
    }
    return ImageSplits(
        name=name,
        train=sets["train"],
        validation=sets["validation"],
        test=sets["test"],
        n_classes=0 if labels is None else int(labels.max()) + 1,
        fingerprint=fingerprint({"content": content, "split": digests}),
    )


def set_aside(
    rows: np.ndarray, labels: np.ndarray | None, count: int, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """Part ``rows`` (n,) into those kept and ``count`` set aside, both ascending.

    Drawn evenly from every class when ``labels`` (N,) are given: class sizes times ``count / n``, rounded
    by largest remainder.
    """
    generator = numpy_generator(SPLIT_SEED, f"{purpose} split")
    drawn = generator.permutation(rows)
    if labels is None:
        return np.sort(drawn[count:]), np.sort(drawn[:count])
    classes, class_of, sizes = np.unique(labels[drawn], return_inverse=True, return_counts=True)
    shares = sizes * count / len(rows)
    quotas = np.floor(shares).astype(np.int64)
    largest_remainders = np.argsort(quotas - shares, kind="stable")
    quotas[largest_remainders[: count - quotas.sum()]] += 1
    aside = np.zeros(len(rows), dtype=bool)
    for index in range(len(classes)):
        aside[np.flatnonzero(class_of == index)[: quotas[index]]] = True
    return np.sort(drawn[~aside]), np.sort(drawn[aside])


def content_hash(pixels: np.ndarray, labels: np.ndarray | None) -> str:
    """SHA-256 of images and labels in memory: their types, shapes and little-endian bytes."""
    digest = hashlib.sha256()
    for array in (pixels, labels):
        if array is None:
            continue
        portable = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{portable.dtype.str}{portable.shape}".encode())
        digest.update(portable.data)
    return digest.hexdigest()
