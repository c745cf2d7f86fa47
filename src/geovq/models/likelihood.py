"""Terms of an autoencoder's loss, each per image: summed over pixels or dimensions, averaged over images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bernoulli_nats(logits: Tensor, images: Tensor) -> Tensor:
    """Binary cross-entropy of grey levels in [0, 1], nats an image: a loss, not a code length of pixels."""
    return F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)


def squared_error(decoded: Tensor, images: Tensor) -> Tensor:
    """Squared error of decoded images (N, C, H, W), summed over an image."""
    return (decoded - images).square().sum() / len(images)


def gaussian_kl_nats(mean: Tensor, sigma: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(0, 1)) in nats an image (Kingma & Welling 2014, appendix B)."""
    return (0.5 * (mean.square() + sigma.square() - 1) - sigma.log()).sum() / len(mean)
