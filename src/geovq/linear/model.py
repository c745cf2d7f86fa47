"""The linear vector-quantized autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.search import nearest_codes


@dataclass(frozen=True, eq=False)
class LinearVQVAE:
    """An encoder ``z = W x``, a codebook E and the decoder ``x^ = W' q`` that is the encoder's transpose.

    There is no mean anywhere: the data are taken as they are. With orthonormal rows of W the squared error of
    a point splits into the part outside the subspace and the distortion within, ``|x - W'q|^2 =
    |x|^2 - |Wx|^2 + |Wx - q|^2``, so the code nearest to ``z`` is the one that decodes best.

    Parameters
    ----------
    W : float64 (m, D)
    E : float64 (K, m)

    Raises
    ------
    InputError
        If W and E are not matrices of one m.
    """

    W: Tensor
    E: Tensor

    def __post_init__(self) -> None:
        if self.W.ndim != 2 or self.E.ndim != 2 or self.W.shape[0] != self.E.shape[1]:
            raise InputError(
                f"W has shape {tuple(self.W.shape)} and E {tuple(self.E.shape)}; expected (m, D) and (K, m) "
                "with the same m"
            )

    @property
    def orthonormality_error(self) -> float:
        """The largest entry of ``|W W' - I|``."""
        identity = torch.eye(len(self.W), dtype=self.W.dtype)
        return float((self.W @ self.W.T - identity).abs().max())

    def encode(self, X: Tensor) -> Tensor:
        """Latents ``X W'`` (n, m) of points (n, D)."""
        return X @ self.W.T

    def codes(self, X: Tensor) -> Tensor:
        """Index of the code nearest to each point's latent, int64 (n,); ties to the lowest."""
        return nearest_codes(self.encode(X), self.E)

    def quantize(self, z: Tensor) -> Tensor:
        """The code vectors (n, m) nearest to latents (n, m)."""
        return self.E[nearest_codes(z, self.E)]

    def decode(self, q: Tensor) -> Tensor:
        """Points ``q W`` (n, D) of latents or code vectors (n, m)."""
        return q @ self.W

    def reconstruct(self, X: Tensor) -> Tensor:
        """Points (n, D) encoded, quantized and decoded."""
        return self.decode(self.quantize(self.encode(X)))
