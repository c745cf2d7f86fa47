"""The hierarchical VQ-VAE: maps of codes of several resolutions, coarse to fine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from geovq.config import Spec, from_json
from geovq.errors import ConfigError
from geovq.models.blocks import Decoder, at_least_float32
from geovq.models.conv import check_sizes, map_sides, strided, transposed
from geovq.models.cut import cut, paste
from geovq.models.model import ImageModel, QuantizedGrid
from geovq.models.normalization import ChannelNormalization, Normalization
from geovq.models.reconstruction import Reconstruction, ReconstructionLoss
from geovq.models.residual import residual_stack
from geovq.registry import build, with_seed
from geovq.seeding import derive_seed
from geovq.vq import Quantized, QuantizerLayer


class QuantizedLevel(NamedTuple):
    """Tokens (N, T, d) of one level, and what its layer makes of them."""

    tokens: Tensor
    quantized: Quantized


class VQVAE2(ImageModel):
    """VQ-VAE-2 with any number of levels, each a latent map with its own codebook.

    The finest map (``bottom``) has one token for every ``2^len(widths)`` pixels of a side; every level above
    it has half its sides. A level is encoded from its features and from what the quantized levels above
    decode to, so that it can code what they leave; the decoder sees all of them.

    Parameters
    ----------
    image_shape : (C, H, W); the strides of all levels must divide its sides.
    layers : a layer a level, the coarsest first, as ``{"kind": "ema", "params": {"n_codes": 256}}``.
    latent_dim : length d of a token, on every level.
    widths : channels of the strided convolutions between image and bottom level; the last is that of all
        levels.
    blocks : residual blocks on every level, in each half.
    seed : of the layers' own draws.
    reconstruction : what is minimised beside the layers' losses; see ``Reconstruction``.
    normalization : how images are standardised; see ``ChannelNormalization``.

    Raises ``ConfigError`` for no layer at all, and for sizes that are impossible.

    Source: Razavi, van den Oord & Vinyals, "Generating Diverse High-Fidelity Images with VQ-VAE-2" (2019),
    section 3.1 and algorithm 1, with one upsampling path for the encoder's condition and the decoder.
    """

    end_to_end = True

    def __init__(
        self,
        image_shape: Sequence[int],
        layers: Sequence[Mapping[str, Any]],
        latent_dim: int = 16,
        widths: Sequence[int] = (64, 64),
        blocks: int = 2,
        seed: int = 0,
        reconstruction: Reconstruction = "mse",
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__()
        n_levels = len(layers)
        if n_levels < 1:
            raise ConfigError("layers has 0 entries; expected one for every level, at least 1")
        check_sizes(widths, latent_dim, blocks)
        width, self.latent_dim = widths[-1], latent_dim
        self.names = level_names(n_levels)
        self.sides = [
            map_sides(image_shape, len(widths) + above) for above in reversed(range(n_levels))
        ]  # coarsest first, as all lists of levels
        self.normalize = ChannelNormalization(image_shape[0], normalization)
        self.encoders = nn.ModuleList(
            nn.Sequential(*strided(*inputs, nn.ReLU), *residual_stack(width, blocks))
            for inputs in [(image_shape[0], widths), *[(width, (width,))] * (n_levels - 1)]
        )  # the one list in the order of the computation, from the image up
        self.heads = nn.ModuleList(
            nn.Conv2d(width if level == 0 else 2 * width, latent_dim, kernel_size=1)
            for level in range(n_levels)
        )
        self.layers = nn.ModuleList(
            _layer(layer, level, latent_dim, seed) for level, layer in enumerate(layers)
        )
        self.upsamplers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(latent_dim if level == 0 else latent_dim + width, width, kernel_size=3, padding=1),
                *residual_stack(width, blocks),
                nn.ConvTranspose2d(width, width, kernel_size=4, stride=2, padding=1),
                nn.ReLU(),
            )
            for level in range(n_levels - 1)
        )
        self.decoder = Decoder(
            nn.Sequential(
                nn.Conv2d(latent_dim if n_levels == 1 else latent_dim + width, width, kernel_size=1),
                nn.ReLU(),
                *residual_stack(width, blocks),
                *transposed(widths, image_shape[0], nn.ReLU),
            )
        )
        self.error = ReconstructionLoss(reconstruction, self.decoder, image_shape[0], normalization)

    @property
    def grids(self) -> tuple[QuantizedGrid, ...]:
        """One grid a level, the coarsest first."""
        levels = zip(self.names, self.sides, self.layers, strict=True)
        return tuple(
            QuantizedGrid(name, *sides, cast(QuantizerLayer, layer)) for name, sides, layer in levels
        )

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Reconstruction and quantizer losses of images (N, C, H, W), each per image, and the layers' stats.

        Of several levels a layer's stats are named after its own, as ``top.batch_perplexity``.
        """
        (images,) = batch
        levels, state = self.quantize(images)
        name, error = self.error(self.decoder, state, images)
        losses: list[Tensor] = []
        stats: dict[str, Tensor] = {}
        for grid, (_, quantized) in zip(self.grids, levels, strict=True):
            losses.append(quantized.loss * (grid.height * grid.width))
            prefix = f"{grid.name}." if len(levels) > 1 else ""
            stats |= {f"{prefix}{stat}": value for stat, value in quantized.stats.items()}
        commitment = torch.stack(losses).sum()
        return {"total": error + commitment, name: error, "commitment": commitment, **stats}

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) decoded from the codes of ``images``."""
        decoded: Tensor = self.decoder(self.quantize(images)[1])
        return decoded

    def quantize(self, images: Tensor) -> tuple[list[QuantizedLevel], Tensor]:
        """What every layer makes of images (N, C, H, W), the coarsest first, and what the decoder takes."""
        features, hidden = [], self.normalize(images)
        for encoder in self.encoders:
            hidden = encoder(hidden)
            features.append(hidden)
        levels: list[QuantizedLevel] = []
        state: Tensor | None = None
        for level, grid in enumerate(self.grids):
            from_above = self._from_above(level, state)
            latents = at_least_float32(self.heads[level](torch.cat([features.pop(), *from_above], 1)))
            tokens = cut(latents, (grid.height, grid.width))
            levels.append(QuantizedLevel(tokens, grid.layer(tokens)))
            state = torch.cat([paste(levels[-1].quantized.z_q, latents.shape[1:]), *from_above], 1)
        assert state is not None
        return levels, state

    def decode(self, vectors: Sequence[Tensor]) -> Tensor:
        """Images (N, C, H, W) of quantized tokens (N, T, d) a level, the coarsest first."""
        state: Tensor | None = None
        for level, (grid, tokens) in enumerate(zip(self.grids, vectors, strict=True)):
            latents = paste(tokens, (tokens.shape[2], grid.height, grid.width))
            state = torch.cat([latents, *self._from_above(level, state)], 1)
        decoded: Tensor = self.decoder(state)
        return decoded

    def _from_above(self, level: int, state: Tensor | None) -> list[Tensor]:
        """What the quantized levels above decode to, in the sides of ``level``; nothing for the coarsest."""
        return [] if state is None else [self.upsamplers[level - 1](state)]


def _layer(layer: Mapping[str, Any], level: int, dim: int, seed: int) -> QuantizerLayer:
    spec = from_json(Spec, layer, f"layers.{level}")
    built: QuantizerLayer = build(
        "layer", with_seed("layer", spec, derive_seed(seed, "VQVAE2 level", level)), dim=dim
    )
    return built


def level_names(n_levels: int) -> tuple[str, ...]:
    """Names of levels, the coarsest first: ``top``, ``middle`` and ``bottom``, or numbered in between."""
    n_between = n_levels - 2
    between = ["middle"] if n_between == 1 else [f"middle-{i + 1}" for i in range(n_between)]
    return ("top", *between, "bottom") if n_levels > 1 else ("bottom",)
