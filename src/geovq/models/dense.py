"""The fully connected encoder and decoder, for images of any shape and flat latents.

With hidden widths (400,) and 20 latents they are 784-400-20-400-784 on MNIST, the network of PyTorch's VAE
example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from geovq.errors import ConfigError
from geovq.models.blocks import Decoder, Encoder


class DenseEncoder(Encoder):
    """Images (N, C, H, W) -> mean and sigma (N, latent_dim), through hidden layers with ReLU.

    Parameters
    ----------
    image_shape : (C, H, W), of any sides.
    hidden : units of the hidden layers, one or more, from the image to the latent.
    latent_dim : latent dimensions D.
    stochastic : see ``Encoder``.

    Raises ``ConfigError`` for a size that is impossible. Source: Kingma & Welling 2014, appendix C, with
    ReLU in the place of tanh.
    """

    def __init__(
        self, image_shape: Sequence[int], hidden: Sequence[int], latent_dim: int, *, stochastic: bool
    ) -> None:
        _check(image_shape, hidden, latent_dim)
        # Images stay in [0, 1], unlike the convolutions': with a background of -1 every step of Adam would
        # move a hidden unit on all images at once, and most units end up where ReLU is always zero.
        layers = _hidden_layers((math.prod(image_shape), *hidden))
        head = nn.Linear(hidden[-1], 2 * latent_dim if stochastic else latent_dim)
        super().__init__(nn.Sequential(nn.Flatten(), *layers), head, stochastic=stochastic)


class DenseDecoder(Decoder):
    """Latents (N, latent_dim) -> images (N, C, H, W) in [0, 1].

    ``hidden`` is that of the encoder, used in reverse: the widths are given once for both halves.
    """

    def __init__(self, image_shape: Sequence[int], hidden: Sequence[int], latent_dim: int) -> None:
        _check(image_shape, hidden, latent_dim)
        layers = _hidden_layers((latent_dim, *reversed(hidden)))
        pixels = nn.Linear(hidden[0], math.prod(image_shape))
        super().__init__(nn.Sequential(*layers, pixels, nn.Unflatten(1, tuple(image_shape))))


def _hidden_layers(sizes: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers


def _check(image_shape: Sequence[int], hidden: Sequence[int], latent_dim: int) -> None:
    if not hidden or min(*hidden, *image_shape, latent_dim) < 1:
        raise ConfigError(
            f"hidden widths are {list(hidden)}, latent_dim {latent_dim} and images {list(image_shape)}; "
            "expected one width or more, and all sizes above 0"
        )
