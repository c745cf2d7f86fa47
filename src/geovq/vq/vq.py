"""Vector quantization as first published: a codebook learnt by its own loss, a straight-through gradient.

van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017), equation 3:
``L = ... + |sg(z) - e|^2 + beta |z - sg(e)|^2``.
"""

from __future__ import annotations

from torch import Tensor, nn

from geovq.vq.codebook_layer import CodebookLayer
from geovq.vq.estimators import mean_squared_distance


class StraightThroughVQ(CodebookLayer):
    """Codebook loss, commitment loss, straight-through gradient; parameters as ``CodebookLayer``'s.

    The codebook is a parameter and moves with the model's optimizer. A revived code keeps its optimizer
    moments, which the layer cannot see.
    """

    def _make_table(self, vectors: Tensor) -> None:
        self.codebook = nn.Parameter(vectors)

    def _loss(self, flat: Tensor, quantized: Tensor) -> Tensor:
        return super()._loss(flat, quantized) + mean_squared_distance(flat.detach(), quantized)

    def _overwrite(self, rows: Tensor, vectors: Tensor) -> None:
        self.codebook[rows] = vectors
