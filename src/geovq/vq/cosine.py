"""Vector quantization by direction: unit codes, unit vectors, and a narrow space to compare them in.

Yu et al., "Vector-quantized Image Modeling with Improved VQGAN" (2021), section 3.2: factorized codes and
l2-normalized codes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from geovq.errors import InputError
from geovq.seeding import seeded_weights
from geovq.vq.distributed import summed
from geovq.vq.ema import EMAVQ
from geovq.vq.estimators import SMALLEST_NORM, straight_through
from geovq.vq.layer import Codebook, QuantizerLayer, check_codes, checked_tokens, one_level
from geovq.vq.quantized import Quantized


class CosineVQ(QuantizerLayer):
    """The code of largest cosine with ``z``; ``z_q`` is that code: of length 1, or projected back to d.

    ``z`` goes through the projection to ``code_dim``, if there is one, and is divided by its length; a vector
    of no length stays as it is, its gradient the identity. Commitment loss, watched statistics and start are
    those of these unit vectors. The gradient passes straight through from code to unit vector and then,
    exactly, through division and projections.

    The codes are normalised moving averages of the unit vectors assigned to them, the update of spherical
    k-means (Dhillon & Modha 2001): it ends at the largest mean cosine of a cell, needs no learning rate, and
    leaves no optimizer moments behind in a revived code, as a gradient would.

    Parameters
    ----------
    dim : vector length d.
    n_codes : codebook size K.
    code_dim : width in which vectors and codes are compared, between two learnt affine projections; None
        compares in d dimensions without projections.
    commitment, decay, revival, entropy, start, seed : as ``CodebookLayer``'s, in the space of the codes.
    """

    def __init__(
        self,
        dim: int,
        n_codes: int,
        *,
        code_dim: int | None = None,
        commitment: float = 0.25,
        decay: float = 0.99,
        revival: float = 0.03,
        entropy: float = 0.0,
        start: Literal["kmeans", "random"] = "kmeans",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if dim < 1 or (code_dim is not None and code_dim < 1):
            raise InputError(f"CosineVQ: dim is {dim} and code_dim {code_dim}; expected at least 1")
        self.dim = dim
        self.unit_codes = UnitCodes(
            code_dim or dim,
            n_codes,
            commitment=commitment,
            decay=decay,
            revival=revival,
            entropy=entropy,
            start=start,
            seed=seed,
        )
        self.narrow: nn.Module = nn.Identity()
        self.widen: nn.Module = nn.Identity()
        if code_dim is not None:
            with seeded_weights(seed, "CosineVQ projections"):
                self.narrow, self.widen = nn.Linear(dim, code_dim), nn.Linear(code_dim, dim)

    @property
    def n_codes(self) -> tuple[int, ...]:
        """``(K,)``."""
        return self.unit_codes.n_codes

    @property
    def codebook(self) -> Tensor:
        """Codes (K, d): of length 1, or projected back from it."""
        with torch.autocast(self.unit_codes.codebook.device.type, enabled=False):
            widened: Tensor = self.widen(self.unit_codes.codebook)
        return widened

    @property
    def learns_by_output(self) -> bool:
        """Whether there is a projection back to d, which nothing else teaches."""
        return isinstance(self.widen, nn.Linear)

    @property
    def awaits_start(self) -> bool:
        """Whether k-means of the first training batch is still to come."""
        return self.unit_codes.awaits_start

    def start_on(self, flat: Tensor) -> None:
        """Let the codes be the k-means centres of the directions of vectors (n, d)."""
        self.unit_codes.start_on(unit_vectors(self.narrow(flat)))

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (...). Raises ``InputError`` if a code is negative or not below K."""
        check_codes("CosineVQ", codes, self.n_codes[0])
        return self.codebook[codes]

    def start_from(self, codebook: Codebook) -> None:
        """Take the directions of vectors (K, d), projected to ``code_dim`` if there is one, as the codes.

        A vector of no length leaves its code as it was. Raises ``InputError`` if there are more levels than
        one, or they are not (K, d) of this layer.
        """
        vectors = one_level("CosineVQ", codebook, self.n_codes[0], self.dim)
        self.unit_codes.start_from(self.narrow(vectors.to(self.unit_codes.codebook)))

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z (..., d)``; in training mode the codes start, move and revive dead ones.

        Raises ``InputError`` if ``z`` is empty, has another width or is not finite.
        """
        flat = checked_tokens("CosineVQ", z, self.dim)
        with torch.autocast(z.device.type, enabled=False):
            part: Quantized = self.unit_codes(unit_vectors(self.narrow(flat)))
            z_q = self.widen(part.z_q)
            if not self.training:
                # A product of other rows may round otherwise.
                z_q = straight_through(z_q, self.lookup(part.codes))
        return Quantized(z_q.reshape(z.shape), part.codes.reshape(z.shape[:-1]), part.loss, part.stats)


class UnitCodes(EMAVQ):
    """``EMAVQ`` of unit vectors, its codes kept at length 1; for these the nearest has the largest cosine."""

    @property
    def _name(self) -> str:
        return "CosineVQ"

    def _make_table(self, vectors: Tensor) -> None:
        super()._make_table(vectors)
        self._overwrite(torch.ones(len(vectors), dtype=torch.bool), vectors)

    def _move(self, flat: Tensor, codes: Tensor, to_relative: float) -> None:
        batch_sums = summed(torch.zeros_like(self.sums).index_add_(0, codes, flat))
        self.sums.lerp_(batch_sums * to_relative, 1 - self.decay)
        self._point(torch.ones_like(self.usage, dtype=torch.bool), self.sums)

    def _overwrite(self, rows: Tensor, vectors: Tensor) -> None:
        self._point(rows, vectors)
        self.sums[rows] = self.codebook[rows]

    def _point(self, rows: Tensor, vectors: Tensor) -> None:
        """Turn codes towards vectors; one of no length has no direction, and its code stays."""
        lengths = vectors.norm(dim=1, keepdim=True)
        directions = vectors / lengths.clamp_min(SMALLEST_NORM)
        self.codebook[rows] = torch.where(lengths > SMALLEST_NORM, directions, self.codebook[rows])


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors (n, d) over their lengths; one of no length as it is, so that its gradient stays finite."""
    lengths = vectors.norm(dim=-1, keepdim=True)
    return vectors / torch.where(lengths > SMALLEST_NORM, lengths, 1.0)
