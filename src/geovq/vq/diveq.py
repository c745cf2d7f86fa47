"""Vector quantization as the addition of an error vector, so that its gradient is that of a sum.

Vali, Baeckstroem & Solin, "DiVeQ: Differentiable Vector Quantization Using the Reparameterization Trick"
(2025), section 3.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from geovq.errors import InputError
from geovq.vq.codebook_layer import CodebookLayer
from geovq.vq.distributed import generator_of_rank
from geovq.vq.estimators import straight_through


class DiVeQ(CodebookLayer):
    """``z_q = z + |e - z| sg(v / |v|)`` with ``v = (e - z) + sigma n``: no auxiliary loss, ``loss`` is 0.

    The gradient of the model's own loss reaches vectors and codes through the length ``|e - z|``. In training
    mode ``z_q`` lies as far from ``z`` as the code does, but in a direction jittered by ``sigma``: close to
    the code, not equal to it. In eval mode it is the code exactly, with the gradient of ``sigma = 0``.

    Parameters
    ----------
    dim : vector length d.
    n_codes : codebook size K.
    sigma : standard deviation of the jitter in the units of ``z``; 0.01 as the authors draw it.
    decay, revival : of the codes' use and its lower limit, as ``CodebookLayer``'s.
    start : ``kmeans`` of the first training batch, or ``random`` normal vectors.
    seed : of the start, the revivals and the jitter, which is keyed by the training step besides.
    """

    def __init__(
        self,
        dim: int,
        n_codes: int,
        *,
        sigma: float = 0.01,
        decay: float = 0.99,
        revival: float = 0.03,
        start: Literal["kmeans", "random"] = "kmeans",
        seed: int = 0,
    ) -> None:
        super().__init__(
            dim, n_codes, commitment=0.0, decay=decay, revival=revival, entropy=0.0, start=start, seed=seed
        )
        if not 0 <= sigma < float("inf"):
            raise InputError(f"DiVeQ: sigma is {sigma}; expected a standard deviation of at least 0")
        self.sigma = sigma

    @property
    def learns_by_output(self) -> bool:
        """True."""
        return True

    def _estimate(self, flat: Tensor, quantized: Tensor) -> Tensor:
        if not self.training:
            return straight_through(displaced(flat, quantized, torch.zeros_like(flat)), quantized)
        generator = generator_of_rank(self.seed, "DiVeQ jitter", int(self.n_updates), flat.device)
        noise = torch.randn(flat.shape, generator=generator, device=flat.device)
        return displaced(flat, quantized, self.sigma * noise)

    def _loss(self, flat: Tensor, quantized: Tensor) -> Tensor:
        return flat.new_zeros(())

    def _make_table(self, vectors: Tensor) -> None:
        self.codebook = nn.Parameter(vectors)

    def _overwrite(self, rows: Tensor, vectors: Tensor) -> None:
        self.codebook[rows] = vectors


def displaced(z: Tensor, quantized: Tensor, jitter: Tensor) -> Tensor:
    """``z (n, d)`` moved by ``|quantized - z|`` along ``quantized - z + jitter``, which is held constant."""
    error = quantized - z
    direction = (error + jitter).detach()
    length = direction.norm(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    return z + error.norm(dim=1, keepdim=True) * (direction / length)
