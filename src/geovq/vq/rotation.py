"""Vector quantization with the rotation trick.

Fifty et al., "Restructuring Vector Quantization with the Rotation Trick" (2024).
"""

from __future__ import annotations

from torch import Tensor

from geovq.vq.ema import EMAVQ
from geovq.vq.estimators import rotated


class RotationVQ(EMAVQ):
    """``EMAVQ`` whose gradient is turned and scaled as the code turns and scales its vector."""

    def _estimate(self, flat: Tensor, quantized: Tensor) -> Tensor:
        return rotated(flat, quantized)
