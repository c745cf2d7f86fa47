"""What to watch of a codebook during training, for people and for ``geovq.vq.collapse``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geovq.vq.distributed import summed

IDLE_UPDATES = 100  # a code that no vector chose for so many training steps is idle
WATCHED_VECTORS = 2048  # of a batch, evenly spread, for what needs more than the codes' counts
SMALLEST = 1e-12


class Watch(nn.Module):
    """The use and the age of codes, and how latents and codes compare in place and size.

    Parameters
    ----------
    n_codes : codebook size K.
    dim : vector length d.
    """

    age: Tensor
    latent_mean: Tensor
    n_updates: Tensor

    def __init__(self, n_codes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("age", torch.zeros(n_codes, dtype=torch.int64))
        self.register_buffer("latent_mean", torch.zeros(dim))
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, flat: Tensor, quantized: Tensor, codes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """How often each code was chosen, over all processes in training (K,), and the statistics.

        ``flat`` and ``quantized`` are (n, d), ``codes`` (n,). In training mode ages and the running mean of
        the latents move on.
        """
        counts = torch.bincount(codes, minlength=len(self.age)).float()
        if self.training:
            counts = summed(counts)
            self.age.add_(1).masked_fill_(counts > 0, 0)
        share = counts / counts.sum()
        stats = {
            # Of the batches of all processes in training; bounds the two that follow.
            "batch_vectors": counts.sum(),
            "batch_utilization": (counts > 0).float().mean(),
            "batch_perplexity": (-(share * share.clamp_min(SMALLEST).log()).sum()).exp(),
            "idle_codes": (self.age >= IDLE_UPDATES).float().mean(),
        }
        every = max(1, len(flat) // WATCHED_VECTORS)
        return counts, {**stats, **self._of_latents(flat[::every], quantized[::every])}

    def _of_latents(self, z: Tensor, e: Tensor) -> dict[str, Tensor]:
        mean = z.mean(0)
        centered = z - mean
        variance = centered.square().sum(1).mean()
        covariance = centered.T @ centered / len(z)
        stats = {
            # Root mean square lengths.
            "latent_norm": z.square().sum(1).mean().sqrt(),
            "code_norm": e.square().sum(1).mean().sqrt(),
            # Of the latents' variance, what quantization leaves as error.
            "relative_distortion": (z - e).square().sum(1).mean() / variance.clamp_min(SMALLEST),
            # Dimensions that carry the variance: (tr C)^2 / tr C^2, from 1 to d.
            "latent_dimensions": variance.square() / covariance.square().sum().clamp_min(SMALLEST),
        }
        if self.training:
            # How far the latents' mean has moved off its running value, in their standard deviations.
            mean = summed(z.sum(0)) / summed(torch.tensor(float(len(z)), device=z.device))
            before = torch.where(self.n_updates == 0, mean, self.latent_mean)
            stats["encoder_drift"] = (mean - before).norm() / variance.clamp_min(SMALLEST).sqrt()
            self.latent_mean.copy_(before.lerp(mean, 0.1))
            self.n_updates += 1
        return stats
