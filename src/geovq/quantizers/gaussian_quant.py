"""Gaussian Quant: a codebook of random normal vectors, never learnt."""

from __future__ import annotations

from math import ceil, log2
from numbers import Real
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc

from geovq.errors import InputError
from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.gaussian_kl import gaussian_kl
from geovq.search import lowest_scores, nearest_codes
from geovq.search.nearest import as_floats, power_of_two_near
from geovq.seeding import numpy_generator

SOBOL_BITS = 30  # of every number of the sequence


class GaussianQuant(Quantizer):
    """Codes for the latents of a VAE with the prior N(0, I): K draws from that prior.

    A posterior N(mu, diag(sigma^2)) gets the code c with the highest
    ``log N(c; mu, sigma^2) - beta log N(c; 0, I)``. Errors stay within sigma, which is as exactly as the VAE
    asks for, once ``log2 K`` exceeds the posterior's divergence from the prior in bits (``kl_bits_``); below
    that they do not, and the VAE has to be trained for the rate, or cut into tokens of fewer bits.

    ``fit`` takes only the shape and dtype of X. Without sigma a point gets the nearest code, which is the
    limit of equal sigmas going to 0.

    Parameters
    ----------
    n_codes : K
    beta : weight of the prior's density, at least 0; 0 is the precision-weighted distance
        ``sum (mu - c)^2 / sigma^2``
    random_state : seed, or ``np.random.RandomState``, of the codebook

    Attributes
    ----------
    codebook_ : (K, d), points of a scrambled Sobol sequence through the normal quantile, which fill space
        more evenly than independent ones; independent ones in more than 21,201 dimensions
    kl_bits_ : mean KL(N(mu, sigma^2) || N(0, I)) of the fitted points in bits, to be compared with log2 K
        (with sigma alone)

    Source: Xu et al., "Vector Quantization using Gaussian Variational Autoencoder", arXiv 2512.06609; beta
    and the Sobol points as in its published code.
    """

    codebook_: np.ndarray
    kl_bits_: float

    def __init__(self, n_codes: int = 8, beta: float = 1.0, random_state: Any = None) -> None:
        self.n_codes = n_codes
        self.beta = beta
        self.random_state = random_state

    @property
    def takes_sigma(self) -> bool:
        """Sigma says how exactly each coordinate has to be coded."""
        return True

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        if not isinstance(self.beta, Real) or isinstance(self.beta, bool) or not 0 <= self.beta < np.inf:
            raise InputError(f"beta is {self.beta!r}; expected a number of at least 0")
        self.codebook_ = normal_codebook(self.n_codes, points.shape[1], seed).astype(points.dtype)
        if sigma is not None:
            prior = np.zeros_like(points), np.ones_like(points)
            self.kl_bits_ = float(gaussian_kl(points, sigma, *prior).mean() / np.log(2))

    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        codebook = as_tensor(self.codebook_).to(points.device)
        if sigma is None:
            return nearest_codes(points, codebook)
        points, codebook = as_floats(points, codebook)
        sigma = sigma.to(points.dtype)
        # The log ratio is const + [mu / sigma^2, 1 / sigma^2 - beta].[c, -c^2 / 2]; in units of the smallest
        # sigma, because float32 has not the squares of very small ones.
        unit = power_of_two_near(sigma.amin(1).clamp(max=1))[:, None]
        precisions = (sigma / unit) ** -2
        queries = torch.cat([points * precisions, precisions - self.beta * unit**2], dim=1)
        return lowest_scores(queries, torch.cat([codebook, codebook.square() / -2], dim=1))


def normal_codebook(n_codes: int, d: int, seed: int) -> np.ndarray:
    """Standard normal vectors, float64 (n_codes, d), of low discrepancy up to 21,201 dimensions."""
    generator = numpy_generator(seed, "codebook")
    if d > qmc.Sobol.MAXDIM:
        return generator.standard_normal((n_codes, d))
    sequence = qmc.Sobol(d, scramble=True, bits=SOBOL_BITS, rng=generator)
    uniform = sequence.random_base2(ceil(log2(n_codes)))[:n_codes]
    # The numbers are k / 2^30 from 0 on, whose quantile is minus infinity: the middles of their steps.
    return ndtri(uniform + 0.5 ** (SOBOL_BITS + 1))
