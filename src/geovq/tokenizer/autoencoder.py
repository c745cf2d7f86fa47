"""The frozen halves of an autoencoder, run over any number of images in batches."""

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


class Autoencoder(nn.Module):
    """Encoder and decoder without anything between them: the continuous floor of a comparison.

    Parameters
    ----------
    encoder : images (N, C, H, W) -> (mean, sigma) of the latents; a mean alone is taken with sigma 0.
    decoder : latents (N, *latent_shape) -> images in [0, 1].
    image_shape : (C, H, W).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder.eval(), decoder.eval()
        self.image_shape = tuple(image_shape)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: what encodes must not learn, even inside a model that is being trained."""
        return super().train(False)

    def posterior(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and sigma, float32 (N, *latent_shape) each."""
        self.check_images(images)
        mean, sigma = self.in_batches(self._encode, images)
        return mean, sigma

    def decode_latents(self, latents: np.ndarray) -> np.ndarray:
        """Images float32 (N, C, H, W) of latents (N, *latent_shape)."""
        (images,) = self.in_batches(lambda batch: (self.decoder(batch.float()),), latents)
        return images

    def reconstruct(self, images: Images) -> np.ndarray:
        """Images decoded from the posterior means, without any quantization."""
        return self.decode_latents(self.posterior(images)[0])

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
    def in_batches(self, function: Callable[..., tuple[Tensor, ...]], *arrays: Images) -> list[np.ndarray]:
        """Apply ``function`` to aligned rows of ``arrays``, a batch at a time, and join what it returns."""
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        size = max(1, min(LARGEST_BATCH, NUMBERS_A_BATCH // math.prod(self.image_shape)))
        parts: list[tuple[np.ndarray, ...]] = []
        # At least one batch: no rows in, arrays without rows out.
        for start in range(0, max(1, len(arrays[0])), size):
            batch = [_as_tensor(array[start : start + size]).to(device) for array in arrays]
            parts.append(tuple(tensor.cpu().numpy() for tensor in function(*batch)))
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.encoder(images.float())
        if isinstance(encoded, Tensor):
            return encoded, torch.zeros_like(encoded)
        mean, sigma = encoded
        return mean, sigma


def _as_tensor(rows: Images) -> Tensor:
    # PyTorch has no read-only tensors and warns; memory maps are read-only.
    return torch.as_tensor(rows if isinstance(rows, Tensor) else np.require(rows, requirements=["C", "W"]))
