"""The continuous variational autoencoder whose latents are quantized after the fact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geovq.errors import ConfigError
from geovq.models.likelihood import bernoulli_nats, gaussian_kl_nats
from geovq.models.model import AutoencoderModel, Network


class VAE(AutoencoderModel):
    """VAE with a flat latent or a latent map.

    Sources: Kingma & Welling 2014; beta of Higgins et al. 2017.

    Parameters
    ----------
    image_shape : (C, H, W); sides are multiples of 4 for a convolutional network.
    latent_dim : latent dimensions D.
    widths : channels of the two convolutions, or units of the hidden layers of a dense network.
    beta : weight of the KL term. Below 1 it keeps more of the image in the latent.
    spatial : a latent map (D, H/4, W/4), D numbers for every 4x4 pixels, instead of a flat latent.
    network : ``conv`` or ``dense``, fully connected; ``network="dense", widths=(400,), latent_dim=20`` is
        784-400-20-400-784 on MNIST.
    """

    end_to_end = False

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 32,
        widths: Sequence[int] = (64, 128),
        beta: float = 1.0,
        spatial: bool = False,
        network: Network = "conv",
    ) -> None:
        super().__init__(image_shape, latent_dim, widths, spatial, network)
        if not beta >= 0:
            raise ConfigError(f"beta is {beta}; expected at least 0")
        self.beta = beta

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Negative ELBO of images (N, C, H, W), nats an image, with the KL weighted by beta."""
        (images,) = batch
        mean, sigma = self.encoder(images)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
        bce = bernoulli_nats(self.decoder.logits(mean + sigma * noise), images)
        kl = gaussian_kl_nats(mean, sigma)
        return {"total": bce + self.beta * kl, "bce_nats": bce, "kl_nats": kl}
