"""What both kinds of autoencoder have, and what training, tokenizers and pipeline need of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from geovq.errors import ConfigError, unknown_name
from geovq.models.blocks import Decoder, Encoder
from geovq.models.conv import ConvDecoder, ConvEncoder
from geovq.models.dense import DenseDecoder, DenseEncoder
from geovq.vq import QuantizerLayer

Network = Literal["conv", "dense"]
"""Convolutions, or fully connected layers."""


class AutoencoderModel(nn.Module, ABC):
    """Encoder and decoder around a flat latent (D,) or, if ``spatial``, a latent map (D, H/4, W/4).

    ``network`` says what both are made of: convolutions of two ``widths``, or fully connected layers whose
    hidden ``widths`` are any number. ``end_to_end`` models bring a quantizer ``layer`` and the grid of
    ``tokens`` that it sees; for the others both are None.

    Raises ``ConfigError`` for an unknown network, sizes that it cannot have, or a latent map of a dense one.
    """

    end_to_end: ClassVar[bool]
    layer: QuantizerLayer | None
    tokens: tuple[int, int] | None
    encoder: Encoder
    decoder: Decoder

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int,
        widths: Sequence[int],
        spatial: bool,
        network: Network,
    ) -> None:
        super().__init__()
        self.layer = None
        self.tokens = None
        stochastic = not self.end_to_end
        if network == "conv":
            sites = (image_shape[1] // 4, image_shape[2] // 4) if spatial else ()
            self.latent_shape = (latent_dim, *sites)
            self.encoder = ConvEncoder(
                image_shape, widths, latent_dim, stochastic=stochastic, spatial=spatial
            )
            self.decoder = ConvDecoder(image_shape, widths, latent_dim, spatial=spatial)
        elif network == "dense":
            if spatial:
                raise ConfigError(
                    "spatial is true with network 'dense'; a fully connected network mixes all pixels and "
                    "has no sites to make a latent map of; leave out spatial, or set network to 'conv'"
                )
            self.latent_shape = (latent_dim,)
            self.encoder = DenseEncoder(image_shape, widths, latent_dim, stochastic=stochastic)
            self.decoder = DenseDecoder(image_shape, widths, latent_dim)
        else:
            raise ConfigError(unknown_name("network", network, get_args(Network)))

    @abstractmethod
    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of the training loss, per image; ``total`` is minimised."""
