"""How close decoded images are to the originals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from geovq.data import ImageSet, chunks_of

SMALLEST_MEAN = 1e-6
"""Bernoulli means are kept this far from 0 and 1, or one saturated pixel could make the BCE infinite."""


@dataclass(frozen=True)
class Reconstruction:
    """Reconstruction metrics of an image set, and the squared error of each image.

    ``values`` holds mse, psnr, ssim and bce_nats; ``errors (n,)`` is each image's mean squared error.
    """

    values: dict[str, float]
    errors: np.ndarray


def evaluate_reconstruction(images: ImageSet, decode: Callable[[slice], np.ndarray]) -> Reconstruction:
    """Compare every image with what ``decode(rows)`` gives for it, a chunk at a time.

    PSNR is that of the mean squared error over all images; SSIM (Wang et al. 2004) has the usual Gaussian
    window of sigma 1.5 (11 pixels), or 0.5 (5 pixels) for images under 16 pixels, which the usual one would
    exceed.
    """
    sigma = 1.5 if min(images.shape[1:]) >= 16 else 0.5
    errors, ssim, bce = [], 0.0, 0.0
    for rows in chunks_of(images):
        original = torch.from_numpy(images.images(rows))
        decoded = torch.from_numpy(decode(rows))
        errors.append((decoded - original).double().square().flatten(1).mean(1).numpy())
        similarity = structural_similarity_index_measure(
            decoded, original, sigma=sigma, data_range=1.0, reduction="sum"
        )
        assert isinstance(similarity, torch.Tensor)
        ssim += float(similarity)
        means = decoded.clamp(SMALLEST_MEAN, 1 - SMALLEST_MEAN)
        bce += float(F.binary_cross_entropy(means, original, reduction="sum"))
    per_image = np.concatenate(errors)
    mse = float(per_image.mean())
    values = {
        "mse": mse,
        "psnr": -10 * math.log10(max(mse, 1e-12)),
        "ssim": ssim / len(images),
        "bce_nats": bce / len(images),
    }
    return Reconstruction(values, per_image)
