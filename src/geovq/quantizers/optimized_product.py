"""Optimized product quantization: the rotation of space in which product codes err least."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.product import coordinate_groups, nearest_by_group, product_codebook
from geovq.quantizers.validation import check_count
from geovq.search import MAX_POINTS_PER_CODE, cell_means, nearest_codes, sample_rows
from geovq.seeding import derive_seed

FLATTEST = 1e-10  # of the largest variance: flatter axes are dealt out as if they were this flat
SMALLEST_GAIN = 1e-12  # of the variance: a rotation that gains less is rounding


class OptimizedProductQuantizer(Quantizer):
    """Product codes after a rotation that is learnt with them.

    Every round moves the codes to the means of their cells and turns the axes to where the points lie nearest
    to their codes (orthogonal Procrustes); neither step raises the error. The rounds start twice: from the
    product codes of the given axes, and from the principal axes, dealt out to the groups such that the
    products of their variances balance, which is the best rotation of a Gaussian. The better end is kept, or
    the product codes themselves if neither beats them.

    The rotation is folded into the codebook, so vectors are looked up as those of any additive code.

    Parameters
    ----------
    n_codes : K, in every group
    n_groups : G, or d if that is less
    n_rounds : rounds from either start, on at most 1,024 points a code
    n_iterations : Lloyd iterations a group before the rounds
    random_state : seed, or ``np.random.RandomState``, of the starts

    Attributes
    ----------
    codebook_ : (G, K, d), in the dtype of the fitted X; the mean of the points is in the first level
    rotation_ : (d, d), orthogonal: codes of group g differ in the coordinates g of ``X @ rotation_`` alone
    objectives_ : (n_rounds + 1,), mean squared error of the points of the rounds, before them and after each
        one; never rises. One number where no rotation helped

    Source: Ge, He, Ke and Sun, "Optimized Product Quantization", IEEE TPAMI 2014: the non-parametric
    solution, started from the parametric one too.
    """

    codebook_: np.ndarray
    rotation_: np.ndarray
    objectives_: np.ndarray

    def __init__(
        self,
        n_codes: int = 8,
        n_groups: int = 2,
        n_rounds: int = 25,
        n_iterations: int = 25,
        random_state: Any = None,
    ) -> None:
        self.n_codes = n_codes
        self.n_groups = n_groups
        self.n_rounds = n_rounds
        self.n_iterations = n_iterations
        self.random_state = random_state

    def planned_sizes(self, d: int) -> tuple[int, ...]:
        """``(K,) * min(G, d)``."""
        return (self.n_codes,) * min(self.n_groups, d)

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        for name in ("n_groups", "n_rounds", "n_iterations"):
            check_count(name, getattr(self, name))
        groups = coordinate_groups(points.shape[1], self.n_groups)
        # Centred and scaled, as in k-means: digits are where the points differ, and no square overflows.
        mean = points.mean(0, dtype=np.float64).astype(points.dtype)
        centered = points - mean
        scale = float(np.abs(centered).max()) or 1.0
        centered /= scale
        with warnings.catch_warnings(record=True) as caught:  # said below, if these codes are kept
            warnings.simplefilter("always")
            product = product_codebook(points, groups, self.n_codes, self.n_iterations, seed)
        product = (product.astype(np.float64) - mean) / scale
        best = RotatedCodes.from_product(np.eye(points.shape[1]), product, groups)
        error = best.error(centered)
        objectives = np.array([error])
        sample = centered[sample_rows(len(points), MAX_POINTS_PER_CODE * self.n_codes, seed)]
        sample = sample.astype(np.float64)
        gain = SMALLEST_GAIN * float(np.square(sample).sum(1).mean())
        for start in (best, self._on_principal_axes(sample, groups, seed)) if len(groups) > 1 else ():
            learnt, errors = improve(start, sample, self.n_rounds)
            learnt = learnt.centered_in_cells(centered)
            learnt_error = learnt.error(centered)
            if learnt_error < error - gain:
                best, error, objectives, caught = learnt, learnt_error, errors, []
        for warning in caught:
            warnings.warn(str(warning.message), warning.category, stacklevel=2)
        codebook = scale * best.codebook()
        codebook[0] += mean
        self.codebook_ = codebook.astype(points.dtype)
        self.rotation_ = best.rotation.astype(points.dtype)
        self.objectives_ = scale**2 * objectives

    def _on_principal_axes(self, points: np.ndarray, groups: list[slice], seed: int) -> RotatedCodes:
        axes = balanced_axes(points, groups)
        with warnings.catch_warnings():  # few distinct points are a warning of the codes without a rotation
            warnings.simplefilter("ignore", UserWarning)
            start = derive_seed(seed, "principal axes")
            product = product_codebook(points @ axes, groups, self.n_codes, self.n_iterations, start)
        return RotatedCodes.from_product(axes, product, groups)

    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        dtype = torch.promote_types(points.dtype, as_tensor(self.codebook_).dtype)
        codebook = as_tensor(self.codebook_).to(points.device, dtype)
        rotation = as_tensor(self.rotation_).to(points.device, dtype)
        # What the first codes of all levels sum to: far from the origin a rotation would lose digits.
        origin = codebook[:, 0].sum(0)
        with torch.autocast(points.device.type, enabled=False):
            rotated = (points.to(dtype) - origin) @ rotation
            return nearest_by_group(rotated, (codebook - codebook[:, :1]) @ rotation)


@dataclass(frozen=True)
class RotatedCodes:
    """Codes of every group of coordinates after a rotation.

    Attributes
    ----------
    rotation : float64 (d, d), orthogonal; points X become ``X @ rotation``
    books : float64 (K, d_g) for every group of d_g consecutive coordinates
    """

    rotation: np.ndarray
    books: list[np.ndarray]

    @classmethod
    def from_product(cls, rotation: np.ndarray, codebook: np.ndarray, groups: list[slice]) -> RotatedCodes:
        """The codes of ``product_codebook``, (G, K, d), of points that were rotated."""
        return cls(rotation, [book[:, group] for book, group in zip(codebook, groups, strict=True)])

    def axes(self) -> list[np.ndarray]:
        """The columns (d, d_g) of the rotation for every group."""
        ends = np.cumsum([book.shape[1] for book in self.books])
        return np.split(self.rotation, ends[:-1], axis=1)

    def coded(self, points: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """For every group its axes (d, d_g) and book (K, d_g), the points on them and their codes (n,)."""
        for axes, book in zip(self.axes(), self.books, strict=True):
            part = (points @ axes.astype(points.dtype)).astype(np.float64)
            codes = nearest_codes(torch.from_numpy(part), as_tensor(book)).numpy()
            yield axes, book, part, codes

    def error(self, points: np.ndarray) -> float:
        """Mean squared error of points (n, d)."""
        errors = (np.square(part - book[codes]).sum(1).mean() for _, book, part, codes in self.coded(points))
        return float(sum(errors))

    def centered_in_cells(self, points: np.ndarray) -> RotatedCodes:
        """The codes moved to the means of their cells of points (n, d), those of no point left in place."""
        books = []
        for _, book, part, codes in self.coded(points):
            means, counts = cell_means(part, codes, len(book))
            books.append(np.where(counts[:, None] > 0, means, book))
        return RotatedCodes(self.rotation, books)

    def codebook(self) -> np.ndarray:
        """The codes in the coordinates of the points, (G, K, d)."""
        return np.stack([book @ axes.T for book, axes in zip(self.books, self.axes(), strict=True)])


def improve(codes: RotatedCodes, points: np.ndarray, n_rounds: int) -> tuple[RotatedCodes, np.ndarray]:
    """Rounds of codes and rotation, each the best given the other and the cells.

    Parameters
    ----------
    codes : the start
    points : float64 (n, d), centred
    n_rounds : of both steps

    Returns
    -------
    codes : at the end
    errors : (n_rounds + 1,), mean squared error before every round and after the last; never rises

    Source: Ge et al., section 3.2; the rotation: Schönemann, "A Generalized Solution of the Orthogonal
    Procrustes Problem", Psychometrika 1966.
    """
    errors: list[float] = []
    while True:
        error, products, books = 0.0, [], []
        for axes, book, part, cells in codes.coded(points):
            error += float(np.square(part - book[cells]).sum(1).mean())
            means, counts = cell_means(points, cells, len(book))
            books.append(np.where(counts[:, None] > 0, means @ axes, book))
            products.append((means * counts[:, None]).T @ books[-1])
        errors.append(error)
        if len(errors) > n_rounds:
            return codes, np.array(errors)
        # Cell by cell, this is points' times their codes, whose polar factor turns one onto the other.
        left, _, right = np.linalg.svd(np.concatenate(products, axis=1))
        codes = RotatedCodes(left @ right, books)


def balanced_axes(points: np.ndarray, groups: list[slice]) -> np.ndarray:
    """Principal axes dealt out to the groups such that the products of their variances balance.

    The largest variances come first, each into the group of the smallest product so far that has room.

    Parameters
    ----------
    points : float64 (n, d), centred
    groups : of the d coordinates

    Returns
    -------
    float64 (d, d), an axis a column, in the order of the groups

    Source: Ge et al., section 3.3, "eigenvalue allocation".
    """
    variances, axes = np.linalg.eigh(points.T @ points / len(points))
    least = max(variances[0], FLATTEST * variances[-1], np.finfo(np.float64).tiny)
    weights = np.log(np.maximum(variances, least) / least)
    members: list[list[int]] = [[] for _ in groups]
    for axis in reversed(range(len(weights))):
        open_groups = [
            m for m, group in zip(members, groups, strict=True) if len(m) < group.stop - group.start
        ]
        min(open_groups, key=lambda chosen: weights[chosen].sum()).append(axis)
    return axes[:, [axis for chosen in members for axis in chosen]]
