"""A fitted quantizer inside a PyTorch model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geovq.config import Spec
from geovq.errors import InputError
from geovq.geometry.decoder_calls import Decoder
from geovq.quantizers.base import Quantizer
from geovq.registry import build, kind_of
from geovq.vq.estimators import straight_through
from geovq.vq.layer import QuantizerLayer
from geovq.vq.quantized import Quantized


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
        self.decode_with(getattr(quantizer, "decoder", None))
        self.register_load_state_dict_post_hook(FittedQuantizer._after_load)

    @classmethod
    def from_state(cls, kind: str, params: Mapping[str, Any], state: Mapping[str, Tensor]) -> FittedQuantizer:
        """The module whose ``kind``, ``params`` and ``state_dict()`` these were.

        Raises ``InputError`` if ``state`` has no codebook.
        """
        if not {"codebook_", "codebook_0"} & state.keys():
            raise InputError(f"the state of quantizer '{kind}' has {sorted(state)} but no codebook_")
        return cls(_quantizer_from_state(kind, params, state))

    @classmethod
    def of_codebook(cls, levels: Sequence[np.ndarray], beam: int) -> FittedQuantizer:
        """Given additive codebooks (K, d), one a level: nearest codes, by beam search if there are several.

        Raises ``InputError`` if the levels have different sizes.
        """
        if len({level.shape for level in levels}) > 1:
            shapes = [level.shape for level in levels]
            raise InputError(f"the levels of a codebook have shapes {shapes}; expected equal ones")
        codebook = np.stack(levels)
        fitted = {"uses_sigma_": False, "uses_metric_": False, "n_features_in_": codebook.shape[2]}
        params = {"n_codes": codebook.shape[1], "n_levels": len(levels), "beam": beam}
        quantizer = build("quantizer", Spec("residual", params))
        quantizer.restore({"codebook_": codebook}, fitted)
        return cls(quantizer)

    @property
    def codebook(self) -> Tensor | list[Tensor]:
        """(K, d), or for L additive levels (L, K, d) or a list of L tensors (K_l, d)."""
        buffers = dict(self.named_buffers(recurse=False))
        if "codebook_" in buffers:
            return buffers["codebook_"]
        n_levels = sum(re.fullmatch(r"codebook_\d+", name) is not None for name in buffers)
        return [buffers[f"codebook_{level}"] for level in range(n_levels)]

    @property
    def n_codes(self) -> tuple[int, ...]:
        """Alphabet size of every level."""
        codebook = self.codebook
        if isinstance(codebook, Tensor) and codebook.ndim == 2:
            return (len(codebook),)
        return tuple(len(level) for level in codebook)

    @property
    def uses_sigma(self) -> bool:
        """Whether ``forward`` must be given sigma, as ``fit`` was."""
        return self._quantizer.uses_sigma_

    @property
    def uses_metric(self) -> bool:
        """Whether ``forward`` must be given metric tensors, as ``fit`` was."""
        return self._quantizer.uses_metric_

    @property
    def follows_decoder(self) -> bool:
        """Whether the codes of a latent depend on the decoder that the latent is for."""
        return self.uses_metric or getattr(self._quantizer, "needs_decoder_", False)

    def decode_with(self, decoder: Decoder | None) -> None:
        """Let a quantizer that was fitted on decoded points decode with ``decoder``, which no state holds."""
        if getattr(self._quantizer, "needs_decoder_", False):
            self._quantizer.set_params(decoder=decoder)

    def forward(self, z: Tensor, sigma: Tensor | None = None, metric: Tensor | None = None) -> Quantized:
        """Quantize ``z (..., d)``, with ``sigma (..., d)`` and ``metric (..., d, d)`` if ``fit`` had them.

        ``z_q`` equals ``lookup(codes)`` and passes its gradient to ``z`` unchanged; ``loss`` is 0.
        Raises ``InputError`` if the width is not d, or sigma or metric is given though the fit had none or
        the reverse.
        """
        codes = self.encode(z, sigma, metric)
        vectors = self.lookup(codes).to(z.dtype)
        return Quantized(straight_through(z, vectors), codes, z.new_zeros(()))

    @torch.no_grad()
    def encode(self, z: Tensor, sigma: Tensor | None = None, metric: Tensor | None = None) -> Tensor:
        """Codes int64 (...) or (..., L) of ``z (..., d)``."""
        d = self._quantizer.n_features_in_
        if z.shape[-1] != d:
            raise InputError(f"z has width {z.shape[-1]}; expected {d}")
        for name, given, expected in (
            ("sigma", sigma, self.uses_sigma),
            ("metric", metric, self.uses_metric),
        ):
            if (given is not None) != expected:
                raise InputError(
                    f"the quantizer was fitted with{'' if expected else 'out'} {name}; "
                    f"fit and assignment use one metric: give {name} to both or to neither"
                )
        dtype = torch.promote_types(z.dtype, torch.float32)
        codes = self._quantizer._encode(
            z.detach().to(dtype).reshape(-1, d),
            None if sigma is None else sigma.detach().to(dtype).reshape(-1, d),
            None if metric is None else metric.detach().to(dtype).reshape(-1, d, d),
        )
        return codes.reshape(*z.shape[:-1], *codes.shape[1:])

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (...) or (..., L)."""
        return self._quantizer.look_up(self.codebook, codes)

    def _rebuilt(self) -> Quantizer:
        return _quantizer_from_state(self.kind, self.params, dict(self.named_buffers()))

    @staticmethod
    def _after_load(module: nn.Module, incompatible_keys: object) -> None:
        assert isinstance(module, FittedQuantizer)
        decoder = getattr(module._quantizer, "decoder", None)
        module._quantizer = module._rebuilt()
        module.decode_with(decoder)


def _quantizer_from_state(kind: str, params: Mapping[str, Any], state: Mapping[str, Tensor]) -> Quantizer:
    quantizer = build("quantizer", Spec(kind, dict(params)))
    arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}
    numbers = {name: array.item() for name, array in arrays.items() if array.ndim == 0}
    quantizer.restore({name: array for name, array in arrays.items() if array.ndim}, numbers)
    assert isinstance(quantizer, Quantizer)
    return quantizer
