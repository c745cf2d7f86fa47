"""Points of a graph, with what edge lengths need to know of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latents:
    """n points in d dimensions.

    Attributes
    ----------
    means : (n, d), the points; posterior means where an encoder gives Gaussians
    sigmas : (n, d), posterior standard deviations, for lengths between Gaussians
    metrics : (n, d, d), the metric tensor at every point, or (1, d, d), one for all
    rows : int64 (n,), which row of the fitted array each point is, where that is not its own number: lengths
        that need a decoder find the image that a token belongs to by it
    """

    means: np.ndarray
    sigmas: np.ndarray | None = None
    metrics: np.ndarray | None = None
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.means)

    def take(self, index: np.ndarray | slice) -> Latents:
        """The points with these numbers."""
        if self.rows is not None:
            rows = self.rows[index]
        else:
            rows = np.arange(len(self))[index] if isinstance(index, slice) else index
        return Latents(
            self.means[index],
            None if self.sigmas is None else self.sigmas[index],
            self.metrics if self.metrics is None or len(self.metrics) == 1 else self.metrics[index],
            rows,
        )
