"""Vector quantization whose codebook is a moving average of the vectors assigned to it.

van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017), equations 3 and 6-8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geovq.vq.codebook_layer import CodebookLayer
from geovq.vq.distributed import summed


class EMAVQ(CodebookLayer):
    """Codebook learnt by exponential moving averages, straight-through gradient, commitment loss.

    Each code keeps its relative use ``N`` (``usage``; 1 is average use) and the sum ``m`` (``sums``) of its
    vectors in the same unit; the code is ``m / N``. Both start at ``N = 1, m = e``, so that a code unused in
    the first step stays where it is; a revived code's start anew, or the old sums would pull it back at once.
    Parameters as ``CodebookLayer``'s.
    """

    codebook: Tensor
    sums: Tensor

    def _make_table(self, vectors: Tensor) -> None:
        self.register_buffer("codebook", vectors)
        self.register_buffer("sums", vectors.clone())

    def _move(self, flat: Tensor, codes: Tensor, to_relative: float) -> None:
        batch_sums = summed(torch.zeros_like(self.sums).index_add_(0, codes, flat))
        self.sums.lerp_(batch_sums * to_relative, 1 - self.decay)
        # Without revival an unused code decays towards 0/0; it keeps its place instead.
        alive = self.usage > 1e-8
        self.codebook[alive] = self.sums[alive] / self.usage[alive, None]

    def _overwrite(self, rows: Tensor, vectors: Tensor) -> None:
        self.codebook[rows] = vectors
        self.sums[rows] = vectors
