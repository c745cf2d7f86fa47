"""Trainable quantizer layers: ``layer(z) -> Quantized(z_q, codes, loss, stats)`` for ``z (..., d)``."""

from geovq.vq.bsq import BSQ
from geovq.vq.cosine import CosineVQ
from geovq.vq.diveq import DiVeQ
from geovq.vq.ema import EMAVQ
from geovq.vq.fsq import FSQ
from geovq.vq.gumbel import GumbelVQ
from geovq.vq.layer import QuantizerLayer
from geovq.vq.lfq import LFQ
from geovq.vq.manual import ManualStraightThroughVQ
from geovq.vq.optvq import OptVQ
from geovq.vq.product import ProductVQ
from geovq.vq.quantized import Quantized
from geovq.vq.residual import ResidualVQ
from geovq.vq.rotation import RotationVQ
from geovq.vq.simvq import SimVQ
from geovq.vq.start import read_codebook
from geovq.vq.vq import StraightThroughVQ

__all__ = [
    "BSQ",
    "EMAVQ",
    "FSQ",
    "LFQ",
    "CosineVQ",
    "DiVeQ",
    "GumbelVQ",
    "ManualStraightThroughVQ",
    "OptVQ",
    "ProductVQ",
    "Quantized",
    "QuantizerLayer",
    "ResidualVQ",
    "RotationVQ",
    "SimVQ",
    "StraightThroughVQ",
    "read_codebook",
]
