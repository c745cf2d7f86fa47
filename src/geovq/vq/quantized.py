"""What every quantizer layer returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Quantized:
    """The output of a quantizer layer for ``z (..., d)``.

    Attributes
    ----------
    z_q : (..., d)
        Quantized vectors; their gradient is what the estimator passes back to ``z``.
    codes : int64 (...) or (..., L)
        Indices into the codebook, with a last axis for layers of several levels.
    loss : scalar
        Auxiliary loss, summed over d and averaged over tokens; a model multiplies it by its tokens an image.
    stats : name -> scalar
        What to watch during training, detached.
    """

    z_q: Tensor
    codes: Tensor
    loss: Tensor
    stats: Mapping[str, Tensor] = field(default_factory=dict)
