"""Product quantization: one code for every group of coordinates."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.validation import check_count
from geovq.search import kmeans, nearest_codes
from geovq.seeding import derive_seed


class ProductQuantizer(Quantizer):
    """k-means in each of G groups of consecutive coordinates.

    ``K^G`` vectors for the storage of K, and no search over their sums: groups share no coordinate, so the
    nearest code of every group is the nearest vector of all. Groups are as equal in size as possible, the
    first ones larger. Points of fewer coordinates than ``n_groups`` have one group a coordinate.

    Parameters
    ----------
    n_codes : K, in every group
    n_groups : G, or d if that is less
    n_iterations : Lloyd iterations a group
    random_state : seed, or ``np.random.RandomState``, of the starts; one group alone is the
        ``KMeansQuantizer`` of the same seed

    Attributes
    ----------
    codebook_ : (G, K, d), zero outside the group, in the dtype of the fitted X

    Source: Jégou, Douze and Schmid, "Product Quantization for Nearest Neighbor Search", IEEE TPAMI 2011.
    """

    codebook_: np.ndarray

    def __init__(
        self, n_codes: int = 8, n_groups: int = 2, n_iterations: int = 25, random_state: Any = None
    ) -> None:
        self.n_codes = n_codes
        self.n_groups = n_groups
        self.n_iterations = n_iterations
        self.random_state = random_state

    def planned_sizes(self, d: int) -> tuple[int, ...]:
        """``(K,) * min(G, d)``."""
        return (self.n_codes,) * min(self.n_groups, d)

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        for name in ("n_groups", "n_iterations"):
            check_count(name, getattr(self, name))
        groups = coordinate_groups(points.shape[1], self.n_groups)
        self.codebook_ = product_codebook(points, groups, self.n_codes, self.n_iterations, seed)

    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        return nearest_by_group(points, as_tensor(self.codebook_))


def coordinate_groups(d: int, n_groups: int) -> list[slice]:
    """``min(n_groups, d)`` consecutive groups of d coordinates, sizes equal or larger by one at the front."""
    sizes = [len(part) for part in np.array_split(np.arange(d), min(n_groups, d))]
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def product_codebook(
    points: np.ndarray, groups: list[slice], n_codes: int, n_iterations: int, seed: int
) -> np.ndarray:
    """k-means in every group of coordinates.

    Parameters
    ----------
    points : (n, d)
    groups : of the d coordinates, G
    n_codes : K, at most n
    n_iterations : Lloyd iterations
    seed : of the first group's start, and the source of those of the others

    Returns
    -------
    (G, K, d) in the dtype of ``points``, zero outside the group. A warning names each group that has fewer
    distinct points than codes.
    """
    codebook = np.zeros((len(groups), n_codes, points.shape[1]), dtype=points.dtype)
    for number, group in enumerate(groups):
        group_seed = derive_seed(seed, "group", number) if number else seed
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            codebook[number, :, group] = kmeans(points[:, group], n_codes, group_seed, n_iterations)
        for warning in caught:
            message = f"coordinates {group.start}..{group.stop - 1}: {warning.message}"
            warnings.warn(message, warning.category, stacklevel=2)
    return codebook


def nearest_by_group(points: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """The nearest code of every group, int64 (n, G), of points (n, d) for a codebook (G, K, d)."""
    groups = coordinate_groups(points.shape[1], len(codebook))
    levels = [
        nearest_codes(points[:, group], book[:, group]) for group, book in zip(groups, codebook, strict=True)
    ]
    return torch.stack(levels, dim=1)
