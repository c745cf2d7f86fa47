"""The straight-through estimator."""

from __future__ import annotations

from torch import Tensor


def straight_through(z: Tensor, quantized: Tensor) -> Tensor:
    """``quantized`` in the forward pass, the gradient of ``z`` in the backward pass (Bengio et al. 2013).

    Written so that the forward value is ``quantized`` to the last bit: ``z + (quantized - z)`` is not.
    """
    return quantized.detach() + (z - z.detach())
