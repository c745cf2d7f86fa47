"""Vector quantization whose codes move together: a frozen codebook under one learnt linear map.

Zhu et al., "Addressing Representation Collapse in Vector Quantized Models with One Linear Layer" (2024),
section 4: ``e_k = W c_k`` with ``c_k ~ N(0, I / d)`` frozen.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from geovq.vq.codebook_layer import CodebookLayer
from geovq.vq.estimators import mean_squared_distance


class SimVQ(CodebookLayer):
    """Codes ``C W'`` of which only W is trained, by codebook and commitment loss; straight-through gradient.

    The gradient of any chosen code moves W and with it every code, so none is left behind and none is
    revived. C takes the place of its random draw with ``start_from`` or a k-means start; W is the identity at
    every start, since with a random C another W is but another draw.

    Parameters
    ----------
    dim : vector length d.
    n_codes : codebook size K.
    commitment : weight of ``|z - sg(e)|^2``, which acts on the encoder alone.
    entropy : weight of the entropy penalty in nats (``geovq.vq.entropy``).
    start : ``random``, the paper's, or C as ``kmeans`` centres of the first training batch, which keeps for
        good the shape of that batch: for encoders that are trained already.
    seed : of the start.
    """

    frozen: Tensor

    def __init__(
        self,
        dim: int,
        n_codes: int,
        *,
        commitment: float = 0.25,
        entropy: float = 0.0,
        start: Literal["kmeans", "random"] = "random",
        seed: int = 0,
    ) -> None:
        super().__init__(
            dim,
            n_codes,
            commitment=commitment,
            decay=0.99,
            revival=0.0,
            entropy=entropy,
            start=start,
            seed=seed,
        )

    @property
    def codebook(self) -> Tensor:  # type: ignore[override]  # computed here, a tensor elsewhere
        """Codes (K, d), ``C W'``, in the graph of W."""
        with torch.autocast(self.frozen.device.type, enabled=False):
            return self.frozen @ self.transform.T

    def _make_table(self, vectors: Tensor) -> None:
        self.register_buffer("frozen", vectors / self.dim**0.5)
        self.transform = nn.Parameter(torch.eye(self.dim))

    def _loss(self, flat: Tensor, quantized: Tensor) -> Tensor:
        return super()._loss(flat, quantized) + mean_squared_distance(flat.detach(), quantized)

    def _overwrite(self, rows: Tensor, vectors: Tensor) -> None:
        self.frozen[rows] = vectors
        self.transform.copy_(torch.eye(self.dim))
