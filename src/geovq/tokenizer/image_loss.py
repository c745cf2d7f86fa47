"""How far decoded images are from the images, as every tuning measures it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def image_loss(decoded: Tensor, images: Tensor, name: str) -> dict[str, Tensor]:
    """``total``, summed over an image, and ``mse`` over all pixels, both averaged over images (N, C, H, W).

    ``name`` is ``mse``, the squared error, or ``bce``, the binary cross-entropy in nats.
    """
    squared_error = (decoded - images).square().flatten(1).sum(1).mean()
    mse = squared_error / images[0].numel()
    if name == "mse":
        return {"total": squared_error, "mse": mse}
    # Rounding may put a decoder of one's own a little outside [0, 1].
    nats = F.binary_cross_entropy(decoded.clamp(0, 1), images, reduction="none").flatten(1).sum(1).mean()
    return {"total": nats, "mse": mse}
