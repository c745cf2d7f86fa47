"""The VQ-VAE: the VAE's encoder and decoder with a trainable quantizer layer between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geovq.config import Spec, from_json
from geovq.models.cut import cut, paste, token_dim
from geovq.models.model import AutoencoderModel, Network
from geovq.models.normalization import Normalization
from geovq.models.reconstruction import Reconstruction, ReconstructionLoss
from geovq.registry import build, with_seed
from geovq.vq import Quantized, QuantizerLayer

FLAT_TOKENS = (2, 4)


class VQVAE(AutoencoderModel):
    """VQ-VAE with a flat latent or a latent map cut into tokens (van den Oord et al. 2017).

    Parameters
    ----------
    image_shape : (C, H, W); the strides of a convolutional network must divide its sides.
    layer : ``{"kind": "ema", "params": {"n_codes": 256}}``; ``dim`` follows from the cut.
    latent_dim : latent dimensions D.
    tokens : grid (height, width) of tokens that the latent is cut into; by default the sites of a map, and
        2x4 for a flat latent.
    widths : channels of the strided convolutions, each of which halves the sides, or units of the hidden
        layers of a dense network.
    seed : of the layer's own draws.
    spatial : a latent map, D numbers a site, instead of a flat latent.
    network : ``conv`` or ``dense``, fully connected, as for the ``VAE``.
    reconstruction : what is minimised beside the layer's loss; see ``Reconstruction``.
    blocks : residual blocks in each half of a convolutional network.
    normalization : how a convolutional network standardises images; see ``ChannelNormalization``.

    Raises ``ConfigError`` for an unknown reconstruction loss, and as ``AutoencoderModel``.
    """

    end_to_end = True
    layer: QuantizerLayer
    tokens: tuple[int, int]

    def __init__(
        self,
        image_shape: Sequence[int],
        layer: Mapping[str, Any],
        latent_dim: int = 32,
        tokens: Sequence[int] | None = None,
        widths: Sequence[int] = (64, 128),
        seed: int = 0,
        spatial: bool = False,
        network: Network = "conv",
        reconstruction: Reconstruction = "bce",
        blocks: int = 0,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__(image_shape, latent_dim, widths, spatial, network, blocks, normalization)
        self.error = ReconstructionLoss(reconstruction, self.decoder, image_shape[0], normalization)
        height, width = tokens or (self.latent_shape[1:] if spatial else FLAT_TOKENS)
        self.tokens = (height, width)
        dim = token_dim(self.latent_shape, self.tokens)
        self.layer = build("layer", with_seed("layer", from_json(Spec, layer, "layer"), seed), dim=dim)

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Reconstruction and quantizer loss of images (N, C, H, W), each per image, and the layer's stats."""
        (images,) = batch
        quantized, latents = self._quantized(images)
        name, error = self.error(self.decoder, latents, images)
        commitment = quantized.loss * (self.tokens[0] * self.tokens[1])
        return {"total": error + commitment, name: error, "commitment": commitment, **quantized.stats}

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) decoded from the codes of ``images``."""
        decoded: Tensor = self.decoder(self._quantized(images)[1])
        return decoded

    def _quantized(self, images: Tensor) -> tuple[Quantized, Tensor]:
        """What the layer makes of images, and the latents of that (N, *latent_shape)."""
        latents, _ = self.encoder(images)
        quantized: Quantized = self.layer(cut(latents, self.tokens))
        return quantized, paste(quantized.z_q, self.latent_shape)
