"""A fitted quantizer inside a PyTorch model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geovq.config import Spec
from geovq.errors import InputError
from geovq.quantizers.base import Quantizer
from geovq.registry import build, kind_of
from geovq.vq.layer import QuantizerLayer
from geovq.vq.quantized import Quantized
from geovq.vq.straight_through import straight_through


class FittedQuantizer(QuantizerLayer):
    """A frozen quantizer with the interface of the trainable layers.

    Everything learnt is a buffer, so ``state_dict`` holds it and ``to`` moves it; there are no parameters.
    Single numbers are buffers without axes. Codes are those that ``quantizer.predict`` gives.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.kind = kind_of("quantizer", quantizer)
        self.params = quantizer.json_params()
        arrays, values = quantizer.fitted_state()
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        for name, value in {**arrays, **numbers}.items():
            self.register_buffer(name, torch.from_numpy(np.array(value)))
        self._quantizer = self._rebuilt()
        self.register_load_state_dict_post_hook(FittedQuantizer._after_load)

    @classmethod
    def from_state(cls, kind: str, params: Mapping[str, Any], state: Mapping[str, Tensor]) -> FittedQuantizer:
        """The module whose ``kind``, ``params`` and ``state_dict()`` these were.

        Raises ``InputError`` if ``state`` has no codebook.
        """
        if "codebook_" not in state:
            raise InputError(f"the state of quantizer '{kind}' has {sorted(state)} but no codebook_")
        return cls(_quantizer_from_state(kind, params, state))

    @property
    def codebook(self) -> Tensor:
        """(K, d), or (L, K, d) for L additive levels."""
        return self.get_buffer("codebook_")

    @property
    def n_codes(self) -> tuple[int, ...]:
        """Alphabet size of every level."""
        *levels, n_codes, _ = self.codebook.shape
        return (n_codes,) * (levels[0] if levels else 1)

    @property
    def uses_sigma(self) -> bool:
        """Whether ``forward`` must be given sigma, as ``fit`` was."""
        return self._quantizer.uses_sigma_

    def forward(self, z: Tensor, sigma: Tensor | None = None) -> Quantized:
        """Quantize ``z (..., d)``.

        ``z_q`` equals ``lookup(codes)`` and passes its gradient to ``z`` unchanged; ``loss`` is 0.
        Raises ``InputError`` if the width is not d, or sigma is given though the fit had none or the reverse.
        """
        codes = self.encode(z, sigma)
        vectors = self.lookup(codes).to(z.dtype)
        return Quantized(straight_through(z, vectors), codes, z.new_zeros(()))

    @torch.no_grad()
    def encode(self, z: Tensor, sigma: Tensor | None = None) -> Tensor:
        """Codes int64 (...) or (..., L) of ``z (..., d)``."""
        d = self.codebook.shape[-1]
        if z.shape[-1] != d:
            raise InputError(f"z has width {z.shape[-1]}; expected {d}")
        if (sigma is not None) != self._quantizer.uses_sigma_:
            raise InputError(
                f"the quantizer was fitted with{'' if self._quantizer.uses_sigma_ else 'out'} sigma; "
                "fit and assignment use one metric: give sigma to both or to neither"
            )
        flat_sigma = None if sigma is None else sigma.reshape(-1, d)
        codes = self._quantizer._encode(z.detach().reshape(-1, d), flat_sigma)
        return codes.reshape(*z.shape[:-1], *codes.shape[1:])

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (...) or (..., L)."""
        return self._quantizer.look_up(self.codebook, codes)

    def _rebuilt(self) -> Quantizer:
        return _quantizer_from_state(self.kind, self.params, dict(self.named_buffers()))

    @staticmethod
    def _after_load(module: nn.Module, incompatible_keys: object) -> None:
        assert isinstance(module, FittedQuantizer)
        module._quantizer = module._rebuilt()


def _quantizer_from_state(kind: str, params: Mapping[str, Any], state: Mapping[str, Tensor]) -> Quantizer:
    quantizer = build("quantizer", Spec(kind, dict(params)))
    arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}
    numbers = {name: array.item() for name, array in arrays.items() if array.ndim == 0}
    quantizer.restore({name: array for name, array in arrays.items() if array.ndim}, numbers)
    assert isinstance(quantizer, Quantizer)
    return quantizer
