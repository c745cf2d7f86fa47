"""Trainable quantizer layers: ``layer(z) -> Quantized(z_q, codes, loss, stats)`` for ``z (..., d)``."""

from geovq.vq.ema import EMAVQ
from geovq.vq.layer import QuantizerLayer
from geovq.vq.quantized import Quantized
from geovq.vq.residual import ResidualVQ

__all__ = ["EMAVQ", "Quantized", "QuantizerLayer", "ResidualVQ"]
