"""The convolutional encoder and decoder that all autoencoders share.

Strided convolutions down, residual blocks, a projection to a flat latent or to a latent map, and the same
backwards with transposed convolutions. With residual blocks the activations are ReLU, as published. Without
them, and before the head of a flat latent, they are GELU, because ReLU units there die within the first
twenty steps: their thousands of inputs are all positive, so that one step of Adam moves a unit on every image
at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from geovq.errors import ConfigError
from geovq.models.blocks import Decoder, Encoder
from geovq.models.normalization import ChannelNormalization, Normalization
from geovq.models.residual import residual_stack

OR_DENSE = "; or take network 'dense'"


class ConvEncoder(Encoder):
    """Images (N, C, H, W) -> mean and sigma (N, latent_dim), or with ``spatial`` a map (N, latent_dim, h, w).

    Parameters
    ----------
    image_shape : (C, H, W).
    widths : channels of the strided convolutions, each of which halves both sides.
    latent_dim : latent dimensions D.
    blocks : residual blocks behind the convolutions.
    normalization : see ``ChannelNormalization``.
    stochastic : see ``Encoder``.
    spatial : a latent map with D numbers a site instead of a flat latent.

    Raises ``ConfigError`` if the strides do not divide a side, or a size is impossible.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        widths: Sequence[int],
        latent_dim: int,
        *,
        stochastic: bool,
        spatial: bool,
        blocks: int = 0,
        normalization: Normalization | None = None,
    ) -> None:
        check_sizes(widths, latent_dim, blocks)
        height, width = map_sides(image_shape, len(widths), OR_DENSE)
        outputs = 2 * latent_dim if stochastic else latent_dim
        activation = nn.ReLU if blocks else nn.GELU
        layers = [*strided(image_shape[0], widths, activation), *residual_stack(widths[-1], blocks)]
        if spatial:
            head: nn.Module = nn.Conv2d(widths[-1], outputs, kernel_size=1)
        else:
            # A hidden layer before the head: a head on all features would give the VAE, which needs two
            # outputs a dimension, a quarter more parameters than the VQ-VAE it is compared with.
            layers += [nn.Flatten(), nn.Linear(widths[-1] * height * width, widths[-1]), nn.GELU()]
            head = nn.Linear(widths[-1], outputs)
        super().__init__(nn.Sequential(*layers), head, stochastic=stochastic)
        self.normalize = ChannelNormalization(image_shape[0], normalization)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation, in the shape of a latent each."""
        return super().forward(self.normalize(images))


class ConvDecoder(Decoder):
    """Latents (N, latent_dim), or maps (N, latent_dim, h, w), -> images (N, C, H, W) in [0, 1].

    ``widths`` and ``blocks`` are those of the encoder, used in reverse.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        widths: Sequence[int],
        latent_dim: int,
        *,
        spatial: bool,
        blocks: int = 0,
    ) -> None:
        check_sizes(widths, latent_dim, blocks)
        height, width = map_sides(image_shape, len(widths), OR_DENSE)
        activation = nn.ReLU if blocks else nn.GELU
        if spatial:
            start: list[nn.Module] = [nn.Conv2d(latent_dim, widths[-1], kernel_size=1), activation()]
        else:
            start = [
                nn.Linear(latent_dim, widths[-1] * height * width),
                activation(),
                nn.Unflatten(1, (widths[-1], height, width)),
            ]
        middle = residual_stack(widths[-1], blocks)
        super().__init__(nn.Sequential(*start, *middle, *transposed(widths, image_shape[0], activation)))


def strided(channels: int, widths: Sequence[int], activation: type[nn.Module]) -> list[nn.Module]:
    """Convolutions that halve both sides, one a width, each with its activation."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((channels, *widths)):
        layers += [nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1), activation()]
    return layers


def transposed(widths: Sequence[int], channels: int, activation: type[nn.Module]) -> list[nn.Module]:
    """Transposed convolutions that double both sides, from the last width to ``channels``, as logits."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((*reversed(widths), channels)):
        layers += [nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1), activation()]
    return layers[:-1]


def map_sides(image_shape: Sequence[int], n_halvings: int, instead: str = "") -> tuple[int, int]:
    """Sides (h, w) of what ``n_halvings`` strided convolutions leave of images (C, H, W).

    Raises ``ConfigError`` if they do not divide the images' sides; ``instead`` is what else may be done.
    """
    _, height, width = image_shape
    factor = 2**n_halvings
    if height % factor or width % factor:
        raise ConfigError(
            f"images are {height}x{width}; the convolutional networks need sides that are multiples of "
            f"{factor}; resize them, for folder data with --set data.image_size=N, or take fewer than "
            f"{n_halvings} halvings: fewer widths or levels{instead}"
        )
    return height // factor, width // factor


def check_sizes(widths: Sequence[int], latent_dim: int, blocks: int) -> None:
    """Raise ``ConfigError`` for no widths, a width or ``latent_dim`` below 1, or blocks below 0."""
    if not widths or min(*widths, latent_dim) < 1 or blocks < 0:
        raise ConfigError(
            f"widths are {list(widths)}, latent_dim {latent_dim} and blocks {blocks}; expected one channel "
            "count or more, all above 0, latent dimensions above 0 and blocks of at least 0"
        )
