"""The VQ-VAE: the VAE's encoder and decoder with a trainable quantizer layer between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from geovq.config import Spec, from_json
from geovq.errors import ConfigError
from geovq.models.cut import cut, paste, token_dim
from geovq.models.likelihood import bernoulli_nats, squared_error
from geovq.models.model import AutoencoderModel, Network
from geovq.registry import build, with_seed
from geovq.vq import QuantizerLayer


class VQVAE(AutoencoderModel):
    """VQ-VAE with a flat latent or a latent map cut into tokens (van den Oord et al. 2017).

    Parameters
    ----------
    image_shape : (C, H, W); sides are multiples of 4 for a convolutional network.
    layer : ``{"kind": "ema", "params": {"n_codes": 256}}``; ``dim`` follows from the cut.
    latent_dim : latent dimensions D.
    tokens : grid (height, width) of tokens that the latent is cut into.
    widths : channels of the two convolutions, or units of the hidden layers of a dense network.
    seed : of the layer's own draws.
    spatial : a latent map (D, H/4, W/4) instead of a flat latent; ``tokens`` are then its sites.
    network : ``conv`` or ``dense``, fully connected, as for the ``VAE``.
    reconstruction : ``bce``, the binary cross-entropy of an image in nats, or ``mse``, its squared error
        summed over pixels, which is about a tenth of it: the layer's loss then weighs ten times as much.

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
        tokens: Sequence[int] = (2, 4),
        widths: Sequence[int] = (64, 128),
        seed: int = 0,
        spatial: bool = False,
        network: Network = "conv",
        reconstruction: Literal["bce", "mse"] = "bce",
    ) -> None:
        super().__init__(image_shape, latent_dim, widths, spatial, network)
        if reconstruction not in ("bce", "mse"):
            raise ConfigError(f"reconstruction is '{reconstruction}'; expected 'bce' or 'mse'")
        self.reconstruction = reconstruction
        self.tokens = (tokens[0], tokens[1])
        dim = token_dim(self.latent_shape, self.tokens)
        self.layer = build("layer", with_seed("layer", from_json(Spec, layer, "layer"), seed), dim=dim)

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Reconstruction and quantizer loss of images (N, C, H, W), each per image, and the layer's stats."""
        (images,) = batch
        latents, _ = self.encoder(images)
        tokens = cut(latents, self.tokens)
        quantized = self.layer(tokens)
        logits = self.decoder.logits(paste(quantized.z_q, self.latent_shape))
        if self.reconstruction == "bce":
            name, error = "bce_nats", bernoulli_nats(logits, images)
        else:
            name, error = "squared_error", squared_error(logits.sigmoid(), images)
        commitment = quantized.loss * tokens.shape[1]
        return {"total": error + commitment, name: error, "commitment": commitment, **quantized.stats}
