"""The handwritten digits that come with scikit-learn: no download, 8x8 pixels, seconds to train on."""

from __future__ import annotations

import numpy as np

from geovq.data.images import ArrayStore
from geovq.data.splits import ImageSplits, content_hash, make_splits


def load_digits() -> ImageSplits:
    """1,797 digits (1, 8, 8) with labels 0..9: 1,197 for training, 300 for validation, 300 for testing.

    Pixels 0..16 are divided by 16. Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten
    Digits", UCI Machine Learning Repository, 1998 (its test part).
    """
    from sklearn.datasets import load_digits as load_bunch  # half a second that other sources do not need

    bunch = load_bunch()
    pixels = (bunch.images[:, None] / 16).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    parts = {"train": np.arange(len(labels), dtype=np.int64)}
    content = content_hash(pixels, labels)
    return make_splits("digits", ArrayStore(pixels), labels, parts, content, n_test=300, n_validation=300)
