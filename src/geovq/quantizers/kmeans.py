"""Euclidean k-means: the quantizer that every other one has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.validation import check_count
from geovq.search import kmeans, nearest_codes


class KMeansQuantizer(Quantizer):
    """Nearest mean in Euclidean distance.

    Sigma is accepted, as in every quantizer, and changes nothing: the distance is that of the means.

    Parameters
    ----------
    n_codes : K
    n_iterations : Lloyd iterations
    random_state : seed, or ``np.random.RandomState``, of the start

    Attributes
    ----------
    codebook_ : (K, d), in the dtype of the fitted X

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 0.0], [0.0, 2.0], [9.0, 0.0], [9.0, 2.0]])
    >>> quantizer = KMeansQuantizer(n_codes=2, random_state=0).fit(X)
    >>> sorted(quantizer.codebook_[:, 0].tolist())
    [0.0, 9.0]
    """

    codebook_: np.ndarray

    def __init__(self, n_codes: int = 8, n_iterations: int = 25, random_state: Any = None) -> None:
        self.n_codes = n_codes
        self.n_iterations = n_iterations
        self.random_state = random_state

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        check_count("n_iterations", self.n_iterations)
        self.codebook_ = kmeans(points, self.n_codes, seed, self.n_iterations)

    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        return nearest_codes(points, as_tensor(self.codebook_))
