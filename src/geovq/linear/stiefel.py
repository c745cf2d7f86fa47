"""Gradient steps of the encoder: on the Stiefel manifold of orthonormal rows, and without a constraint.

Shapes: ``W`` and its Euclidean gradient ``G`` are (m, D), the transposes of the Y and F_Y (n, p) of Edelman,
Arias & Smith, "The Geometry of Algorithms with Orthogonality Constraints" (1998).
"""

from __future__ import annotations

import torch
from torch import Tensor


def tangent_gradient(W: Tensor, G: Tensor) -> Tensor:
    """``G - sym(G W') W``: the Riemannian gradient in the Euclidean (embedded) metric.

    It is the orthogonal projection of G on the tangent space ``{T: T W' + W T' = 0}`` (Edelman, Arias &
    Smith 1998, equation 2.4). Their canonical metric (equation 2.53) gives ``G - W G' W``: the same in the
    directions that turn the subspace, twice as long in those that turn W within it.
    """
    product = G @ W.T
    return G - (product + product.T) / 2 @ W


def stiefel_step(W: Tensor, G: Tensor, rate: float) -> Tensor:
    """Orthonormal rows (m, D) after a step of ``rate`` down the Riemannian gradient of ``W``.

    The retraction is the Q of a QR decomposition whose R has a positive diagonal (Absil, Mahony & Sepulchre,
    "Optimization Algorithms on Matrix Manifolds", 2008, example 4.1.3). It always exists: a tangent step
    T from W has ``(W + T)(W + T)' = I + T T'``, of full rank.
    """
    Q, R = torch.linalg.qr((W - rate * tangent_gradient(W, G)).T)
    return (Q * R.diagonal().sign()).T.contiguous()


def euclidean_step(W: Tensor, G: Tensor, rate: float) -> Tensor:
    """``W - rate G``: rows that need not stay orthonormal."""
    return W - rate * G
