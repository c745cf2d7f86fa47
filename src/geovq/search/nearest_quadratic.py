"""The nearest code of every point when each point has its own metric tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.search.nearest import as_floats, lowest_scores, power_of_two_near, relative_to_codes

NUMBERS_A_CHUNK = 2**20  # of metric tensors copied at once


@torch.no_grad()
def nearest_codes_quadratic(points: Tensor, metrics: Tensor, codebook: Tensor) -> Tensor:
    """argmin_k (x - c_k)' M (x - c_k), where every point x has its own M.

    With ``M = J'J`` of a decoder at x this is the squared length, to first order, of the change in what is
    decoded. ``d (d + 3) / 2`` products a point and code.

    Parameters
    ----------
    points : (n, d)
    metrics : (n, d, d), symmetric
    codebook : (K, d)

    Returns
    -------
    int64 (n,); the lowest index if several codes are equal.

    Raises
    ------
    InputError
        If the shapes do not fit.
    """
    points, codebook = as_floats(points, codebook)
    n, d = points.shape
    if metrics.shape != (n, d, d):
        raise InputError(
            f"metrics have shape {tuple(metrics.shape)}; expected {(n, d, d)}, one for each point"
        )
    points, centered = relative_to_codes(points, codebook)
    # (x - c)'M(x - c) / 2 = const - [M x, M_ij].[c, -c_i c_j] over i <= j, the squares halved: a product.
    row, column = torch.triu_indices(d, d, device=points.device)
    products = centered[:, row] * centered[:, column] / torch.where(row == column, -2, -1)
    features = torch.cat([centered, products], dim=1)
    codes = torch.empty(n, dtype=torch.int64, device=points.device)
    rows = max(1, NUMBERS_A_CHUNK // (d * d))
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        metric = metrics[part].to(points.device, points.dtype)
        metric = metric / power_of_two_near(metric.abs().amax((1, 2)))[:, None, None]
        with torch.autocast(points.device.type, enabled=False):
            linear = torch.bmm(metric, points[part][:, :, None])[:, :, 0]
        half = metric.flatten(1).index_select(1, row * d + column)
        codes[part] = lowest_scores(torch.cat([linear, half], dim=1), features)
    return codes
