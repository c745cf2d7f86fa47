"""The convolutional encoder and decoder that both kinds of autoencoder share.

Two strided convolutions down, a projection to a flat latent or to a latent map, and transposed convolutions
up. GELU, because ReLU units in front of the head die within the first twenty steps: their thousands of inputs
are all positive, so that one step of Adam moves a unit on every image at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from geovq.errors import ConfigError
from geovq.models.blocks import Decoder, Encoder


class ConvEncoder(Encoder):
    """Images (N, C, H, W) -> mean and sigma (N, latent_dim), or with ``spatial`` (N, latent_dim, H/4, W/4).

    ``widths`` are the channels of the two convolutions; ``stochastic`` is the ``Encoder``'s. Raises
    ``ConfigError`` if a side is no multiple of 4 or a size is impossible.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        widths: Sequence[int],
        latent_dim: int,
        *,
        stochastic: bool,
        spatial: bool,
    ) -> None:
        channels, height, width = _checked(image_shape, widths, latent_dim)
        outputs = 2 * latent_dim if stochastic else latent_dim
        down = [
            nn.Conv2d(channels, widths[0], kernel_size=4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(widths[0], widths[1], kernel_size=4, stride=2, padding=1),
            nn.GELU(),
        ]
        if spatial:
            features = nn.Sequential(*down)
            head: nn.Module = nn.Conv2d(widths[1], outputs, kernel_size=1)
        else:
            # A hidden layer before the head: a head on all features would give the VAE, which needs two
            # outputs a dimension, a quarter more parameters than the VQ-VAE it is compared with.
            hidden = nn.Linear(widths[1] * (height // 4) * (width // 4), widths[1])
            features = nn.Sequential(*down, nn.Flatten(), hidden, nn.GELU())
            head = nn.Linear(widths[1], outputs)
        super().__init__(features, head, stochastic=stochastic)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation, in the shape of a latent each."""
        # [0, 1] to [-1, 1]: centred inputs train faster, and every interface stays in [0, 1].
        return super().forward(2 * images - 1)


class ConvDecoder(Decoder):
    """Latents (N, latent_dim), or maps (N, latent_dim, H/4, W/4), -> images (N, C, H, W) in [0, 1].

    ``widths`` are those of the encoder, used in reverse.
    """

    def __init__(
        self, image_shape: Sequence[int], widths: Sequence[int], latent_dim: int, *, spatial: bool
    ) -> None:
        channels, height, width = _checked(image_shape, widths, latent_dim)
        if spatial:
            start: list[nn.Module] = [nn.Conv2d(latent_dim, widths[1], kernel_size=1), nn.GELU()]
        else:
            start = [
                nn.Linear(latent_dim, widths[1] * (height // 4) * (width // 4)),
                nn.GELU(),
                nn.Unflatten(1, (widths[1], height // 4, width // 4)),
            ]
        layers = nn.Sequential(
            *start,
            nn.ConvTranspose2d(widths[1], widths[0], kernel_size=4, stride=2, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(widths[0], channels, kernel_size=4, stride=2, padding=1),
        )
        super().__init__(layers)


def _checked(image_shape: Sequence[int], widths: Sequence[int], latent_dim: int) -> tuple[int, int, int]:
    channels, height, width = image_shape
    if height % 4 or width % 4:
        raise ConfigError(
            f"images are {height}x{width}; the convolutional networks need sides that are multiples of 4; "
            "resize them, for folder data with --set data.image_size=N, or take network 'dense'"
        )
    if len(widths) != 2 or min(*widths, latent_dim) < 1:
        raise ConfigError(
            f"widths are {list(widths)} and latent_dim {latent_dim}; expected two channel counts, all above 0"
        )
    return channels, height, width
