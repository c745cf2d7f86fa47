"""Vectors for dead codes.

Zeghidour et al., "SoundStream" (2021), section III.C: a code hardly used any more becomes a vector of the
batch; Dhariwal et al., "Jukebox" (2020), section 3.2, "random restarts".
"""

from __future__ import annotations

import torch
from torch import Tensor

from geovq.seeding import torch_generator
from geovq.vq.distributed import gathered, of_first_rank


@torch.no_grad()
def replacements(flat: Tensor, n_dead: int, seed: int, step: int) -> Tensor:
    """Vectors (n_dead, d) drawn from the batches (n, d) of all processes, the same in each.

    Different ones while there are enough: of two equal codes the second would die again at once.
    """
    generator = torch_generator(seed, "revival", step)
    drawn = flat[torch.randperm(len(flat), generator=generator)[:n_dead].to(flat.device)]
    pool = gathered(drawn)
    chosen = torch.randperm(len(pool), generator=generator).repeat(-(-n_dead // len(pool)))[:n_dead]
    # Generators differ by now where batches were not of one size.
    return of_first_rank(pool[chosen.to(flat.device)])
