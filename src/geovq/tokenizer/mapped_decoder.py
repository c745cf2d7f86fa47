"""A decoder of mapped latents."""

from __future__ import annotations

from torch import Tensor, nn

from geovq.tokenizer.latent_map import LatentMap


class MappedDecoder(nn.Module):
    """Decodes A z: what a decoder of z is to quantizers that see mapped latents."""

    def __init__(self, latent_map: LatentMap, decoder: nn.Module) -> None:
        super().__init__()
        self.latent_map, self.decoder = latent_map, decoder

    def forward(self, mapped: Tensor) -> Tensor:
        """Images of mapped latents (N, *latent_shape)."""
        images: Tensor = self.decoder(self.latent_map.undo(mapped))
        return images
