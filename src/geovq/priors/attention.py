"""Causal self-attention, over whole sequences or one slot at a time with remembered keys and values."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils import skip_init


class KeyValueCache:
    """Keys and values, (N, heads, slots, width / heads), of the slots that one attention layer has read."""

    def __init__(self, n: int, n_slots: int, n_heads: int, like: Tensor) -> None:
        """Room for ``n`` images of ``n_slots``, of the width, type and device of ``like`` (..., width)."""
        shape = (n, n_heads, n_slots, like.shape[-1] // n_heads)
        self._keys, self._values = like.new_empty(shape), like.new_empty(shape)
        self._length = 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Remember one slot's key and value (N, heads, 1, d); return those of all slots so far."""
        end = self._length + 1
        self._keys[:, :, self._length : end], self._values[:, :, self._length : end] = key, value
        self._length = end
        return self._keys[:, :, :end], self._values[:, :, :end]


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which slot t sees slots 0..t (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query_key_value = skip_init(nn.Linear, width, 3 * width)
        self.output = skip_init(nn.Linear, width, width)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """``x`` (N, T, width) to (N, T, width); with a cache T is 1, and earlier slots come from it."""
        heads = self.query_key_value(x).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = cache.append(key, value)
        # With a cache the one query may see every key: all of them are in its past.
        mixed = scaled_dot_product_attention(query, key, value, is_causal=cache is None)
        return self.output(mixed.transpose(1, 2).flatten(2))
