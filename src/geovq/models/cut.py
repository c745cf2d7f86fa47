"""Cutting a latent into tokens and pasting tokens back.

A flat latent (N, D) becomes ``h x w`` chunks of consecutive dimensions; a latent map (N, D, h, w) becomes its
``h x w`` sites. Both are tokens (N, T, d) in row order.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from geovq.errors import ConfigError


def token_dim(latent_shape: Sequence[int], grid: Sequence[int]) -> int:
    """Length d of a token when a latent of ``latent_shape`` is cut by ``grid`` (height, width).

    Raises ``ConfigError`` if the cut does not come out even.
    """
    n_tokens = grid[0] * grid[1]
    if len(latent_shape) == 1:
        if min(grid) < 1 or latent_shape[0] % n_tokens:
            raise ConfigError(
                f"a latent of {latent_shape[0]} dimensions cannot be cut into {grid[0]}x{grid[1]} equal "
                f"tokens; expected a grid whose size divides {latent_shape[0]}"
            )
        return latent_shape[0] // n_tokens
    if tuple(latent_shape[1:]) != tuple(grid):
        raise ConfigError(
            f"a latent map of {latent_shape[1]}x{latent_shape[2]} sites cannot be cut into "
            f"{grid[0]}x{grid[1]} tokens; expected one token a site"
        )
    return latent_shape[0]


def cut(latents: Tensor, grid: Sequence[int]) -> Tensor:
    """Latents (N, D) or (N, D, h, w) as tokens (N, T, d)."""
    dim = token_dim(latents.shape[1:], grid)
    if latents.ndim == 4:
        latents = latents.permute(0, 2, 3, 1)
    return latents.reshape(len(latents), grid[0] * grid[1], dim)


def paste(tokens: Tensor, latent_shape: Sequence[int]) -> Tensor:
    """Tokens (N, T, d) as latents (N, *latent_shape): the inverse of ``cut``."""
    if len(latent_shape) == 1:
        return tokens.reshape(len(tokens), *latent_shape)
    dim, height, width = latent_shape
    return tokens.reshape(len(tokens), height, width, dim).permute(0, 3, 1, 2)
