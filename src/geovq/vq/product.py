"""Product quantization inside a model: every group of a vector's coordinates has a layer of its own.

Jegou, Douze & Schmid, "Product Quantization for Nearest Neighbor Search" (2011); inside an autoencoder, Yang
et al., "HiFi-Codec: Group-residual Vector Quantization" (2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from geovq.config import Spec, from_json
from geovq.errors import InputError
from geovq.registry import build, with_seed
from geovq.seeding import derive_seed
from geovq.vq.layer import Codebook, QuantizerLayer, check_table, checked_tokens, levels_of
from geovq.vq.quantized import Quantized
from geovq.vq.residual import mean_stats


class ProductVQ(QuantizerLayer):
    """G groups of consecutive coordinates, one code from each: K^G vectors of G K stored ones.

    Parameters
    ----------
    dim : vector length d, a multiple of ``n_groups``.
    layer : what every group's layer is, ``{"kind": "ema", "params": {"n_codes": 256}}``: any layer of one
        code a vector.
    n_groups : G; codes are (..., G), or (...) for a single group.
    seed : of the groups' layers.
    """

    groups: nn.ModuleList

    def __init__(self, dim: int, layer: Mapping[str, Any], n_groups: int, *, seed: int = 0) -> None:
        super().__init__()
        if n_groups < 1 or dim < 1 or dim % n_groups:
            raise InputError(f"ProductVQ: dim is {dim} and n_groups {n_groups}; expected a divisor of dim")
        self.dim, self.width = dim, dim // n_groups
        spec = from_json(Spec, layer, "layer")
        self.groups = nn.ModuleList(
            build("layer", with_seed("layer", spec, derive_seed(seed, "ProductVQ group", i)), dim=self.width)
            for i in range(n_groups)
        )
        if len(self.n_codes) != n_groups:
            raise InputError(
                f"ProductVQ: layer '{spec.kind}' gives {len(self.n_codes) // n_groups} codes a vector; "
                "expected a layer that gives one"
            )

    @property
    def n_codes(self) -> tuple[int, ...]:
        """``(K,) * G``."""
        return tuple(size for group in self._layers() for size in group.n_codes)

    @property
    def codebook(self) -> Tensor:
        """Codes (G, K, d) that are zero outside their group, or (K, d) of a single group."""
        tables = [cast(Tensor, group.codebook) for group in self._layers()]
        if len(tables) == 1:
            return tables[0]
        padded = tables[0].new_zeros(len(tables), len(tables[0]), self.dim)
        for i, table in enumerate(tables):
            padded[i, :, self._coordinates(i)] = table
        return padded

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (..., G): the groups' vectors side by side."""
        of_groups = codes.unbind(-1) if len(self.groups) > 1 else (codes,)
        return torch.cat(
            [group.lookup(c) for group, c in zip(self._layers(), of_groups, strict=True)], dim=-1
        )

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z (..., d)``; ``loss`` is the sum of the groups' losses."""
        checked_tokens("ProductVQ", z, self.dim)
        parts: list[Quantized] = [
            group(part) for group, part in zip(self._layers(), z.split(self.width, dim=-1), strict=True)
        ]
        z_q = torch.cat([part.z_q for part in parts], dim=-1)
        codes = torch.stack([part.codes for part in parts], dim=-1)
        loss = torch.stack([part.loss for part in parts]).sum()
        return Quantized(z_q, codes if len(parts) > 1 else codes[..., 0], loss, mean_stats(parts))

    def start_from(self, codebook: Codebook) -> None:
        """Take the codebooks of a fitted product quantizer, (G, K, d) that are zero outside their group.

        Raises ``InputError`` if there are not as many, one is not its group's in shape, or is not zero
        outside it.
        """
        books = levels_of(codebook)
        if len(books) != len(self.groups):
            raise InputError(
                f"ProductVQ: the codebook to start from has {len(books)} levels; expected "
                f"{len(self.groups)}, n_groups of this layer"
            )
        for i, (size, book) in enumerate(zip(self.n_codes, books, strict=True)):
            check_table(f"ProductVQ group {i}", book, size, self.dim)
            outside = book.clone()
            outside[:, self._coordinates(i)] = 0
            if bool(outside.any()):
                raise InputError(
                    f"ProductVQ group {i}: the codebook to start from has {int((outside != 0).sum())} "
                    f"numbers outside coordinates {i * self.width} to {(i + 1) * self.width - 1}; expected "
                    "zeros there"
                )
        for i, (group, book) in enumerate(zip(self._layers(), books, strict=True)):
            group.start_from(book[:, self._coordinates(i)])

    @property
    def learns_by_output(self) -> bool:
        """Whether a group does."""
        return any(group.learns_by_output for group in self._layers())

    @property
    def awaits_start(self) -> bool:
        """Whether a group does."""
        return any(group.awaits_start for group in self._layers())

    def start_on(self, flat: Tensor) -> None:
        """Start every group on its coordinates of vectors (n, d)."""
        for group, part in zip(self._layers(), flat.split(self.width, dim=1), strict=True):
            group.start_on(part)

    def _coordinates(self, group: int) -> slice:
        return slice(group * self.width, (group + 1) * self.width)

    def _layers(self) -> list[QuantizerLayer]:
        return cast(list[QuantizerLayer], list(self.groups))
