"""Which slots draw from the same alphabet: those of one level of one grid."""

from __future__ import annotations

from dataclasses import dataclass

from geovq.tokenizer.layout import CodeLayout


@dataclass(frozen=True)
class Alphabet:
    """The codes ``0..n_codes - 1`` of one level of one grid, and the slots that hold them."""

    n_codes: int
    slots: slice


def layout_alphabets(layout: CodeLayout) -> tuple[Alphabet, ...]:
    """The alphabets of a layout, grid by grid, level by level; every slot belongs to exactly one."""
    found, start = [], 0
    for grid in layout.grids:
        end, depth = start + grid.n_slots, len(grid.n_codes)
        found += [Alphabet(k, slice(start + level, end, depth)) for level, k in enumerate(grid.n_codes)]
        start = end
    return tuple(found)
