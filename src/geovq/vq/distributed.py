"""What the processes of a data-parallel training must agree on: sums over all their vectors, and samples.

Without a process group every function is the identity of one process.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from geovq.seeding import torch_generator


def is_distributed() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def summed(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    if is_distributed():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def gathered(vectors: Tensor) -> Tensor:
    """Vectors (n, d) of all processes, in the order of their ranks; n may differ between them."""
    if not is_distributed():
        return vectors
    sizes = [torch.zeros(1, dtype=torch.int64, device=vectors.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(vectors)], device=vectors.device))
    most = max(int(size) for size in sizes)
    padded = vectors.new_zeros(most, vectors.shape[1])
    padded[: len(vectors)] = vectors
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])


def of_first_rank(tensor: Tensor) -> Tensor:
    """The tensor of rank 0, in every process."""
    if is_distributed():
        tensor = tensor.contiguous().clone()
        dist.broadcast(tensor, src=0)
    return tensor


def generator_of_rank(seed: int, purpose: str, step: int, device: torch.device) -> torch.Generator:
    """A generator for what every process draws for its own vectors, different in each."""
    rank = dist.get_rank() if is_distributed() else 0
    return torch_generator(seed, f"{purpose} of rank {rank}" if rank else purpose, step, str(device))
