"""How unevenly points are neighbours of others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HubStatistics:
    """In-degrees of a k-nearest-neighbour graph before it is made symmetric; their mean is always k.

    In many dimensions a few points, the hubs, are among the nearest neighbours of very many others, and
    shortest paths run through them; others, the antihubs, are among nobody's.

    Attributes
    ----------
    max_in_degree : of the greatest hub
    skew : third standardised moment of the in-degrees, 0 if all are equal
    antihubs : fraction of the points that are nobody's neighbour
    """

    max_in_degree: int
    skew: float
    antihubs: float


def hub_statistics(nearest: np.ndarray) -> HubStatistics:
    """Statistics of how often each of n points occurs in ``nearest``, integers (n, k) in ``range(n)``.

    Source: Radovanović, Nanopoulos and Ivanović, "Hubs in Space: Popular Nearest Neighbors in
    High-Dimensional Data", JMLR 2010, equation 1.
    """
    degrees = np.bincount(nearest.ravel(), minlength=len(nearest))
    deviations = degrees - degrees.mean()
    variance = np.square(deviations).mean()
    skew = (deviations**3).mean() / variance**1.5 if variance > 0 else 0.0
    return HubStatistics(int(degrees.max()), float(skew), float((degrees == 0).mean()))
