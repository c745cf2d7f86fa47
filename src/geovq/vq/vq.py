"""Vector quantization as first published: a codebook learnt by its own loss, a straight-through gradient.

van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017), equation 3:
``L = ... + |sg(z) - e|^2 + beta |z - sg(e)|^2``.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from geovq.vq.codebook_layer import CodebookLayer, normal_start
from geovq.vq.estimators import mean_squared_distance


class StraightThroughVQ(CodebookLayer):
    """Codebook loss, commitment loss, straight-through gradient; parameters as ``CodebookLayer``'s.

    The codebook is a parameter and moves with the model's optimizer. A revived code keeps its optimizer
    moments, which the layer cannot see.
    """

    def __init__(
        self,
        dim: int,
        n_codes: int,
        *,
        commitment: float = 0.25,
        decay: float = 0.99,
        revival: float = 0.03,
        entropy: float = 0.0,
        start: Literal["kmeans", "random"] = "kmeans",
        seed: int = 0,
    ) -> None:
        super().__init__(
            dim,
            n_codes,
            commitment=commitment,
            decay=decay,
            revival=revival,
            entropy=entropy,
            start=start,
            seed=seed,
        )
        self.codebook = nn.Parameter(normal_start(n_codes, dim, seed))

    def _loss(self, flat: Tensor, quantized: Tensor) -> Tensor:
        return super()._loss(flat, quantized) + mean_squared_distance(flat.detach(), quantized)

    def _overwrite(self, rows: Tensor, vectors: Tensor) -> None:
        self.codebook[rows] = vectors
