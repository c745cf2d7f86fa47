"""How an image's codes are arranged: grids, alphabets, and the order in which a prior reads them.

Eight chunks of a flat latent are one 2x4 grid with one alphabet; a residual code of a flat latent is a 1x1
grid with one alphabet a level; VQ-VAE-2 is two grids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geovq.errors import InputError


@dataclass(frozen=True)
class CodeGrid:
    """``height x width`` positions with one code a level; ``n_codes`` holds each level's alphabet size."""

    name: str
    height: int
    width: int
    n_codes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or not self.n_codes or min(self.n_codes) < 1:
            raise InputError(
                f"grid '{self.name}' is {self.height}x{self.width} with alphabets {self.n_codes}; "
                "expected at least one position, one level and one code"
            )

    @property
    def n_slots(self) -> int:
        """Codes an image in this grid."""
        return self.height * self.width * len(self.n_codes)


@dataclass(frozen=True)
class CodeLayout:
    """The codes of an image: slots run grid by grid, row by row, level innermost."""

    grids: tuple[CodeGrid, ...]

    @property
    def n_slots(self) -> int:
        """Codes an image, S."""
        return sum(grid.n_slots for grid in self.grids)

    @property
    def slot_alphabets(self) -> tuple[int, ...]:
        """Alphabet size of every slot, in slot order, (S,)."""
        return tuple(k for g in self.grids for _ in range(g.height * g.width) for k in g.n_codes)

    @property
    def bits(self) -> float:
        """Nominal bits an image: the sum over slots of log2 of the slot's alphabet."""
        return sum(math.log2(k) for k in self.slot_alphabets)

    def split(self, codes: np.ndarray) -> list[np.ndarray]:
        """Codes (N, S) as one array (N, h, w, L) a grid."""
        self.validate(codes)
        ends = np.cumsum([grid.n_slots for grid in self.grids])
        parts = np.split(codes, ends[:-1], axis=1)
        return [
            part.reshape(len(codes), grid.height, grid.width, len(grid.n_codes))
            for part, grid in zip(parts, self.grids, strict=True)
        ]

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """One array (N, h, w, L) a grid as codes (N, S): the inverse of ``split``."""
        flat = [part.reshape(len(part), grid.n_slots) for part, grid in zip(parts, self.grids, strict=True)]
        codes = np.concatenate(flat, axis=1)
        self.validate(codes)
        return codes

    def validate(self, codes: np.ndarray) -> None:
        """Raise ``InputError`` unless ``codes`` are integers (N, S), each inside its slot's alphabet."""
        if codes.ndim != 2 or codes.shape[1] != self.n_slots:
            raise InputError(f"codes have shape {codes.shape}; expected (N, {self.n_slots})")
        if not np.issubdtype(codes.dtype, np.integer):
            raise InputError(f"codes are {codes.dtype}; expected integers")
        outside = (codes < 0) | (codes >= np.asarray(self.slot_alphabets))
        if outside.any():
            row, slot = np.argwhere(outside)[0]
            raise InputError(
                f"code {codes[row, slot]} of image {row}, slot {slot} is outside its alphabet "
                f"0..{self.slot_alphabets[slot] - 1}"
            )

    def to_json(self) -> list[dict[str, Any]]:
        """The layout as JSON values."""
        return [
            {"name": g.name, "height": g.height, "width": g.width, "n_codes": list(g.n_codes)}
            for g in self.grids
        ]

    @classmethod
    def from_json(cls, value: Sequence[dict[str, Any]]) -> CodeLayout:
        """The layout that ``to_json`` wrote."""
        return cls(tuple(CodeGrid(g["name"], g["height"], g["width"], tuple(g["n_codes"])) for g in value))
