"""Random numbers keyed by (seed, purpose, step), and the thread counts that results depend on.

No draw in GeoVQ uses a global generator, so there is no generator state to save: a run that resumes at step
1,000 draws for step 1,000 what it would have drawn without the interruption.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from geovq.errors import ConfigError

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A 63-bit seed from SHA-256 of ``(seed, purpose, step)``: the same on every machine and version."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def numpy_generator(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """A NumPy generator for one purpose and step."""
    return np.random.default_rng(derive_seed(seed, purpose, step))


def torch_generator(seed: int, purpose: str, step: int = 0, device: str = "cpu") -> torch.Generator:
    """A PyTorch generator for one purpose and step."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(seed, purpose, step))


def available_cores() -> int:
    """Cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def threads_wanted() -> int:
    """Threads to use: those of the environment variable ``GEOVQ_THREADS``, else every core available.

    Raises ``ConfigError`` if the variable is not a whole number above 0.
    """
    text = os.environ.get("GEOVQ_THREADS", "")
    if not text:
        return available_cores()
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"GEOVQ_THREADS is '{text}'; expected a whole number of threads, at least 1")
    return int(text)


def set_threads(count: int) -> None:
    """Give PyTorch, faiss and every BLAS in this process ``count`` threads each."""
    import faiss
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(count)
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)


@contextmanager
def seeded_weights(seed: int, purpose: str) -> Iterator[None]:
    """Initialise modules reproducibly inside the block.

    PyTorch's layers draw their weights from the global generator; it is set here and restored afterwards.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, purpose))
        yield


@contextmanager
def deterministic() -> Iterator[None]:
    """Use deterministic kernels inside the block: same machine class, versions and threads, same bytes."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for to be deterministic
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
