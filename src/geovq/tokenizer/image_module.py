"""A module over any number of images, run in batches: what all tokenizers and the bare autoencoder share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from geovq.errors import InputError
from geovq.tokenizer.protocol import Images

LARGEST_BATCH, NUMBERS_A_BATCH = 512, 2**22


class ImageModule(nn.Module):
    """Frozen networks on images of one shape, in eval mode for good.

    Parameters
    ----------
    image_shape : (C, H, W).
    """

    def __init__(self, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: what encodes must not learn, even inside a model that is being trained."""
        return super().train(False)

    def check_images(self, images: Images) -> None:
        """Raise ``InputError`` unless ``images`` are floating, of the expected (N, C, H, W), in [0, 1]."""
        if tuple(images.shape[1:]) != self.image_shape or len(images) == 0:
            raise InputError(
                f"images have shape {tuple(images.shape)}; this tokenizer expects "
                f"(N, {', '.join(map(str, self.image_shape))}) with N at least 1"
            )
        if not _as_tensor(images[:1]).is_floating_point():
            raise InputError(f"images are {images.dtype}; expected floating-point values in [0, 1]")
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):
            raise InputError(f"images run from {low:g} to {high:g}; expected finite values in [0, 1]")

    @torch.inference_mode()
    def in_batches(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        *arrays: Images,
        most: int | None = None,
    ) -> list[np.ndarray]:
        """Apply ``function`` to aligned rows of ``arrays``, a batch at a time, and join what it returns.

        A batch has ``most`` rows at most, where that is less than what images leave room for.
        """
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        size = min(LARGEST_BATCH, NUMBERS_A_BATCH // math.prod(self.image_shape))
        size = max(1, size if most is None else min(size, most))
        parts: list[tuple[np.ndarray, ...]] = []
        # At least one batch: no rows in, arrays without rows out.
        for start in range(0, max(1, len(arrays[0])), size):
            batch = [_as_tensor(array[start : start + size]).to(device) for array in arrays]
            parts.append(tuple(tensor.cpu().numpy() for tensor in function(*batch)))
        return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _as_tensor(rows: Images) -> Tensor:
    # PyTorch has no read-only tensors and warns; memory maps are read-only.
    return torch.as_tensor(rows if isinstance(rows, Tensor) else np.require(rows, requirements=["C", "W"]))
