"""Codebooks of one coordinate: fitted after Lloyd and Max, and searched by bisection.

The cells of scalar levels are intervals, so sorted values and their running sums replace distances: a step
for K levels of n values takes K bisections.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

EXACT_LEVELS = 32  # up to which the start is the optimum over at most EXACT_CELLS intervals
EXACT_CELLS = 256


class SortedValues:
    """The values of one coordinate, sorted once for codebooks of any size.

    Parameters
    ----------
    values : float (n,), finite

    Attributes
    ----------
    n_distinct : how many of the values differ, and so how many levels code them exactly
    """

    def __init__(self, values: np.ndarray) -> None:
        self._distinct, counts = np.unique(values.astype(np.float64, copy=False), return_counts=True)
        self.n_distinct = len(self._distinct)
        # Centred and scaled, the sums of squares keep their digits and do not overflow.
        self._offset = float(np.average(self._distinct, weights=counts))
        self._scale = float(np.abs(self._distinct - self._offset).max()) or 1.0
        self._values = (self._distinct - self._offset) / self._scale
        self._counts = running_sum(counts)
        self._sums = running_sum(counts * self._values)
        self._squares = running_sum(counts * np.square(self._values))

    def lloyd_max(self, n_levels: int, n_iterations: int) -> tuple[np.ndarray, float]:
        """Levels of least mean squared error.

        Up to 32 levels the start is the best division of at most 256 narrow intervals (of the distinct values
        themselves if they are no more) into cells, beyond that it has the point density of high rates; then
        Lloyd's iterations run on all values. Of a log-concave density they end at its only optimum
        (Fleischer, 1964); elsewhere the start decides.

        Parameters
        ----------
        n_levels : K. More than there are distinct values are filled up with copies of the highest.
        n_iterations : Lloyd iterations, at most

        Returns
        -------
        levels : float64 (K,), ascending
        error : root of the mean squared distance of a value to its level

        Source: Lloyd, "Least squares quantization in PCM", 1957 (IEEE Trans. Inform. Theory, 1982); Max,
        "Quantizing for minimum distortion", IRE Trans. Inform. Theory, 1960.
        """
        if n_levels >= self.n_distinct:
            copies = np.repeat(self._distinct[-1:], n_levels - self.n_distinct)
            return np.concatenate([self._distinct, copies]), 0.0
        edges = self._best_division(n_levels) if n_levels <= EXACT_LEVELS else self._companded(n_levels)
        for _ in range(n_iterations):
            means = self._means(edges)
            # "right": a value halfway between two levels belongs to the lower one.
            inner = np.searchsorted(self._values, (means[:-1] + means[1:]) / 2, side="right")
            moved = self._without_empty_cells(np.concatenate([[0], inner, [self.n_distinct]]), n_levels)
            if np.array_equal(moved, edges):
                break
            edges = moved
        error = np.sqrt(max(self._cell_errors(edges).sum() / self._counts[-1], 0.0))
        return self._means(edges) * self._scale + self._offset, float(error) * self._scale

    def _means(self, edges: np.ndarray) -> np.ndarray:
        """Mean (K,) of the values of every cell; cell k holds the distinct values edges[k] : edges[k + 1]."""
        return np.diff(self._sums[edges]) / np.diff(self._counts[edges])

    def _cell_errors(self, edges: np.ndarray) -> np.ndarray:
        """Sum of squared distances to the mean (K,) of every cell."""
        return np.diff(self._squares[edges]) - np.diff(self._sums[edges]) * self._means(edges)

    def _companded(self, n_cells: int) -> np.ndarray:
        """Edges (n_cells + 1,) of cells with the density p^(1/3) of Panter and Dite (Proc. IRE, 1951).

        Between neighbours p is mass / gap, so that p^(1/3) dx is mass^(1/3) gap^(2/3).
        """
        mass, gap = np.diff(self._counts), np.diff(self._values)
        compressed = running_sum(np.cbrt((mass[1:] + mass[:-1]) / 2) * np.cbrt(np.square(gap)))
        inner = np.searchsorted(compressed, compressed[-1] * np.arange(1, n_cells) / n_cells, side="right")
        return self._without_empty_cells(np.concatenate([[0], inner, [self.n_distinct]]), n_cells)

    def _without_empty_cells(self, edges: np.ndarray, n_cells: int) -> np.ndarray:
        """``edges`` in which the cell of the largest error is split in place of every empty one."""
        edges = np.unique(edges)
        while len(edges) <= n_cells:
            errors = np.where(np.diff(edges) > 1, self._cell_errors(edges), -1.0)
            worst = int(errors.argmax())
            middle = np.searchsorted(self._values, self._means(edges)[worst], side="right")
            middle = np.clip(middle, edges[worst] + 1, edges[worst + 1] - 1)
            edges = np.insert(edges, worst + 1, middle)
        return edges

    def _best_division(self, n_levels: int) -> np.ndarray:
        """Edges of least error among those of a fine division, by dynamic programming.

        Source: Bruce, "Optimum quantization", MIT, 1965.
        """
        if self.n_distinct <= EXACT_CELLS:
            fine = np.arange(self.n_distinct + 1)
        else:
            fine = self._companded(EXACT_CELLS)
        mass, sums, squares = (
            total[fine][None, :] - total[fine][:, None] for total in (self._counts, self._sums, self._squares)
        )
        cost = np.where(mass > 0, squares - np.square(sums) / np.maximum(mass, 1), np.inf)
        best, origins = cost[0], []
        for _ in range(n_levels - 1):
            total = best[:, None] + cost
            origins.append(total.argmin(0))
            best = np.take_along_axis(total, origins[-1][None], axis=0)[0]
        ends = [len(fine) - 1]
        for origin in reversed(origins):
            ends.append(int(origin[ends[-1]]))
        return fine[[0, *reversed(ends)]]


def running_sum(values: np.ndarray) -> np.ndarray:
    """Float64 (n + 1,): the sums of the first 0, 1, ..., n of ``values (n,)``."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


@torch.no_grad()
def nearest_levels(values: Tensor, levels: Tensor) -> Tensor:
    """Index of the nearest level of every value, the lowest if several are equally near.

    Parameters
    ----------
    values : any shape
    levels : (K,), ascending, equal ones allowed

    Returns
    -------
    int64, in the shape of ``values``
    """
    dtype = torch.promote_types(torch.promote_types(values.dtype, levels.dtype), torch.float32)
    distinct, copies = torch.unique_consecutive(levels.to(values.device, dtype), return_counts=True)
    middles = distinct[:-1] / 2 + distinct[1:] / 2
    lowest_index = copies.cumsum(0) - copies
    return lowest_index[torch.searchsorted(middles, values.to(dtype).contiguous())]
