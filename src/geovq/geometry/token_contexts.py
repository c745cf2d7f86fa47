"""Tokens within their latents: a decoder maps whole latents, so a token is decoded among its neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from geovq.models.cut import cut, paste


class TokenContexts:
    """N latents cut into T tokens of d numbers each; row ``r`` is token ``r % T`` of latent ``r // T``.

    A flat latent (N, D) is cut into D / d consecutive chunks, a map (N, D, h, w) into its sites in row order
    if d = D. Either is one token if d is all its numbers. ``ValueError`` if no cut gives tokens of d numbers.

    Attributes
    ----------
    tokens : (N, T, d)
    """

    def __init__(self, latents: Tensor, dim: int) -> None:
        self.latent_shape = latents.shape[1:]
        size = self.latent_shape.numel()
        if dim == size:
            self.tokens = latents.reshape(len(latents), 1, size)
        elif len(self.latent_shape) == 1 and dim > 0 and size % dim == 0:
            self.tokens = cut(latents, (1, size // dim))
        elif len(self.latent_shape) == 3 and dim == self.latent_shape[0]:
            self.tokens = cut(latents, self.latent_shape[1:])
        else:
            raise ValueError(
                f"latents of shape {tuple(self.latent_shape)}, which have no tokens of {dim} numbers; "
                "expected a divisor of D for flat latents (D,), D for maps (D, h, w), or all their numbers"
            )

    @property
    def tokens_a_latent(self) -> int:
        """T."""
        return self.tokens.shape[1]

    @property
    def dim(self) -> int:
        """Numbers of a token, d."""
        return self.tokens.shape[2]

    def latents(self, images: Tensor) -> Tensor:
        """The latents ``images (b,)``, (b, *latent_shape)."""
        return self._pasted(self.tokens[images])

    def with_token(self, rows: Tensor, others: Tensor) -> Tensor:
        """The latents that tokens ``rows (b,)`` are in, those tokens replaced by tokens ``others (b,)``."""
        tokens = self.tokens[rows // self.tokens_a_latent]
        tokens[torch.arange(len(rows)), rows % self.tokens_a_latent] = self.tokens.reshape(-1, self.dim)[
            others
        ]
        return self._pasted(tokens)

    def directions(self, rows: Tensor) -> Tensor:
        """For every token of ``rows (b,)`` the d unit steps of its latent, (d, b, *latent_shape)."""
        steps = self.tokens.new_zeros(self.dim, len(rows), *self.tokens.shape[1:])
        axes, places = torch.arange(self.dim)[:, None], torch.arange(len(rows))
        steps[axes, places, rows % self.tokens_a_latent, axes] = 1
        return self._pasted(steps.flatten(0, 1)).unflatten(0, (self.dim, len(rows)))

    def _pasted(self, tokens: Tensor) -> Tensor:
        if self.tokens_a_latent == 1:
            return tokens.reshape(len(tokens), *self.latent_shape)
        return paste(tokens, self.latent_shape)
