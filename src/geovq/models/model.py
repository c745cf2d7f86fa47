"""What all autoencoders have, and what training, tokenizers and pipeline need of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from geovq.errors import ConfigError, unknown_name
from geovq.models.blocks import Decoder, Encoder
from geovq.models.conv import ConvDecoder, ConvEncoder, map_sides
from geovq.models.dense import DenseDecoder, DenseEncoder
from geovq.models.normalization import Normalization
from geovq.models.reconstruction import ReconstructionLoss
from geovq.vq import QuantizerLayer

Network = Literal["conv", "dense"]
"""Convolutions, or fully connected layers."""


class QuantizedGrid(NamedTuple):
    """A grid of tokens (height, width) and the layer that quantizes it."""

    name: str
    height: int
    width: int
    layer: QuantizerLayer


class ImageModel(nn.Module, ABC):
    """A trainable model from images (N, C, H, W) in [0, 1] to images.

    ``end_to_end`` models bring quantizer layers, each with the grid of tokens that it sees (``grids``, as a
    prior reads them); the others have none.
    """

    end_to_end: ClassVar[bool]
    error: ReconstructionLoss

    @property
    @abstractmethod
    def grids(self) -> tuple[QuantizedGrid, ...]:
        """The grids of codes of an image."""

    @abstractmethod
    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of the training loss, per image; ``total`` is minimised."""

    @abstractmethod
    def reconstruct(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] after the whole model, codes included; without noise."""


class AutoencoderModel(ImageModel):
    """Encoder and decoder around a flat latent (D,) or, if ``spatial``, a latent map (D, h, w).

    ``network`` says what both are made of: strided convolutions of the given ``widths``, each of which halves
    the sides, with residual ``blocks``, or fully connected layers whose hidden ``widths`` are any number.
    ``end_to_end`` models bring a quantizer ``layer`` and the grid of ``tokens`` that it sees; for the others
    both are None.

    Raises ``ConfigError`` for an unknown network, sizes that it cannot have, or a latent map, blocks or a
    normalization of a dense one.
    """

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
        blocks: int,
        normalization: Normalization | None,
    ) -> None:
        super().__init__()
        self.layer = None
        self.tokens = None
        stochastic = not self.end_to_end
        if network == "conv":
            self.encoder = ConvEncoder(
                image_shape,
                widths,
                latent_dim,
                stochastic=stochastic,
                spatial=spatial,
                blocks=blocks,
                normalization=normalization,
            )
            self.decoder = ConvDecoder(image_shape, widths, latent_dim, spatial=spatial, blocks=blocks)
            sites = map_sides(image_shape, len(widths)) if spatial else ()
            self.latent_shape = (latent_dim, *sites)
        elif network == "dense":
            _refuse_in_dense(spatial=spatial, blocks=blocks, normalization=normalization)
            self.latent_shape = (latent_dim,)
            self.encoder = DenseEncoder(image_shape, widths, latent_dim, stochastic=stochastic)
            self.decoder = DenseDecoder(image_shape, widths, latent_dim)
        else:
            raise ConfigError(unknown_name("network", network, get_args(Network)))

    @property
    def grids(self) -> tuple[QuantizedGrid, ...]:
        """The one grid of a model with a layer."""
        if self.layer is None or self.tokens is None:
            return ()
        return (QuantizedGrid("latent", *self.tokens, self.layer),)


def _refuse_in_dense(*, spatial: bool, blocks: int, normalization: Normalization | None) -> None:
    if spatial:
        raise ConfigError(
            "spatial is true with network 'dense'; a fully connected network mixes all pixels and has no "
            "sites to make a latent map of; leave out spatial, or set network to 'conv'"
        )
    if blocks or normalization is not None:
        raise ConfigError(
            f"blocks is {blocks} and normalization {normalization} with network 'dense'; expected neither: "
            "both are of convolutional networks; leave them out, or set network to 'conv'"
        )
