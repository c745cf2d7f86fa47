"""How many nats an 8-bit pixel costs given a decoded mean: a discretized logistic whose scale is learned."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovq.errors import ConfigError

HALF_LEVEL = 1 / 510
"""Half the distance between two grey levels of 256, of intensities in [0, 1]."""

FIRST_SCALE = 0.1
"""About the error of a decoder that has only learned the mean image."""


class DiscretizedLogistic(nn.Module):
    """Logistic noise around decoded images, its mass summed over each of 256 grey levels.

    P(x) = F((x + 1/510 - m) / s) - F((x - 1/510 - m) / s) with the logistic function F, a decoded mean m and
    a scale s; level 0 also has all mass below, and level 255 all mass above. Unlike the binary cross-entropy
    this is the code length of a pixel, so images decoded with it have bits/dim.

    Parameters
    ----------
    n_channels : channels C of the images. Each has a scale of its own, learned as ``log_scale (C,)``.

    Raises ``ConfigError`` for less than one channel. Source: Salimans et al. 2017 (PixelCNN++, arXiv
    1701.05517), equation 2, of one component whose mean is the decoded image.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        if n_channels < 1:
            raise ConfigError(f"n_channels is {n_channels}; expected at least 1")
        self.log_scale = nn.Parameter(torch.full((n_channels,), math.log(FIRST_SCALE)))

    @property
    def scales(self) -> tuple[float, ...]:
        """The scale of each channel, in intensities of [0, 1]."""
        return tuple(self.log_scale.detach().double().exp().tolist())

    def nats(self, decoded: Tensor, images: Tensor) -> Tensor:
        """Nats of ``images`` given ``decoded`` means, both (N, C, H, W) in [0, 1], averaged over images."""
        scale = self.log_scale.exp()[:, None, None]
        return logistic_nats((decoded - images).abs(), has_both_edges(images), scale).sum() / len(images)


def logistic_nats(distance: Tensor, both_edges: Tensor, scale: Tensor) -> Tensor:
    """Nats of pixels at ``distance`` |x - m| from their means, elementwise.

    ``both_edges`` is False for the lowest and the highest grey level, which are open to one side; means
    must lie in [0, 1], where by symmetry the distance says all. In F(b) - F(a) = F(b) F(-a) (1 - exp(a - b))
    nothing cancels, so float32 will do far into the tails. Gives the shape that the arguments broadcast to.
    """
    inner, outer = (HALF_LEVEL - distance) / scale, (HALF_LEVEL + distance) / scale
    width = torch.log(-torch.expm1(-2 * HALF_LEVEL / scale))
    # A product with the mask, not a choice by it: both terms are finite, and so are their gradients.
    return -F.logsigmoid(inner) - both_edges * (F.logsigmoid(outer) + width)


def has_both_edges(images: Tensor) -> Tensor:
    """Whether each pixel's grey level is neither the lowest nor the highest, the levels with an open edge."""
    return (images > HALF_LEVEL) & (images < 1 - HALF_LEVEL)
