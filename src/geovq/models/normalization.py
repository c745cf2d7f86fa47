"""Standardised images inside a model, whose interfaces stay in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from geovq.errors import ConfigError

Normalization = Literal["train"] | Sequence[Sequence[float]]
"""Mean and standard deviation a channel, as ``((.49, .48, .45), (.25, .24, .26))``, or a request for those of
the training images (``train``), which a run replaces by the numbers."""

CENTRED = (0.5, 0.5)


class ChannelNormalization(nn.Module):
    """``(images - mean) / deviation``, channel by channel.

    Parameters
    ----------
    n_channels : C.
    normalization : means and standard deviations (2, C); without it [0, 1] becomes [-1, 1], since centred
        inputs train faster.

    Raises ``ConfigError`` unless there is a finite mean and a deviation above 0 for every channel.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, n_channels: int, normalization: Normalization | None) -> None:
        super().__init__()
        if normalization == "train":
            raise ConfigError(
                "normalization is 'train' where no training images are at hand; expected their channels' "
                "means and standard deviations, [[mean, ...], [deviation, ...]]"
            )
        if normalization is None:
            rows = torch.tensor(CENTRED)[:, None].expand(2, n_channels)
        else:
            _check(normalization, n_channels)
            rows = torch.tensor(normalization, dtype=torch.float32)
        # Not among the weights: the configuration holds them.
        self.register_buffer("mean", rows[0].clone().view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", rows[1].clone().view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Standardised images, in the shape of ``images`` (N, C, H, W)."""
        return (images - self.mean) / self.deviation


def _check(normalization: Normalization, n_channels: int) -> None:
    if isinstance(normalization, str) or any(not isinstance(row, Sequence) for row in normalization):
        raise ConfigError(
            f"normalization is {normalization!r}; expected 'train', or [[mean, ...], [deviation, ...]] with "
            "a number for every channel"
        )
    lengths = [len(row) for row in normalization]
    if lengths != [n_channels, n_channels]:
        raise ConfigError(
            f"normalization has rows of {lengths} numbers for images of {n_channels} channels; expected "
            f"{n_channels} means and {n_channels} standard deviations"
        )
    means, deviations = (torch.tensor(row, dtype=torch.float64) for row in normalization)
    if not bool(means.isfinite().all() and deviations.isfinite().all() and (deviations > 0).all()):
        raise ConfigError(
            f"normalization is {[list(row) for row in normalization]}; expected finite means and standard "
            "deviations above 0"
        )
