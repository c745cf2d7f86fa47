"""Trainable quantizer layers: ``layer(z) -> Quantized(z_q, codes, loss, stats)`` for ``z (..., d)``."""

from geovq.vq.ema import EMAVQ
from geovq.vq.layer import QuantizerLayer
from geovq.vq.quantized import Quantized
from geovq.vq.residual import ResidualVQ
from geovq.vq.rotation import RotationVQ
from geovq.vq.start import read_codebook
from geovq.vq.vq import StraightThroughVQ

__all__ = [
    "EMAVQ",
    "Quantized",
    "QuantizerLayer",
    "ResidualVQ",
    "RotationVQ",
    "StraightThroughVQ",
    "read_codebook",
]
