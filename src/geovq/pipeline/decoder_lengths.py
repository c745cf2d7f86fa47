"""A configuration names what a quantizer measures with; where that is a decoder, it is the arm's own."""

from __future__ import annotations

import numpy as np
from torch import nn

from geovq.geometry import DECODER_EDGES
from geovq.quantizers import Quantizer

METRIC_IMAGES = 4_000
"""Training images at which the decoder's metric is taken, to fit a codebook in it."""


def measure_with(quantizer: Quantizer, decoder: nn.Module, latents: np.ndarray) -> None:
    """Let a quantizer that compares decoded points, or has such ``edges``, measure with ``decoder``.

    Parameters
    ----------
    quantizer : not fitted yet; one without such edges stays as it is
    decoder : latents -> images
    latents : (N, D) or (N, D, h, w), whose tokens the quantizer will be fitted on
    """
    kind = DECODER_EDGES.get(getattr(quantizer, "edges", None) or "")
    if kind is not None:
        quantizer.set_params(edges=kind(decoder, latents))
    if "decoder" in quantizer.get_params(deep=False):
        quantizer.set_params(decoder=decoder)
