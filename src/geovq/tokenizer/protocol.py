"""What every tokenizer offers. Priors, evaluation and reports see only this."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from geovq.tokenizer.layout import CodeLayout

Images = np.ndarray | Tensor
"""Images (N, C, H, W), float32 in [0, 1]."""


class Tokenizer(Protocol):
    """Images to codes and back. Work is done in batches: memory does not grow with N."""

    @property
    def layout(self) -> CodeLayout:
        """How the codes of an image are arranged."""
        ...

    @property
    def bits_per_image(self) -> float:
        """Nominal bits an image."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of configuration and weights: equal only if all codes and images are equal."""
        ...

    def encode(self, images: Images) -> np.ndarray:
        """Codes int64 (N, S) of images."""
        ...

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Images float32 (N, C, H, W) of codes (N, S)."""
        ...

    def reconstruct(self, images: Images) -> np.ndarray:
        """``decode(encode(images))``."""
        ...

    def posterior(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sigma of the latents; sigma is 0 for an encoder that gives points."""
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and their hashes."""
        ...
