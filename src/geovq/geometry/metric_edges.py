"""Lengths to new points in the metric tensors of fitted ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geovq.geometry.edges import EdgeLengths
from geovq.geometry.latents import Latents
from geovq.search import distinct_rows, nearest_codes

NUMBERS_A_CHUNK = 2**22  # of the metrics that are gathered at once


class MetricEdges(EdgeLengths):
    """Edges whose fitted points carry a metric tensor M = J'J, with J the Jacobian of a decoder at the point.

    The edge from a new point x to a fitted one z is sqrt((x - z)' M (x - z)) long, its length to first order.
    That takes neither the decoder nor the rest of the image that x is a token of: a fitted quantizer can be
    saved, and used, without them.
    """

    def lengths_to(self, points: Latents, nodes: Latents, found: np.ndarray) -> np.ndarray:
        """Lengths of the edges from new points to ``nodes[found]``, in the nodes' metrics, float64 (m, c)."""
        assert nodes.metrics is not None
        lengths = np.empty(found.shape)
        rows = max(1, NUMBERS_A_CHUNK // (found.shape[1] * nodes.metrics[0].size))
        for start in range(0, len(found), rows):
            part = slice(start, start + rows)
            away = points.means[part, None].astype(np.float64) - nodes.means[found[part]]
            moved = np.einsum("mci,mcij->mcj", away, nodes.metrics[found[part]])
            # Rounding may leave the square of a short edge below 0.
            lengths[part] = np.sqrt(np.maximum((moved * away).sum(2), 0))
        return lengths

    def nearest(self, points: Tensor, sigmas: Tensor | None, codes: Latents) -> Tensor:
        """The code nearest in ``codes.metrics (1, d, d)``, the mean metric of the fitted points."""
        assert codes.metrics is not None
        # Equal codes keep equal rows, which a matrix product does not promise; ties are found by them.
        first, group = distinct_rows(codes.means)
        means = torch.from_numpy(codes.means[first])
        means = means.to(torch.promote_types(torch.promote_types(points.dtype, means.dtype), torch.float32))
        root = torch.from_numpy(_square_root(codes.metrics[0])).to(means.dtype)
        offset = means.mean(0)
        with torch.autocast(points.device.type, enabled=False):
            away = points.to(means.dtype) - offset.to(points.device)
            return nearest_codes(
                away @ root.to(points.device), ((means - offset) @ root)[torch.from_numpy(group)]
            )


def _square_root(metric: np.ndarray) -> np.ndarray:
    """The symmetric S with S S = ``metric (d, d)``, whose eigenvalues below 0, all rounding, count as 0."""
    values, vectors = np.linalg.eigh(metric.astype(np.float64))
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
