"""What was measured of an autoencoder's latents and decoder before they are quantized."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from geovq.config import to_json
from geovq.evaluation.rate_distortion import SMALLEST_SHARE
from geovq.evaluation.recommendation import recommend

ACTIVE_BITS = 0.5
"""A dimension of less KL gets no bit when bits are allotted as whole numbers."""


@dataclass(frozen=True)
class PathsAgainstLines:
    """A neighbour graph of tokens beside that of a flat Gaussian cloud of the same mean and covariance.

    Attributes
    ----------
    n_points : distinct tokens, and points of the cloud
    dim : of a token, d
    n_neighbors : of a point
    correlation, flat_correlation : Spearman's, of path length and straight distance over random pairs
    max_in_degree, flat_max_in_degree : of the greatest hub
    in_degree_skew, antihubs : of the tokens' graph, see ``geovq.geometry.HubStatistics``
    n_bridges : edges that join pieces of the tokens' graph over gaps
    """

    n_points: int
    dim: int
    n_neighbors: int
    correlation: float
    flat_correlation: float
    max_in_degree: int
    flat_max_in_degree: int
    in_degree_skew: float
    antihubs: float
    n_bridges: int


@dataclass(frozen=True)
class Diagnosis:
    """What ``geovq.evaluation.diagnose`` measured; ``recommendation`` says what follows from it.

    D dimensions of a flat latent, or channels of a latent map, whose metric is that of one site. Errors are
    those that reverse water-filling leaves of a Gaussian with the latents' covariance (see
    ``geovq.evaluation.rate_distortion``), decoded in the mean metric.

    Attributes
    ----------
    latent_shape : (D,) or (D, h, w)
    tokens : grid (height, width) that a latent is cut into
    bits : wanted of an image; the latents' KL bits if none were named, without sigma 2 bits a dimension
    n_images : latents at which the decoder's Jacobian was taken
    kl_bits : of every dimension (D,), bits an image, summed over sites; None without sigma
    eigenvalues : of E[J'J] (D,), largest first, squared units of images a squared unit of latents
    metric_change : root mean square of ``|J'J - E[J'J]| / |E[J'J]|`` over images
    shape_change : the same when all J'J are scaled to norm 1 first, 0 to 1. A metric that is only larger or
        smaller than another gives every point the same code.
    precision_across : Spearman's correlation of mean 1 / sigma^2 and mean diag J'J over dimensions; None
        without sigma, or if one of them is the same in all dimensions
    precision_within : of log 1 / sigma^2 and log diag J'J, each without its dimension's mean, over images and
        dimensions; None likewise
    mean_metric_error : decoded error of codes in the metric E[J'J], relative to Euclidean codes; None if the
        latents or the images do not vary
    precision_error : of codes in the mean of diag 1 / sigma^2, relative to Euclidean ones; None without sigma
    apart_error : of tokens coded apart with equal bits, relative to codes of the whole latent, both in the
        metric E[J'J]; None for maps and for one token
    paths : None if there are too few distinct tokens
    """

    latent_shape: tuple[int, ...]
    tokens: tuple[int, int]
    bits: float
    n_images: int
    kl_bits: tuple[float, ...] | None
    eigenvalues: tuple[float, ...]
    metric_change: float
    shape_change: float
    precision_across: float | None
    precision_within: float | None
    mean_metric_error: float | None
    precision_error: float | None
    apart_error: float | None
    paths: PathsAgainstLines | None

    @property
    def n_sites(self) -> int:
        """Sites of a latent map; 1 for a flat latent."""
        return math.prod(self.latent_shape[1:])

    @property
    def total_bits(self) -> float | None:
        """KL of the whole latent, bits an image."""
        return None if self.kl_bits is None else float(np.sum(self.kl_bits))

    @property
    def active_dimensions(self) -> int | None:
        """Dimensions that carry at least half a bit, a site of a map."""
        if self.kl_bits is None:
            return None
        return int((np.array(self.kl_bits) >= ACTIVE_BITS * self.n_sites).sum())

    @property
    def spread(self) -> float:
        """Largest eigenvalue over the smallest; at most a million, beyond which float32 cannot tell."""
        return self._largest_over(self.eigenvalues[-1])

    @property
    def spread_to_median(self) -> float:
        """Largest eigenvalue over the median one."""
        return self._largest_over(float(np.median(self.eigenvalues)))

    @property
    def entropy_bits(self) -> float:
        """Entropy of the eigenvalues as shares of their sum, bits; log2 D if all are equal."""
        values = np.maximum(self.eigenvalues, 0.0)
        shares = values[values > 0] / values.sum() if values.any() else np.ones(1)
        return float(-(shares * np.log2(shares)).sum())

    @property
    def effective_rank(self) -> float:
        """2 to the power of their entropy: as many equal eigenvalues would have it.

        Source: Roy and Vetterli, "The Effective Rank", EUSIPCO 2007.
        """
        return 2.0**self.entropy_bits

    @property
    def recommendation(self) -> str:
        """One sentence: in which metric and with which structure to quantize, and the numbers that say so.

        Its rules are those of ``geovq.evaluation.recommendation.recommend``.
        """
        return recommend(self)

    def to_json(self) -> dict[str, Any]:
        """All attributes as plain JSON values, with the ``recommendation``."""
        return {**to_json(self), "recommendation": self.recommendation}

    def _largest_over(self, value: float) -> float:
        largest = self.eigenvalues[0]
        return largest / max(value, SMALLEST_SHARE * largest) if largest > 0 else 1.0
