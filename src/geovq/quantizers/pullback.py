"""Codes in the pull-back metric: every point measures distances with its own metric tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.lloyd import Distortion, WeightedSquares, lloyd
from geovq.quantizers.validation import check_count
from geovq.search import kmeans, nearest_codes, nearest_codes_quadratic

LEAST_EIGENVALUE = 1e-7  # of the mean eigenvalue of a cell's summed tensors; float32 knows none below
NUMBERS_A_CHUNK = 2**22  # of metric tensors held in float64 at once


class PullbackQuantizer(Quantizer):
    """Lloyd's algorithm where point z has the metric tensor M: ``(z - c)' M (z - c)``.

    With ``M = J'J`` of a decoder at z, this is the squared difference between the decoded point and its
    decoded code, to first order. Points go to the nearest code in their own metric, codes to
    ``(sum M)^-1 sum M z`` of their cell; both steps are exact, so the objective never rises. In directions
    that the cell's metrics barely see (an eigenvalue of ``sum M`` below 1e-7 of the mean one), a code moves
    as if that eigenvalue were 1e-7 of the mean. Codes that lose all their points move to those that are
    served worst.

    Without metric the tensors are the identity, and this is Euclidean k-means. Sigma is accepted, as in every
    quantizer, and changes nothing.

    Parameters
    ----------
    n_codes : K
    n_iterations : Lloyd iterations, after as many of Euclidean k-means, which is the start
    random_state : seed, or ``np.random.RandomState``, of the start

    Attributes
    ----------
    codebook_ : (K, d)
    objectives_ : (iterations + 1,), mean ``(z - c)' M (z - c)`` before every Lloyd step and after the last

    Source: vector quantization with an input-dependent quadratic distortion, Li, Chaddha and Gray,
    "Asymptotic performance of vector quantizers with a perceptual distortion measure", IEEE Transactions on
    Information Theory 1999; the metric, Arvanitidis, Hansen and Hauberg, "Latent Space Oddity", ICLR 2018.
    """

    codebook_: np.ndarray
    objectives_: np.ndarray

    def __init__(self, n_codes: int = 8, n_iterations: int = 25, random_state: Any = None) -> None:
        self.n_codes = n_codes
        self.n_iterations = n_iterations
        self.random_state = random_state

    @property
    def takes_metric(self) -> bool:
        """Metric tensors are what distinguishes this from k-means."""
        return True

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        check_count("n_iterations", self.n_iterations)
        start = kmeans(points, self.n_codes, seed, self.n_iterations)
        distortion = (
            WeightedSquares(points, np.ones_like(points))
            if metric is None
            else QuadraticForms(points, metric)
        )
        codebook, self.objectives_ = lloyd(distortion, start, self.n_iterations)
        self.codebook_ = codebook.astype(points.dtype)

    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        if metric is None:
            return nearest_codes(points, as_tensor(self.codebook_))
        return nearest_codes_quadratic(points, metric, as_tensor(self.codebook_))


class QuadraticForms(Distortion):
    """``(x_i - c)' M_i (x_i - c)``: one metric tensor for each point.

    Parameters
    ----------
    points : (n, d)
    metric : (n, d, d), symmetric, not negative
    """

    def __init__(self, points: np.ndarray, metric: np.ndarray) -> None:
        self.points_as_codes = points.astype(np.float64)
        self._metric = metric

    def nearest(self, codebook: np.ndarray) -> np.ndarray:
        """argmin by matrix products, int64 (n,)."""
        points, metric = as_tensor(self.points_as_codes), as_tensor(self._metric)
        return nearest_codes_quadratic(points, metric, as_tensor(codebook)).numpy()

    def costs(self, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """The quadratic forms, float64 (n,)."""
        costs = np.empty(len(codes))
        for part in self._chunks():
            errors = self.points_as_codes[part] - codebook[codes[part]]
            costs[part] = np.einsum("ni,ni->n", errors, _products(self._wide_metric(part), errors))
        return costs

    def centers(self, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """``c + (sum M)^-1 sum M (x - c)`` from the code c before, float64 (K, d)."""
        n_codes, d = codebook.shape
        tensors, pulls = np.zeros((n_codes, d * d)), np.zeros((n_codes, d))
        for part in self._chunks():
            cells, metric = codes[part], self._wide_metric(part)
            rows = np.arange(len(cells) + 1)
            members = csr_matrix((np.ones(len(cells)), cells, rows), shape=(len(cells), n_codes)).T
            tensors += members @ metric.reshape(len(cells), d * d)
            pulls += members @ _products(metric, self.points_as_codes[part] - codebook[cells])
        values, vectors = np.linalg.eigh(tensors.reshape(n_codes, d, d))
        floors = LEAST_EIGENVALUE * np.trace(tensors.reshape(n_codes, d, d), axis1=1, axis2=2) / d
        values = np.maximum(values, np.where(floors > 0, floors, 1)[:, None])
        along = np.einsum("kij,ki->kj", vectors, pulls) / values
        return codebook + np.einsum("kij,kj->ki", vectors, along)

    def _chunks(self) -> Iterator[slice]:
        rows = max(1, NUMBERS_A_CHUNK // self._metric[0].size)
        for start in range(0, len(self._metric), rows):
            yield slice(start, start + rows)

    def _wide_metric(self, part: slice) -> np.ndarray:
        return self._metric[part].astype(np.float64, copy=False)


def _products(metric: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """``M_i v_i`` for (n, d, d) and (n, d)."""
    return (metric @ vectors[:, :, None])[:, :, 0]
