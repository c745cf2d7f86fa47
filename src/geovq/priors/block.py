"""One layer of the Transformer prior."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from geovq.priors.attention import CausalSelfAttention, KeyValueCache
from geovq.priors.dropout import KeyedDropout


class Block(nn.Module):
    """Attention, then a feed-forward net of four times the width, each normalising its input and added to it.

    Pre-norm (Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture"). Linear weights are
    left for the prior to draw from its own generator.
    """

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width, n_heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.expand = skip_init(nn.Linear, width, 4 * width)
        self.contract = skip_init(nn.Linear, 4 * width, width)
        self.dropout = KeyedDropout(dropout)

    def forward(
        self, x: Tensor, generator: torch.Generator | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """``x`` (N, T, width) to (N, T, width); ``generator`` draws the dropout masks."""
        x = x + self.dropout(self.attention(self.attention_norm(x), cache), generator)
        hidden = nn.functional.gelu(self.expand(self.feed_forward_norm(x)))
        return x + self.dropout(self.contract(hidden), generator)
