"""Where a training loop gets its rows: anything with a length and ``rows(indices)``."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from geovq.data import ImageSet


class Source(Protocol):
    """Rows of training data, addressed by index, so that a batch is a pure function of (seed, step)."""

    def __len__(self) -> int: ...

    def rows(self, indices: np.ndarray) -> tuple[Tensor, ...]:
        """The tensors of some rows, the first axis of each running over ``indices``."""
        ...


class ImageSource:
    """Images alone, read when asked for."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, indices: np.ndarray) -> tuple[Tensor, ...]:
        """``(images (n, C, H, W),)``."""
        return (torch.from_numpy(self.images.images(indices)),)


class TensorSource:
    """Rows of tensors of equal length, such as codes and labels."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def rows(self, indices: np.ndarray) -> tuple[Tensor, ...]:
        """The rows of every tensor."""
        chosen = torch.from_numpy(indices)
        return tuple(tensor[chosen] for tensor in self.tensors)
