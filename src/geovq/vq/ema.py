"""Vector quantization whose codebook is a moving average of the vectors assigned to it.

van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017), equations 3 and 6-8;
k-means start and dead-code revival after Zeghidour et al., "SoundStream" (2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.search import kmeans, nearest_codes
from geovq.seeding import derive_seed, torch_generator
from geovq.vq.layer import QuantizerLayer
from geovq.vq.quantized import Quantized
from geovq.vq.straight_through import straight_through


class EMAVQ(QuantizerLayer):
    """Codebook learnt by exponential moving averages, straight-through gradient, commitment loss.

    Each code keeps its relative use ``N`` (1 is average use) and the sum ``m`` of its vectors in the same
    unit; the code is ``m / N``. Both start at ``N = 1, m = e``, so that a code unused in the first step stays
    where it is. A code whose ``N`` falls below ``revival`` is dead: it becomes a random vector of the batch
    and its ``N`` and ``m`` start anew, or the old sums would pull it back at once.

    Parameters
    ----------
    dim : vector length d.
    n_codes : codebook size K.
    decay : weight of the past in the moving averages.
    commitment : weight of ``|z - sg(e)|^2``, which acts on the encoder alone.
    revival : relative use below which a code is revived; 0 never revives.
    seed : of the k-means start and of the revivals.
    """

    codebook: Tensor
    usage: Tensor
    sums: Tensor
    n_updates: Tensor

    def __init__(
        self,
        dim: int,
        n_codes: int,
        *,
        decay: float = 0.99,
        commitment: float = 0.25,
        revival: float = 0.03,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if n_codes < 1 or dim < 1:
            raise InputError(f"EMAVQ: dim is {dim} and n_codes {n_codes}; expected both to be at least 1")
        if not 0 <= decay < 1:
            raise InputError(f"EMAVQ: decay is {decay}; expected at least 0 and below 1")
        if not 0 <= revival < 1:
            raise InputError(f"EMAVQ: revival is {revival}; expected at least 0 and below 1, average use")
        if not commitment >= 0:
            raise InputError(f"EMAVQ: commitment is {commitment}; expected at least 0")
        self.dim = dim
        self.decay, self.commitment, self.revival, self.seed = decay, commitment, revival, seed
        start = torch.randn(n_codes, dim, generator=torch_generator(seed, "EMAVQ start"))
        self.register_buffer("codebook", start)
        self.register_buffer("usage", torch.ones(n_codes))
        self.register_buffer("sums", start.clone())
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))

    @property
    def n_codes(self) -> tuple[int, ...]:
        """``(K,)``."""
        return (len(self.codebook),)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (...)."""
        return self.codebook[codes]

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z (..., d)``; in training mode then move the codebook towards its vectors."""
        if z.shape[-1] != self.dim:
            raise InputError(f"EMAVQ: z has shape {tuple(z.shape)}; expected (..., {self.dim})")
        # Distances and averages in half precision would flip codes and stall the averages.
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            flat = z.detach().reshape(-1, self.dim)
            if self.training and self.n_updates == 0:
                self._start_from(flat)
            codes = nearest_codes(flat, self.codebook)
            quantized = self.codebook[codes].reshape(z.shape)
            loss = self.commitment * (z - quantized).square().sum(-1).mean()
            counts = torch.bincount(codes, minlength=len(self.codebook)).to(flat.dtype)
            stats = _usage_stats(counts)
            if self.training:
                stats["revived"] = self._update(flat, codes, counts)
        return Quantized(straight_through(z, quantized), codes.reshape(z.shape[:-1]), loss, stats)

    @torch.no_grad()
    def _start_from(self, flat: Tensor) -> None:
        n_codes = len(self.codebook)
        if len(flat) < n_codes:
            raise InputError(
                f"EMAVQ: the first training batch gives {len(flat)} vectors for {n_codes} codes; expected at "
                "least as many vectors as codes; enlarge the batch or lower n_codes"
            )
        centres = kmeans(flat.cpu().numpy(), n_codes, derive_seed(self.seed, "EMAVQ k-means"))
        self.codebook.copy_(torch.from_numpy(centres))
        self.sums.copy_(self.codebook)
        self.usage.fill_(1.0)

    @torch.no_grad()
    def _update(self, flat: Tensor, codes: Tensor, counts: Tensor) -> Tensor:
        to_relative = len(self.codebook) / len(flat)
        batch_sums = torch.zeros_like(self.sums).index_add_(0, codes, flat)
        self.usage.lerp_(counts * to_relative, 1 - self.decay)
        self.sums.lerp_(batch_sums * to_relative, 1 - self.decay)
        # Without revival an unused code decays towards 0/0; it keeps its place instead.
        alive = self.usage > 1e-8
        self.codebook[alive] = self.sums[alive] / self.usage[alive, None]
        dead = self.usage < self.revival
        self._revive(flat, dead)
        self.n_updates += 1
        return dead.sum()

    def _revive(self, flat: Tensor, dead: Tensor) -> None:
        n_dead = int(dead.sum())
        if not n_dead:
            return
        generator = torch_generator(self.seed, "EMAVQ revival", int(self.n_updates))
        # Different vectors while there are enough: of two equal codes the second would die again at once.
        chosen = torch.randperm(len(flat), generator=generator).repeat(-(-n_dead // len(flat)))[:n_dead]
        chosen = chosen.to(flat.device)
        self.codebook[dead] = flat[chosen]
        self.sums[dead] = flat[chosen]
        self.usage[dead] = 1.0


def _usage_stats(counts: Tensor) -> dict[str, Tensor]:
    share = counts / counts.sum()
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return {"batch_utilization": (counts > 0).float().mean(), "batch_perplexity": entropy.exp()}
