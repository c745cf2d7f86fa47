"""Rows drawn at random."""

from __future__ import annotations

import numpy as np

from geovq.seeding import numpy_generator


def sample_rows(n: int, count: int, seed: int) -> np.ndarray:
    """``count`` different numbers of ``range(n)``, ascending; all of them if there are no more."""
    if n <= count:
        return np.arange(n)
    return np.sort(numpy_generator(seed, "sample").choice(n, count, replace=False))
