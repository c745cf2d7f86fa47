"""The continuous variational autoencoder whose latents are quantized after the fact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geovq.errors import ConfigError
from geovq.models.likelihood import gaussian_kl_nats
from geovq.models.model import AutoencoderModel, Network
from geovq.models.normalization import Normalization
from geovq.models.reconstruction import Reconstruction, ReconstructionLoss


class VAE(AutoencoderModel):
    """VAE with a flat latent or a latent map.

    Sources: Kingma & Welling 2014; beta of Higgins et al. 2017.

    Parameters
    ----------
    image_shape : (C, H, W); the strides of a convolutional network must divide its sides.
    latent_dim : latent dimensions D.
    widths : channels of the strided convolutions, each of which halves the sides, or units of the hidden
        layers of a dense network.
    beta : weight of the KL term. Below 1 it keeps more of the image in the latent.
    spatial : a latent map, D numbers for every 4x4 pixels if there are two widths, instead of a flat latent.
    network : ``conv`` or ``dense``, fully connected; ``network="dense", widths=(400,), latent_dim=20`` is
        784-400-20-400-784 on MNIST.
    reconstruction : what is minimised beside the KL term; see ``Reconstruction``.
    blocks : residual blocks in each half of a convolutional network.
    normalization : how a convolutional network standardises images; see ``ChannelNormalization``.
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
        reconstruction: Reconstruction = "bce",
        blocks: int = 0,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__(image_shape, latent_dim, widths, spatial, network, blocks, normalization)
        self.error = ReconstructionLoss(reconstruction, self.decoder, image_shape[0], normalization)
        if not beta >= 0:
            raise ConfigError(f"beta is {beta}; expected at least 0")
        self.beta = beta

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Reconstruction error and KL of images (N, C, H, W), each per image, the KL weighted by beta.

        In nats, and with beta 1 the negative ELBO, unless the error is a squared one.
        """
        (images,) = batch
        mean, sigma = self.encoder(images)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
        name, error = self.error(self.decoder, mean + sigma * noise, images)
        kl = gaussian_kl_nats(mean, sigma)
        return {"total": error + self.beta * kl, name: error, "kl_nats": kl}

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) decoded from the posterior means."""
        reconstructed: Tensor = self.decoder(self.encoder(images)[0])
        return reconstructed
