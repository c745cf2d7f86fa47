"""How held-out images use a codebook."""

from __future__ import annotations

import numpy as np

from geovq.tokenizer.layout import CodeLayout


def usage_counts(layout: CodeLayout, codes: np.ndarray) -> np.ndarray:
    """Uses of every code, int64 (levels, K): one row for each level of each grid, its positions pooled.

    A row with a smaller alphabet is padded with -1.
    """
    widest = max(layout.slot_alphabets)
    rows = []
    for grid, part in zip(layout.grids, layout.split(codes), strict=True):
        for level, n_codes in enumerate(grid.n_codes):
            row = np.full(widest, -1, dtype=np.int64)
            row[:n_codes] = np.bincount(part[..., level].ravel(), minlength=n_codes)
            rows.append(row)
    return np.stack(rows)


def codebook_use(counts: np.ndarray) -> dict[str, float]:
    """Use of the codebooks whose ``usage_counts`` are given.

    ``utilization`` and ``dead_codes`` count over all codebooks together; ``perplexity`` and
    ``usage_entropy_bits`` are means over codebooks.
    """
    exists = counts >= 0
    used = counts > 0
    entropies = np.array([_entropy_bits(row[row > 0]) for row in counts])
    return {
        "utilization": float(used.sum() / exists.sum()),
        "dead_codes": float(exists.sum() - used.sum()),
        "perplexity": float(np.exp2(entropies).mean()),
        "usage_entropy_bits": float(entropies.mean()),
    }


def _entropy_bits(counts: np.ndarray) -> float:
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())
