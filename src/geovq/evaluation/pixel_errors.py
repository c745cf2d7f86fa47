"""All that a pixel likelihood needs to know of a decoder's errors, from one pass over the images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from geovq.data import ImageSet, chunks_of
from geovq.evaluation.likelihood import Family, PixelLikelihood, pixel_distances

N_BINS = 2**18
"""Bins of distances in [0, 1]. A bin is known by its mean, and nats are convex in the distance with a second
derivative of at most 1 / scale^2, so a pixel's are too few by 1 / (8 N_BINS^2 scale^2) at most: by less than
1e-4 bits/dim at every scale that is searched, and less than 1e-8 at a scale of 0.02."""

SEARCHED = (2e-4, 10.0)
"""Scales: at the lowest a perfectly decoded pixel costs nothing; at the highest 0 and 255 have nearly half
the mass each, the best there is for a decoder that knows nothing of black and white images."""


@dataclass(frozen=True, eq=False)
class PixelErrors:
    """Distances of decoded pixels from the originals, in fine bins: enough for the likelihood of any scale.

    ``n`` images; ``distance (k,)`` is the mean of each bin that holds pixels, float64, ``count (k,)`` the
    number of its pixels, ``channel (k,)`` and ``both_edges (k,)`` what they have in common.
    """

    n: int
    distance: Tensor
    count: Tensor
    channel: Tensor
    both_edges: Tensor

    def nats(self, likelihood: PixelLikelihood) -> float:
        """Mean nats an image. Raises ``InputError`` unless there is one scale, or one a channel."""
        of_pixels = likelihood.nats(self.distance, self.both_edges, self.channel)
        return float((self.count * of_pixels).sum()) / self.n


def pixel_errors(images: ImageSet, decode: Callable[[slice], np.ndarray]) -> PixelErrors:
    """The errors of what ``decode(rows)`` gives for every image, a chunk at a time.

    Memory does not grow with the number of images. Raises ``InputError`` as ``pixel_distances``.
    """
    n_channels = images.shape[0]
    count = np.zeros(n_channels * 2 * N_BINS, np.int64)
    total = np.zeros(len(count))
    offset = torch.arange(n_channels)[:, None, None] * 2 * N_BINS
    for rows in chunks_of(images):
        distance, both_edges = pixel_distances(decode(rows), images.images(rows))
        bins = (distance * N_BINS).long().clamp_(max=N_BINS - 1)
        index = bins.add_(both_edges * N_BINS).add_(offset).numpy().ravel()
        count += np.bincount(index, minlength=len(count))
        total += np.bincount(index, distance.numpy().ravel(), minlength=len(count))
    used = np.flatnonzero(count)
    return PixelErrors(
        n=len(images),
        distance=torch.from_numpy(total[used] / count[used]),
        count=torch.from_numpy(count[used]),
        channel=torch.from_numpy(used // (2 * N_BINS)),
        both_edges=torch.from_numpy(used // N_BINS % 2 == 1),
    )


def fit_scale(errors: PixelErrors, family: Family) -> float:
    """The one scale for all channels with the fewest nats.

    Nats are convex in 1 / scale, as an integral of a log-concave density over a cone is log-concave (Prékopa
    1973): there is one minimum, and a search over the logarithm of the scale finds it.
    """
    found = minimize_scalar(
        lambda log_scale: errors.nats(PixelLikelihood(family, (math.exp(log_scale),))),
        bounds=(math.log(SEARCHED[0]), math.log(SEARCHED[1])),
        method="bounded",
    )
    return math.exp(found.x)


def fit_likelihood(errors: PixelErrors, own: PixelLikelihood | None = None) -> PixelLikelihood:
    """The likelihood with the fewest nats: a choice to make on validation images.

    Either family with the best of its scales, or the decoder's ``own`` where it has one, whose scales were
    learned with the decoder but for other latents, if the codes came after it.
    """
    candidates = [PixelLikelihood(family, (fit_scale(errors, family),)) for family in get_args(Family)]
    return min([*candidates, *([] if own is None else [own])], key=errors.nats)
