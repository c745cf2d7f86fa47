"""Vector quantization by sampling: codes drawn with probabilities that fall with distance.

Jang, Gu & Poole, "Categorical Reparameterization with Gumbel-Softmax" (2017), sections 2.1-2.2; logits by
distance to a codebook: Sonderby, Poole & Mnih, "Continuous Relaxation Training of Discrete Latent Variable
Image Models" (2017); the annealed temperature and the divergence from uniform codes: Ramesh et al.,
"Zero-Shot Text-to-Image Generation" (2021), section 2.1.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from geovq.errors import InputError
from geovq.search import nearest_codes
from geovq.vq.codebook_layer import CodebookLayer
from geovq.vq.distributed import generator_of_rank


class GumbelVQ(CodebookLayer):
    """Training draws codes from ``softmax(l)``, ``l_k = -|z - e_k|^2 / (t s)``; eval mode takes the nearest.

    ``s`` is the batch's mean squared distance to the nearest code, held constant, so that the temperature
    ``t`` means the same at any scale of the latents, and of any codebook to start from. ``t`` falls
    geometrically from ``temperature`` to ``final_temperature`` over the first ``n_annealed`` training steps
    and stays there; as it falls, draws and their relaxation close in on the nearest code together.

    ``z_q`` is the drawn code exactly. Its gradient reaches that code directly, and vectors and codes through
    the relaxed weights ``softmax(l + Gumbel noise)`` of all codes (straight-through Gumbel-softmax).
    ``loss`` is ``commitment |z - sg(e)|^2 + kl KL(softmax(l) || uniform)``, the latter in nats.

    Time and memory go with n K: logits, noise and weights are arrays (n, K), of which backward keeps some
    four.

    Parameters
    ----------
    dim : vector length d.
    n_codes : codebook size K.
    commitment : weight of ``|z - sg(e)|^2``, which acts on the encoder alone.
    temperature, final_temperature : t at the first training step, and from step ``n_annealed`` on.
    n_annealed : training steps over which the temperature falls.
    kl : weight of the divergence from uniform codes.
    decay, revival : of the codes' use and its lower limit, as ``CodebookLayer``'s.
    start : ``kmeans`` of the first training batch, or ``random`` normal vectors.
    seed : of the start, the revivals and the noise, which is keyed by the training step besides.
    """

    def __init__(
        self,
        dim: int,
        n_codes: int,
        *,
        commitment: float = 0.25,
        temperature: float = 1.0,
        final_temperature: float = 0.1,
        n_annealed: int = 2000,
        kl: float = 5e-4,
        decay: float = 0.99,
        revival: float = 0.03,
        start: Literal["kmeans", "random"] = "kmeans",
        seed: int = 0,
    ) -> None:
        super().__init__(
            dim,
            n_codes,
            commitment=commitment,
            decay=decay,
            revival=revival,
            entropy=0.0,
            start=start,
            seed=seed,
        )
        if not 0 < final_temperature <= temperature < math.inf:
            raise InputError(
                f"GumbelVQ: temperature is {temperature} and final_temperature {final_temperature}; expected "
                "both above 0 and the final one not the higher"
            )
        if n_annealed < 1 or not kl >= 0:
            raise InputError(
                f"GumbelVQ: n_annealed is {n_annealed} and kl {kl}; expected at least 1 step and a weight of "
                "at least 0"
            )
        self.temperature, self.final_temperature = temperature, final_temperature
        self.n_annealed, self.kl = n_annealed, kl

    @property
    def learns_by_output(self) -> bool:
        """True."""
        return True

    @property
    def current_temperature(self) -> float:
        """The temperature of the next training step."""
        progress = min(1.0, int(self.n_updates) / self.n_annealed)
        ratio: float = (self.final_temperature / self.temperature) ** progress
        return self.temperature * ratio

    def _quantize(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = distance_logits(flat, self.codebook, self.current_temperature)
        loss = self.kl * divergence_from_uniform(logits)
        if self.training:
            logits = logits + self._noise(logits)
            codes = logits.detach().argmax(1)
        else:
            codes = nearest_codes(flat, self.codebook)
        quantized = self.codebook[codes]
        loss = loss + self._loss(flat, quantized)
        return codes, relaxed(logits, self.codebook, quantized), loss

    def _noise(self, logits: Tensor) -> Tensor:
        """Standard Gumbel noise (n, K)."""
        generator = generator_of_rank(self.seed, "Gumbel noise", int(self.n_updates), logits.device)
        waiting = torch.empty_like(logits).exponential_(generator=generator)
        return -waiting.clamp_min(torch.finfo(waiting.dtype).tiny).log()

    def _make_table(self, vectors: Tensor) -> None:
        self.codebook = nn.Parameter(vectors)

    def _overwrite(self, rows: Tensor, vectors: Tensor) -> None:
        self.codebook[rows] = vectors


def distance_logits(flat: Tensor, codebook: Tensor, temperature: float) -> Tensor:
    """``-|z - e_k|^2 / (t s)`` (n, K), ``s`` the mean over vectors of the least, held constant."""
    # Differences alone matter; far from the origin the squares would swallow them.
    centre = codebook.detach().mean(0)
    flat, codebook = flat - centre, codebook - centre
    squares = flat.square().sum(1, keepdim=True) - 2 * flat @ codebook.T + codebook.square().sum(1)
    unit = squares.detach().amin(1).clamp_min(0).mean().clamp_min(torch.finfo(flat.dtype).eps)
    return -squares / (temperature * unit)


def relaxed(logits: Tensor, codebook: Tensor, quantized: Tensor) -> Tensor:
    """``quantized (n, d)`` in value, its own gradient and that of ``softmax(logits) @ sg(codebook)``."""
    # A copy: a revival may overwrite codes before the gradient needs them.
    mixture = logits.softmax(1) @ codebook.detach().clone()
    return quantized + (mixture - mixture.detach())


def divergence_from_uniform(logits: Tensor) -> Tensor:
    """``KL(softmax(logits) || uniform)`` in nats, averaged over vectors (n, K): ``ln K`` less entropy."""
    log_p = logits.log_softmax(1)
    return (log_p.exp() * log_p).sum(1).mean() + math.log(logits.shape[1])
