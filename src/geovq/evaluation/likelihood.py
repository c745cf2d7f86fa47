"""The probability of 8-bit images given decoded ones, which is what bits/dim are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from geovq.data import ImageSet, chunks_of
from geovq.errors import InputError, unknown_name
from geovq.models.pixel_likelihood import HALF_LEVEL, has_both_edges, logistic_nats
from geovq.seeding import numpy_generator

Family = Literal["logistic", "gaussian"]
"""Of the noise around a decoded pixel, before its mass is summed over each grey level."""

SCALES = (1e-6, 1e3)
"""Scales at which float64 gives probabilities to nine digits; no decoder of images comes near their ends."""

SURE = -30.0
"""Standard deviations at which the mass of a Gaussian to the right is 1 in float64."""

LEVEL_TOLERANCE = 1e-3
"""Levels by which a pixel may miss a whole grey level; float32 rounds by a hundredth of this."""


@dataclass(frozen=True)
class PixelLikelihood:
    """Independent noise around every decoded pixel, its mass summed over each of 256 grey levels.

    P(x) = F((x + 1/510 - m) / s) - F((x - 1/510 - m) / s) for a pixel x in {0, 1/255, ..., 1}, a decoded mean
    m, held in [0, 1], and a scale s; level 0 also has all mass below, and level 255 all mass above.

    ``family`` is ``logistic`` (Salimans et al. 2017, PixelCNN++, equation 2) or ``gaussian`` (Ho et al. 2020,
    DDPM, equation 13), with F its cumulative distribution function; ``scales`` are in intensities of [0, 1],
    one for all channels or one a channel.

    Raises ``InputError`` for an unknown family, or scales that are not from 1e-6 to 1e3.
    """

    family: Family
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.family not in get_args(Family):
            raise InputError(unknown_name("family", self.family, get_args(Family)))
        low, high = SCALES
        if not self.scales or not all(low <= scale <= high for scale in self.scales):
            raise InputError(
                f"scales are {self.scales}; expected one for all channels or one a channel, each from "
                f"{low:g} to {high:g}"
            )

    def nats(self, distance: Tensor, both_edges: Tensor, channel: Tensor) -> Tensor:
        """Nats of pixels at ``distance`` |x - m| from their means, float64, elementwise.

        ``both_edges`` is False for grey levels 0 and 255; ``channel`` is the index of each pixel's channel.
        Raises ``InputError`` for a channel that has no scale.
        """
        scales = torch.tensor(self.scales, dtype=torch.float64)
        if len(scales) > 1 and int(channel.max()) >= len(scales):
            raise InputError(
                f"scales has {len(scales)} values for {int(channel.max()) + 1} channels; expected one for "
                "all channels or one a channel"
            )
        scale = scales[channel] if len(scales) > 1 else scales
        of_family = logistic_nats if self.family == "logistic" else gaussian_nats
        return of_family(distance, both_edges, scale)

    def bits(self, decoded: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Bits of each of ``images`` given ``decoded`` ones, both (N, C, H, W): float64 (N,).

        Raises ``InputError`` as ``pixel_distances``, or if there is neither one scale nor one a channel.
        """
        distance, both_edges = pixel_distances(decoded, images)
        channel = torch.arange(images.shape[1])[:, None, None]
        nats: np.ndarray = self.nats(distance, both_edges, channel).sum((1, 2, 3)).numpy()
        return nats / math.log(2)


def gaussian_nats(distance: Tensor, both_edges: Tensor, scale: Tensor) -> Tensor:
    """The same as ``logistic_nats`` with a Gaussian of standard deviation ``scale``, in float64.

    With Q(t) = exp(-t^2 / 2) erfcx(t / sqrt 2) / 2, the Gaussian's mass to the right of t, the exponential of
    the nearer edge comes out of Q(near) - Q(far) as a logarithm: nothing underflows in the tail.
    """
    near, far = (distance - HALF_LEVEL) / scale, (distance + HALF_LEVEL) / scale
    near = near.clamp(min=SURE)
    decay = torch.exp(-0.5 * (far - near) * (far + near))
    beyond = decay * torch.special.erfcx(far * math.sqrt(0.5))
    mass = torch.special.erfcx(near * math.sqrt(0.5)) - both_edges * beyond
    return 0.5 * near.square() - torch.log(0.5 * mass)


def pixel_distances(decoded: np.ndarray, images: np.ndarray) -> tuple[Tensor, Tensor]:
    """|x - m| of every pixel in float64, with m held in [0, 1], and whether its grey level has both edges.

    ``decoded`` and ``images`` are (N, C, H, W). Raises ``InputError`` if their shapes differ, a decoded value
    is not finite, or the images are not 8-bit.
    """
    if decoded.shape != images.shape:
        raise InputError(f"decoded images have shape {decoded.shape}; expected {images.shape} of the images")
    levels = torch.from_numpy(images).double() * 255
    whole = levels.round()
    if not _near(levels, whole):
        raise InputError(
            "images hold values that are no multiples of 1/255; expected 8-bit images, the only ones with "
            "bits/dim; ask is_eight_bit first"
        )
    pixels = whole / 255
    distance = (pixels - torch.from_numpy(decoded).double().clamp(0, 1)).abs_()
    if not math.isfinite(float(distance.sum())):
        raise InputError("decoded images hold NaN; expected finite values in [0, 1]; check the decoder")
    return distance, has_both_edges(pixels)


def is_eight_bit(images: ImageSet) -> bool:
    """Whether images have bits/dim: all values are multiples of 1/255 up to rounding."""
    chunks = (torch.from_numpy(images.images(rows)).double() * 255 for rows in chunks_of(images))
    return all(_near(levels, levels.round()) for levels in chunks)


def posterior_sample(mean: np.ndarray, sigma: np.ndarray, seed: int, split: str) -> np.ndarray:
    """One float32 draw of each posterior N(mean, sigma^2), (N, *latent_shape) each, the same for a seed.

    A bound on the bits of an image is the divergence of its posterior plus the bits given a draw from it;
    with the posterior mean in place of the draw the sum bounds nothing (Kingma & Welling 2014, equation 3).
    """
    noise = numpy_generator(seed, f"posterior sample of {split}").standard_normal(mean.shape, np.float32)
    return mean + sigma * noise


def bits_per_dim(code_bits: float, nats: float, image_shape: Sequence[int]) -> dict[str, float]:
    """``bits_per_dim`` of images whose codes take ``code_bits`` and whose pixels ``nats`` given the codes.

    Both are per image of ``image_shape`` (C, H, W). With nominal bits, or the posterior's divergence in bits
    where there are no codes, this is an upper bound on what a better prior would need.
    ``bits_per_dim_decoder`` is the pixels' part alone, to which the bits of any prior can be added.
    """
    n_dims = math.prod(image_shape)
    of_decoder = nats / math.log(2) / n_dims
    return {"bits_per_dim": code_bits / n_dims + of_decoder, "bits_per_dim_decoder": of_decoder}


def _near(levels: Tensor, whole: Tensor) -> bool:
    return float((levels - whole).abs().max()) <= LEVEL_TOLERANCE
