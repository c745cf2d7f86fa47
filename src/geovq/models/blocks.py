"""The two halves of an autoencoder: what goes into them and comes out, whatever network is inside.

Images in and out are in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geovq.models.pixel_likelihood import DiscretizedLogistic


class Encoder(nn.Module):
    """Images (N, C, H, W) -> mean and sigma of a diagonal Gaussian, each in the shape of a latent.

    Parameters
    ----------
    features : network on the images.
    head : its features -> mean and logarithm of sigma, along axis 1; the mean alone if not ``stochastic``.
    stochastic : False gives the encoder of a VQ-VAE: a point, with a sigma of zero.
    """

    def __init__(self, features: nn.Module, head: nn.Module, *, stochastic: bool) -> None:
        super().__init__()
        self.features, self.head = features, head
        self.stochastic = stochastic

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation, in the shape of a latent each."""
        # A latent, its KL and its codes are float32 even where the network computes in bfloat16.
        hidden = at_least_float32(self.head(self.features(images)))
        if not self.stochastic:
            return hidden, torch.zeros_like(hidden)
        mean, log_sigma = hidden.chunk(2, dim=1)
        # The bounds are far outside what training reaches; they keep exp() finite in the first steps.
        return mean, log_sigma.clamp(-10, 5).exp()


class Decoder(nn.Module):
    """Latents -> images (N, C, H, W) in [0, 1]; ``layers`` is the network that gives their logits.

    ``likelihood`` is that of pixels given the image, where the decoder was trained with one.
    """

    likelihood: DiscretizedLogistic | None

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.likelihood = None

    def logits(self, latents: Tensor) -> Tensor:
        """Bernoulli logits (N, C, H, W)."""
        return at_least_float32(self.layers(latents))

    def forward(self, latents: Tensor) -> Tensor:
        """Decoded images, the Bernoulli means."""
        return self.logits(latents).sigmoid()


def at_least_float32(tensor: Tensor) -> Tensor:
    """``tensor`` itself, or in float32 if it is narrower."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
