"""What a model minimises between its images and the originals."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from geovq.errors import ConfigError, unknown_name
from geovq.models.blocks import Decoder
from geovq.models.likelihood import bernoulli_nats, squared_error
from geovq.models.normalization import ChannelNormalization, Normalization
from geovq.models.pixel_likelihood import DiscretizedLogistic

Reconstruction = Literal["bce", "mse", "logistic"]
"""The binary cross-entropy of an image in nats; its squared error summed over pixels, in units of the
channels' deviations where images are standardised; or its discretised logistic likelihood in nats, a
likelihood of 8-bit pixels with a scale learnt for every channel. Where images are not standardised the
squared error is about a tenth of the others, so that the terms beside it weigh ten times as much."""


class ReconstructionLoss(nn.Module):
    """The error of decoded images, per image.

    Parameters
    ----------
    kind : one of ``Reconstruction``.
    decoder : of the model; for ``logistic`` it gets the learnt scales, which are stored with its weights.
    n_channels : C.
    normalization : of the model's images.

    Raises ``ConfigError`` for an unknown kind.
    """

    def __init__(
        self, kind: Reconstruction, decoder: Decoder, n_channels: int, normalization: Normalization | None
    ) -> None:
        super().__init__()
        if kind not in get_args(Reconstruction):
            raise ConfigError(unknown_name("reconstruction", kind, get_args(Reconstruction)))
        if kind == "logistic":
            decoder.likelihood = DiscretizedLogistic(n_channels)
        self.kind = kind
        self.unit = None if normalization is None else ChannelNormalization(n_channels, normalization)

    def forward(self, decoder: Decoder, latents: Tensor, images: Tensor) -> tuple[str, Tensor]:
        """Name and value of the error between decoded ``latents`` and ``images`` (N, C, H, W)."""
        logits = decoder.logits(latents)
        if self.kind == "bce":
            return "bce_nats", bernoulli_nats(logits, images)
        decoded = logits.sigmoid()
        if decoder.likelihood is not None:
            return "pixel_nats", decoder.likelihood.nats(decoded, images)
        if self.unit is not None:
            decoded, images = self.unit(decoded), self.unit(images)
        return "squared_error", squared_error(decoded, images)
