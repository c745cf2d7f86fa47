"""A linear map of the latent in which Euclidean distance is, on average, the change of the decoded image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from geovq.errors import InputError
from geovq.geometry import mean_metric
from geovq.geometry.decoder_calls import Decoder
from geovq.geometry.decoder_metric import MeanOver
from geovq.models.cut import token_dim

LEAST_VARIANCE = 1e-3  # of a principal axis that counts, as a share of the largest


class LatentMap(nn.Module):
    """An invertible linear map z -> A z of latents, applied before they are cut and undone after lookup.

    Everything is a buffer, computed in float64 and kept in float32.

    Parameters
    ----------
    matrix : A. (D, D) maps flat latents (N, D), and every site of latent maps (N, D, h, w) alike; (h w, D, D)
        has a matrix for each site, in row order.
    eigenvalues : (D,) or (h w, D), ascending: of the metric that the map was made from, before their floor,
        in the scale of A'A; by default those of A'A itself.

    Attributes
    ----------
    matrix, inverse : float32, in the shape of ``matrix``
    eigenvalues : float32

    Raises
    ------
    InputError
        If the matrix has another shape, is not finite or has no inverse.
    """

    matrix: Tensor
    inverse: Tensor
    eigenvalues: Tensor

    def __init__(self, matrix: np.ndarray | Tensor, eigenvalues: np.ndarray | Tensor | None = None) -> None:
        super().__init__()
        wide = torch.as_tensor(matrix).detach().double()
        if wide.ndim not in (2, 3) or wide.shape[-1] != wide.shape[-2] or wide.numel() == 0:
            raise InputError(
                f"the matrix of a latent map has shape {tuple(wide.shape)}; expected (D, D) or (sites, D, D)"
            )
        if not bool(wide.isfinite().all()):
            raise InputError("the matrix of a latent map has NaN or infinity; expected finite numbers")
        inverse, singular = torch.linalg.inv_ex(wide)
        if bool(singular.any()) or not bool(inverse.float().isfinite().all()):
            raise InputError("the matrix of a latent map has no inverse; expected linearly independent rows")
        if eigenvalues is None:
            eigenvalues = torch.linalg.svdvals(wide).square().flip(-1)
        self.register_buffer("matrix", wide.float())
        self.register_buffer("inverse", inverse.float())
        self.register_buffer("eigenvalues", torch.as_tensor(eigenvalues).float())

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """The map whose ``state_dict()`` this was, bit for bit."""
        loaded = cls(state["matrix"])
        loaded.load_state_dict(dict(state))
        return loaded

    def forward(self, latents: Tensor) -> Tensor:
        """A z of latents (N, *latent_shape). Raises ``InputError`` if the map is not one of such latents."""
        return self._applied(self.matrix, latents)

    def undo(self, latents: Tensor) -> Tensor:
        """z of mapped latents A z (N, *latent_shape)."""
        return self._applied(self.inverse, latents)

    def sigma(self, sigma: Tensor) -> Tensor:
        """Standard deviations of A z where z has independent ``sigma (N, *latent_shape)``.

        sqrt(diag(A diag(sigma^2) A')): correlations that the map brings in are left out.
        """
        return self._applied(self.matrix.square(), sigma.square()).sqrt()

    def _applied(self, matrix: Tensor, latents: Tensor) -> Tensor:
        sites = latents.shape[2:].numel()
        if (
            latents.ndim not in (2, 4)
            or latents.shape[1] != matrix.shape[-1]
            or (matrix.ndim == 3 and (latents.ndim == 2 or sites != len(matrix)))
        ):
            raise InputError(
                f"latents have shape {tuple(latents.shape)}, but the latent map has matrices "
                f"{tuple(matrix.shape)}; expected the latents that it was made for"
            )
        matrix = matrix.to(latents.dtype)
        if latents.ndim == 2:
            return latents @ matrix.T
        by_site = latents.flatten(2).permute(2, 0, 1) @ matrix.mT
        return by_site.permute(1, 2, 0).reshape(latents.shape)


def mean_pullback_map(
    decoder: Decoder,
    latents: np.ndarray | Tensor,
    *,
    per: MeanOver = "whole",
    tokens: tuple[int, int] = (1, 1),
    floor: float = 1e-2,
    seed: int = 0,
) -> LatentMap:
    """A square root of E[J'J], the pull-back metric of ``decoder`` averaged over ``latents``.

    Squared Euclidean distances of mapped latents are the expected squared change of the image, to first
    order and up to one factor: the eigenvalues of A'A have mean 1, so that mapped latents keep their size.
    Directions that the decoder ignores have eigenvalues near 0; raised to ``floor`` times the largest (of all
    sites), the map is invertible and no direction is stretched more than 1 / sqrt(floor) times another.

    The root is symmetric, but for flat latents that are cut into chunks. Those are also rotated, which leaves
    distances alone: a chunk has as many bits as any other, so all get uncorrelated coordinates of nearly
    equal product of variances. Without it, chunks of mapped latents can be worse than chunks of plain ones.

    Parameters
    ----------
    decoder, latents, per, seed : see ``geovq.geometry.mean_metric``; about 1,000 latents are enough.
    tokens : grid (height, width) that the latents will be cut into
    floor : least eigenvalue, as a share of the largest, in (0, 1]

    Raises
    ------
    InputError
        As ``mean_metric``; if flat latents cannot be cut so, ``floor`` is outside (0, 1] or the metric is 0.

    Source: the rotation is that of parametric optimized product quantization, Ge, He, Ke and Sun, "Optimized
    Product Quantization", TPAMI 2014.
    """
    if not 0 < floor <= 1:
        raise InputError(f"floor is {floor}; expected a share of the largest eigenvalue, above 0 and up to 1")
    if per == "whole" and latents.ndim == 2:
        token_dim(latents.shape[1:], tokens)  # refuses a cut that does not come out even
    eigenvalues, vectors = np.linalg.eigh(mean_metric(decoder, latents, per, seed))
    largest = eigenvalues.max()
    if not largest > 0:
        raise InputError(
            f"the mean metric of {len(latents)} latents is 0; expected images that depend on the latents; "
            "check the decoder's weights and that these are its latents"
        )
    raised = np.maximum(eigenvalues, floor * largest)
    scale = raised.mean()
    matrix = (vectors * np.sqrt(raised / scale)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    n_chunks = tokens[0] * tokens[1]
    if per == "whole" and n_chunks > 1:
        flat = torch.as_tensor(latents).detach().cpu().double().numpy()
        matrix = _balancing_rotation(flat @ matrix.T, n_chunks) @ matrix
    return LatentMap(matrix, eigenvalues / scale)


def _balancing_rotation(points: np.ndarray, n_chunks: int) -> np.ndarray:
    """Principal axes of ``points (n, D)``, (D, D), shared out so that chunks have like products of variances.

    From the largest on, each goes to the chunk with the least product that still has room.
    """
    dim = points.shape[1]
    away = points - points.mean(0)
    variances, axes = np.linalg.eigh(away.T @ away)
    # Least variances are rounding, or what a collapsed dimension leaves: they are worth no bits.
    shares = np.maximum(variances[::-1] / max(variances[-1], np.finfo(float).tiny), LEAST_VARIANCE)
    chunks: list[list[int]] = [[] for _ in range(n_chunks)]
    logs = np.zeros(n_chunks)
    for axis, share in enumerate(shares):
        chunk = min((c for c in range(n_chunks) if len(chunks[c]) < dim // n_chunks), key=lambda c: logs[c])
        chunks[chunk].append(axis)
        logs[chunk] += np.log(share / LEAST_VARIANCE)
    return np.asarray(axes[:, ::-1].T[np.concatenate(chunks)])
