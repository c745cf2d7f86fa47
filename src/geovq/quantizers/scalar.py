"""Scalar quantization: every coordinate by itself, with as many bits as it deserves."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from geovq.errors import InputError
from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.validation import check_choice, check_count
from geovq.search import SortedValues, nearest_levels

ALLOTMENTS = ("variance", "kl", "equal")
MEASURED_BITS = 6  # of a coordinate: from here on a bit quarters its distortion (Panter and Dite, 1951)


class ScalarQuantizer(Quantizer):
    """A Lloyd-Max codebook for every coordinate, whole bits allotted by reverse water-filling.

    A point of d coordinates gets ``floor(d log2 K)`` bits, so K is the geometric mean of the alphabets. No
    allotment gives a coordinate more bits than its distinct values need; if then some are left, they are
    spread evenly and a warning says that their codes will never be used.

    ``variance``: the allotment of least mean squared error, from the distortions that Lloyd-Max codebooks of
    1 to 64 levels reach on each coordinate.

    ``kl``: coordinate j is to have the bits of its part of the posterior's KL divergence, shifted by one
    constant for all, and none where that is negative: ``sum_j 4^(KL_j - b_j)`` is least. A VAE spends KL
    where its decoder is sensitive, so this weights the coordinates by what the decoder makes of them. It
    needs sigma.

    ``equal``: the same for all as nearly as whole bits allow, the first coordinates one more.

    Parameters
    ----------
    n_codes : K, the geometric mean of the alphabets
    allotment : ``"variance"``, ``"kl"`` or ``"equal"``
    n_iterations : Lloyd iterations of every codebook, at most
    random_state : accepted as everywhere; nothing is drawn

    Attributes
    ----------
    codebook_ : list of (2^b_j, d), one for every coordinate with bits, in their order and zero outside it;
        the first also holds the means of the coordinates without bits. Without any bits one code, the mean.
    bits_ : int64 (d,), the b_j

    Source: Max, "Quantizing for minimum distortion", IRE Trans. Inform. Theory, 1960; reverse water-filling,
    Cover and Thomas, "Elements of Information Theory", 2006, section 10.3.3.
    """

    bits_: np.ndarray
    codebook_: list[np.ndarray]

    def __init__(
        self,
        n_codes: int = 8,
        allotment: str = "variance",
        n_iterations: int = 100,
        random_state: Any = None,
    ) -> None:
        self.n_codes = n_codes
        self.allotment = allotment
        self.n_iterations = n_iterations
        self.random_state = random_state

    def planned_sizes(self, d: int) -> tuple[int, ...]:
        """The bits shared equally. ``fit`` keeps their sum and shares them by the data, over other levels."""
        n_bits = self._n_bits(d)
        sizes = [2 ** (n_bits // d + (axis < n_bits % d)) for axis in range(d)]
        return tuple(size for size in sizes if size > 1) or (1,)

    @property
    def takes_sigma(self) -> bool:
        """The KL divergence of the posteriors needs their sigmas."""
        return self.allotment == "kl"

    def _n_bits(self, d: int) -> int:
        """``floor(d log2 K)`` in whole numbers."""
        return (int(self.n_codes) ** d).bit_length() - 1

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        check_choice("allotment", self.allotment, ALLOTMENTS)
        check_count("n_iterations", self.n_iterations)
        d = points.shape[1]
        n_bits = self._n_bits(d)
        n_distinct = np.array([len(np.unique(column)) for column in points.T])
        bits_needed = np.ceil(np.log2(n_distinct)).astype(np.int64)
        bits = np.arange(min(n_bits, bits_needed.max()) + 1)
        distortions = np.where(bits <= bits_needed[:, None], self._distortions(points, sigma, bits), np.inf)
        self.bits_ = allot_bits(distortions, min(n_bits, int(bits_needed.sum())))
        if self.bits_.sum() < n_bits:
            self.bits_ = filled_up(self.bits_, n_bits)
            unused = int(np.maximum(2**self.bits_ - n_distinct, 0).sum())
            warnings.warn(
                f"n_codes is {self.n_codes}: {d} coordinates have {n_bits} bits, but their distinct values "
                f"need only {bits_needed.sum()}; {unused} codes will never be used",
                UserWarning,
                stacklevel=3,
            )
        self.codebook_ = self._codebook(points)

    def _distortions(self, points: np.ndarray, sigma: np.ndarray | None, bits: np.ndarray) -> np.ndarray:
        """What the allotment minimises the sum of: (d, B + 1) for every coordinate and number of bits."""
        if self.allotment == "variance":
            errors = np.stack([rate_distortion(column, bits, self.n_iterations) for column in points.T])
            return np.square(errors / (errors.max() or 1.0))
        if self.allotment == "equal":
            return np.tile(0.25**bits, (points.shape[1], 1))
        if sigma is None:
            raise InputError(
                "allotment is 'kl', but sigma is missing; the KL divergence of the posteriors needs their "
                "standard deviations; give sigma (n, d) or choose allotment 'variance'"
            )
        kl_bits = np.array([kl_in_bits(*columns) for columns in zip(points.T, sigma.T, strict=True)])
        return 4.0 ** (kl_bits[:, None] - kl_bits.max() - bits)

    def _codebook(self, points: np.ndarray) -> list[np.ndarray]:
        without_bits = np.where(self.bits_ == 0, points.mean(0, dtype=np.float64), 0.0)
        codebook = []
        for axis in np.flatnonzero(self.bits_):
            levels, _ = SortedValues(points[:, axis]).lloyd_max(2 ** int(self.bits_[axis]), self.n_iterations)
            vectors = np.zeros((len(levels), points.shape[1]), points.dtype)
            vectors[:, axis] = levels
            codebook.append(vectors)
        if not codebook:
            return [without_bits[None].astype(points.dtype)]
        codebook[0] += without_bits.astype(points.dtype)
        return codebook

    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        axes = np.flatnonzero(self.bits_).tolist()
        codes = torch.zeros(len(points), len(self.codebook_), dtype=torch.int64, device=points.device)
        for level, axis in enumerate(axes):
            codes[:, level] = nearest_levels(points[:, axis], as_tensor(self.codebook_[level][:, axis]))
        return codes


def rate_distortion(values: np.ndarray, bits: np.ndarray, n_iterations: int) -> np.ndarray:
    """Root mean squared error of ``values (n,)`` in Lloyd-Max levels of 0, 1, ..., B bits: (B + 1,).

    From ``MEASURED_BITS`` on every bit halves it.
    """
    source = SortedValues(values)
    measured = [source.lloyd_max(2**b, n_iterations)[1] for b in bits[: MEASURED_BITS + 1].tolist()]
    return np.array(measured)[np.minimum(bits, MEASURED_BITS)] * 0.5 ** np.maximum(bits - MEASURED_BITS, 0)


def kl_in_bits(means: np.ndarray, sigma: np.ndarray) -> float:
    """Mean KL divergence of N(mean, sigma^2) from N(0, 1) in bits, for means and sigmas (n,)."""
    mean, deviation = means.astype(np.float64), sigma.astype(np.float64)
    nats = (np.square(mean) + np.square(deviation) - 1) / 2 - np.log(deviation)
    return float(nats.mean() / np.log(2))


def allot_bits(distortions: np.ndarray, n_bits: int) -> np.ndarray:
    """Whole bits of a given sum that minimise the sum of distortions, by dynamic programming.

    Adding bit by bit where it helps most would find them only if every bit helped less than the one before;
    of values in several clusters it may not.

    Parameters
    ----------
    distortions : (d, B + 1), of every coordinate with 0, 1, ..., B bits; infinite where not allowed
    n_bits : sum of the bits

    Returns
    -------
    int64 (d,); of equally good ones those with more bits in front
    """
    least = np.full(n_bits + 1, np.inf)  # distortion of the coordinates so far, by the bits they use
    least[0] = 0.0
    choices = np.zeros((len(distortions), n_bits + 1), dtype=np.uint8)
    for axis, of_axis in enumerate(distortions):
        totals = np.full((len(of_axis), n_bits + 1), np.inf)
        for bits, distortion in enumerate(of_axis[: n_bits + 1]):
            totals[bits, bits:] = least[: n_bits + 1 - bits] + distortion
        choices[axis] = totals.argmin(0)
        least = totals.min(0)
    allotted = np.zeros(len(distortions), dtype=np.int64)
    for axis in reversed(range(len(distortions))):
        allotted[axis] = choices[axis, n_bits]
        n_bits -= int(allotted[axis])
    return allotted


def filled_up(bits: np.ndarray, n_bits: int) -> np.ndarray:
    """``bits (d,)`` raised to the sum ``n_bits``, always where they are fewest."""
    bits = bits.copy()
    for _ in range(n_bits - int(bits.sum())):
        bits[bits.argmin()] += 1
    return bits
