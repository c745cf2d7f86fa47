"""Edge lengths as a graph needs them: finite, and none of them 0."""

from __future__ import annotations

import numpy as np

from geovq.errors import InputError
from geovq.geometry.edges import EdgeLengths
from geovq.geometry.latents import Latents

FLOOR = 1e-12  # of the median positive length: sparse matrices drop edges of length 0
COORDINATES_A_CHUNK = 2**20


def measured(latents: Latents, edges: EdgeLengths, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Lengths of the edges between points ``starts (e,)`` and ``ends (e,)``, float64 (e,).

    Raises
    ------
    InputError
        If a length is negative or not finite: one such edge would spoil every path over it.
    """
    lengths = np.empty(len(starts))
    rows_a_chunk = max(1, COORDINATES_A_CHUNK // latents.means.shape[1])
    for first in range(0, len(starts), rows_a_chunk):
        part = slice(first, first + rows_a_chunk)
        lengths[part] = edges.lengths(latents, starts[part], ends[part])
    usable = (lengths >= 0) & (lengths < np.inf)
    if not usable.all():
        wrong = int(usable.argmin())
        raise InputError(
            f"edges '{edges.name}': {len(usable) - usable.sum()} of {len(lengths)} lengths are negative or "
            f"not finite, the first {lengths[wrong]} between rows {starts[wrong]} and {ends[wrong]}; "
            "expected finite lengths; check the latents there, and what the edges are given to measure with"
        )
    return lengths


def floored(lengths: np.ndarray, typical: float | None = None) -> np.ndarray:
    """Lengths of at least 1e-12 of ``typical``: by default the median positive one, 1 if all are 0."""
    if typical is None:
        positive = lengths[lengths > 0]
        typical = float(np.median(positive)) if len(positive) else 1.0
    return np.maximum(lengths, FLOOR * typical)
