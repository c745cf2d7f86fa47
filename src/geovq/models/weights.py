"""Parameters and buffers of a module as NumPy arrays, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from geovq.errors import CorruptArtifactError


def arrays_of(module: nn.Module) -> dict[str, np.ndarray]:
    """Every parameter and buffer of ``module``, copied, under its ``state_dict`` name."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_arrays(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Set every parameter and buffer. Raises ``CorruptArtifactError`` if names or shapes differ."""
    try:
        module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise CorruptArtifactError(f"stored weights do not fit {type(module).__name__}: {detail}") from None


def weight_hashes(module: nn.Module) -> dict[str, str]:
    """SHA-256 of every parameter and buffer of ``module``, under its ``state_dict`` name."""
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays_of(module).items()}


def n_parameters(*modules: nn.Module) -> int:
    """Parameters of the modules together, frozen ones included."""
    return sum(p.numel() for module in modules for p in module.parameters())
