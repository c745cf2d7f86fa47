"""The convolutional encoder and decoder that both kinds of autoencoder share.

Two strided convolutions down, a projection to a flat latent or to a latent map, and transposed convolutions
up. Images in and out are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geovq.errors import ConfigError


class ConvEncoder(nn.Module):
    """Images (N, C, H, W) -> mean and sigma of a diagonal Gaussian.

    Both are (N, latent_dim), or with ``spatial`` maps (N, latent_dim, H/4, W/4). ``stochastic=False`` gives
    the encoder of a VQ-VAE: a point, with a sigma of zero.
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
        super().__init__()
        channels, height, width = _checked(image_shape, widths, latent_dim)
        self.stochastic = stochastic
        outputs = 2 * latent_dim if stochastic else latent_dim
        down = [
            nn.Conv2d(channels, widths[0], kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(widths[0], widths[1], kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
        ]
        if spatial:
            self.features = nn.Sequential(*down)
            self.head: nn.Module = nn.Conv2d(widths[1], outputs, kernel_size=1)
        else:
            # A hidden layer before the head: a head on all features would give the VAE, which needs two
            # outputs a dimension, a quarter more parameters than the VQ-VAE it is compared with.
            hidden = nn.Linear(widths[1] * (height // 4) * (width // 4), widths[1])
            self.features = nn.Sequential(*down, nn.Flatten(), hidden, nn.ReLU())
            self.head = nn.Linear(widths[1], outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation, in the shape of a latent each."""
        # [0, 1] to [-1, 1]: centred inputs train faster, and every interface stays in [0, 1].
        hidden = self.head(self.features(2 * images - 1))
        if not self.stochastic:
            return hidden, torch.zeros_like(hidden)
        mean, log_sigma = hidden.chunk(2, dim=1)
        # The bounds are far outside what training reaches; they keep exp() finite in the first steps.
        return mean, log_sigma.clamp(-10, 5).exp()


class ConvDecoder(nn.Module):
    """Latents (N, latent_dim), or maps (N, latent_dim, H/4, W/4), -> images (N, C, H, W) in [0, 1]."""

    def __init__(
        self, image_shape: Sequence[int], widths: Sequence[int], latent_dim: int, *, spatial: bool
    ) -> None:
        super().__init__()
        channels, height, width = _checked(image_shape, widths, latent_dim)
        if spatial:
            start: list[nn.Module] = [nn.Conv2d(latent_dim, widths[1], kernel_size=1), nn.ReLU()]
        else:
            start = [
                nn.Linear(latent_dim, widths[1] * (height // 4) * (width // 4)),
                nn.ReLU(),
                nn.Unflatten(1, (widths[1], height // 4, width // 4)),
            ]
        self.layers = nn.Sequential(
            *start,
            nn.ConvTranspose2d(widths[1], widths[0], kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(widths[0], channels, kernel_size=4, stride=2, padding=1),
        )

    def logits(self, latents: Tensor) -> Tensor:
        """Bernoulli logits (N, C, H, W)."""
        return self.layers(latents)

    def forward(self, latents: Tensor) -> Tensor:
        """Decoded images, the Bernoulli means."""
        return self.logits(latents).sigmoid()


def _checked(image_shape: Sequence[int], widths: Sequence[int], latent_dim: int) -> tuple[int, int, int]:
    channels, height, width = image_shape
    if height % 4 or width % 4:
        raise ConfigError(
            f"images are {height}x{width}; the convolutional networks need sides that are multiples of 4; "
            "resize them, for folder data with --set data.image_size=N"
        )
    if len(widths) != 2 or min(*widths, latent_dim) < 1:
        raise ConfigError(
            f"widths are {list(widths)} and latent_dim {latent_dim}; expected two channel counts, all above 0"
        )
    return channels, height, width
