"""A light network between the codes and a decoder that must stay frozen."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from geovq.errors import ConfigError


class Rectifier(nn.Module):
    """Moves quantized latents (N, *latent_shape) to where a frozen decoder does better with them.

    Residual blocks that start as the identity: two linear layers for flat latents (D,), two 3x3 convolutions
    for latent maps (D, h, w).

    Parameters
    ----------
    latent_shape : (D,) or (D, h, w)
    width : hidden units or channels of a block
    n_blocks : residual blocks

    Source: the idea is ReVQ's (arXiv 2507.10547), which trains a larger network towards the clean latents.
    """

    def __init__(self, latent_shape: Sequence[int], width: int = 256, n_blocks: int = 2) -> None:
        super().__init__()
        if width < 1 or n_blocks < 1:
            raise ConfigError(
                f"a rectifier of width {width} with {n_blocks} blocks; expected at least 1 of both"
            )
        self.width, self.n_blocks = width, n_blocks
        self.blocks = nn.ModuleList(_block(latent_shape, width) for _ in range(n_blocks))

    def forward(self, latents: Tensor) -> Tensor:
        """Rectified latents, in the shape of ``latents``."""
        for block in self.blocks:
            latents = latents + block(latents)
        return latents


def _block(latent_shape: Sequence[int], width: int) -> nn.Sequential:
    dim = latent_shape[0]
    first: nn.Module
    last: nn.Linear | nn.Conv2d
    if len(latent_shape) == 1:
        first, last = nn.Linear(dim, width), nn.Linear(width, dim)
    else:
        first, last = nn.Conv2d(dim, width, 3, padding=1), nn.Conv2d(width, dim, 3, padding=1)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    return nn.Sequential(first, nn.ReLU(), last)
