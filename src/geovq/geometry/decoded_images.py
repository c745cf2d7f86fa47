"""Features of whole latents, each decoded once while a graph is measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geovq.geometry.decoder_calls import DecoderCalls

NUMBERS_KEPT = 2**27  # 0.5 GB in float32


class DecodedImages:
    """Features of N latents (N, *latent_shape), decoded when first asked for and kept.

    If there are more than 2^27 features, 0.5 GB, none are kept.
    """

    def __init__(self, calls: DecoderCalls, latents: Tensor) -> None:
        self.calls = calls
        self.latents = latents
        self.forget()

    def forget(self) -> None:
        """Decode anew what is asked for from now on."""
        self._kept: Tensor | None = None
        self._is_kept = torch.zeros(len(self.latents), dtype=torch.bool)

    def keep(self, images: Tensor) -> None:
        """Decode those of ``images`` that were not yet, in full batches, if there is room for all N."""
        if len(self.latents) * self.calls.n_features > NUMBERS_KEPT:
            return
        images = images.unique()
        missing = images[~self._is_kept[images]]
        for start in range(0, len(missing), self.calls.batch):
            part = missing[start : start + self.calls.batch]
            features = self.calls.features(self.latents[part], part)
            if self._kept is None:
                self._kept = features.new_empty(len(self.latents), features.shape[1])
            self._kept[part.to(features.device)] = features
            self._is_kept[part] = True

    def features(self, images: Tensor) -> Tensor:
        """Features (b, P) of ``images (b,)``: those kept, or a batch of them decoded now."""
        if self._kept is not None:
            return self._kept[images.to(self._kept.device)]
        distinct, place = images.unique(return_inverse=True)
        return self.calls.features(self.latents[distinct], distinct)[place]

    def __getstate__(self) -> dict[str, Any]:
        return {"calls": self.calls, "latents": self.latents}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
