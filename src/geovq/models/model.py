"""What both kinds of autoencoder have, and what training, tokenizers and pipeline need of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from geovq.models.blocks import ConvDecoder, ConvEncoder
from geovq.vq import QuantizerLayer


class AutoencoderModel(nn.Module, ABC):
    """Encoder and decoder around a flat latent (D,) or, if ``spatial``, a latent map (D, H/4, W/4).

    ``end_to_end`` models bring a quantizer ``layer`` and the grid of ``tokens`` that it sees; for the others
    both are None.
    """

    end_to_end: ClassVar[bool]
    layer: QuantizerLayer | None
    tokens: tuple[int, int] | None

    def __init__(
        self, image_shape: Sequence[int], latent_dim: int, widths: Sequence[int], spatial: bool
    ) -> None:
        super().__init__()
        sites = (image_shape[1] // 4, image_shape[2] // 4) if spatial else ()
        self.latent_shape = (latent_dim, *sites)
        self.layer = None
        self.tokens = None
        stochastic = not self.end_to_end
        self.encoder = ConvEncoder(image_shape, widths, latent_dim, stochastic=stochastic, spatial=spatial)
        self.decoder = ConvDecoder(image_shape, widths, latent_dim, spatial=spatial)

    @abstractmethod
    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of the training loss, per image; ``total`` is minimised."""
