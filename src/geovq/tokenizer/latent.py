"""The tokenizer of one latent: encoder -> cut -> quantizer -> paste -> decoder.

The quantizer is either a layer trained with the encoder or a post-hoc quantizer fitted on its frozen latents;
nothing that uses a tokenizer can tell which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from geovq.config import Spec, to_json
from geovq.errors import CorruptArtifactError, InputError
from geovq.models.cut import cut, paste, token_dim
from geovq.models.weights import arrays_of, load_arrays, weight_hashes
from geovq.quantizers.module import FittedQuantizer
from geovq.registry import build, resolve
from geovq.storage.artifact import fingerprint, load_artifact, save_artifact
from geovq.tokenizer.autoencoder import Autoencoder
from geovq.tokenizer.layout import CodeGrid, CodeLayout
from geovq.tokenizer.protocol import Images
from geovq.vq import QuantizerLayer


class LatentTokenizer(Autoencoder):
    """Codes of a flat latent or a latent map.

    Parameters
    ----------
    encoder, decoder, image_shape : see ``Autoencoder``.
    quantizer : a module with the layers' interface: a ``geovq.vq`` layer or a quantizer's ``as_module()``.
    latent_shape : (D,) of a flat latent, (D, h, w) of a map.
    tokens : grid (height, width) of tokens that the latent is cut into.
    architecture : the model that encoder and decoder are halves of, so that ``from_pretrained`` can build
        them; without it they must be passed to ``from_pretrained``.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        quantizer: QuantizerLayer,
        *,
        image_shape: Sequence[int],
        latent_shape: Sequence[int],
        tokens: Sequence[int],
        architecture: Spec | None = None,
    ) -> None:
        super().__init__(encoder, decoder, image_shape)
        token_dim(latent_shape, tokens)  # refuses a cut that does not come out even
        self.quantizer = quantizer
        quantizer.eval()
        self.latent_shape, self.tokens = tuple(latent_shape), (tokens[0], tokens[1])
        self.architecture = architecture

    @property
    def layout(self) -> CodeLayout:
        """One grid of tokens, with a level for every level of the quantizer."""
        return CodeLayout((CodeGrid("latent", *self.tokens, n_codes=self.quantizer.n_codes),))

    @property
    def bits_per_image(self) -> float:
        """Nominal bits an image."""
        return self.layout.bits

    def encode(self, images: Images) -> np.ndarray:
        """Codes int64 (N, S) of images (N, C, H, W); a VAE's images go by their posterior means."""
        return self.encode_latents(*self.posterior(images))

    def encode_latents(self, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """Codes int64 (N, S) of latents (N, *latent_shape) that ``posterior`` gave."""
        for name, array in (("mean", mean), ("sigma", sigma)):
            if array.shape[1:] != self.latent_shape:
                raise InputError(
                    f"the latents' {name} has shape {array.shape}; this tokenizer expects "
                    f"(N, {', '.join(map(str, self.latent_shape))})"
                )
        (codes,) = self.in_batches(lambda m, s: (self._codes(m, s),), mean, sigma)
        return codes

    def lookup(self, codes: np.ndarray) -> np.ndarray:
        """Quantized latents float32 (N, *latent_shape) of codes (N, S)."""
        self.layout.validate(codes)
        (latents,) = self.in_batches(lambda batch: (self._latents(batch),), codes)
        return latents

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Images float32 (N, C, H, W) of codes (N, S)."""
        self.layout.validate(codes)
        (images,) = self.in_batches(lambda batch: (self.decoder(self._latents(batch)),), codes)
        return images

    def reconstruct(self, images: Images) -> np.ndarray:
        """``decode(encode(images))``."""
        return self.decode(self.encode(images))

    def with_decoder(self, decoder: nn.Module) -> LatentTokenizer:
        """The same codes, decoded by another decoder."""
        return LatentTokenizer(
            self.encoder,
            decoder,
            self.quantizer,
            image_shape=self.image_shape,
            latent_shape=self.latent_shape,
            tokens=self.tokens,
            architecture=self.architecture,
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the configuration and of every weight."""
        return fingerprint({"config": self._config(), "weights": weight_hashes(self)})

    def save_pretrained(self, folder: Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and their hashes into ``folder``.

        Raises ``InputError`` for a trainable layer without the architecture that it is a part of.
        """
        trained = self.architecture is not None and resolve("model", self.architecture.kind).end_to_end
        if not trained and not isinstance(self.quantizer, FittedQuantizer):
            raise InputError(
                f"a layer ({type(self.quantizer).__name__}) is stored with the model it was trained in; give "
                "its architecture, as in architecture=Spec('vqvae', ...), or a fitted quantizer's as_module()"
            )
        config = {**self._config(), "fingerprint": self.fingerprint}
        save_artifact(Path(folder), config, arrays_of(self))

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, encoder: nn.Module | None = None, decoder: nn.Module | None = None
    ) -> LatentTokenizer:
        """Load what ``save_pretrained`` wrote.

        ``encoder`` and ``decoder`` are needed for a pair that is not one of GeoVQ's models; their weights are
        then set from the folder as well. Raises ``CorruptArtifactError`` if the folder is damaged.
        """
        config, arrays = load_artifact(Path(folder))
        if config.get("kind") != "latent":
            raise CorruptArtifactError(f"{folder}: holds a '{config.get('kind')}'; expected a tokenizer")
        layer: QuantizerLayer | None = None
        if config["architecture"] is not None:
            architecture = Spec(**config["architecture"])
            model = build("model", architecture, image_shape=config["image_shape"])
            encoder, decoder, layer = model.encoder, model.decoder, model.layer
        elif encoder is None or decoder is None:
            raise InputError(
                f"{folder}: was saved around an encoder and decoder of your own; pass them as "
                "from_pretrained(folder, encoder=..., decoder=...)"
            )
        else:
            architecture = None
        if config["quantizer"] is not None:
            state = {
                name.removeprefix("quantizer."): torch.from_numpy(array.copy())
                for name, array in arrays.items()
                if name.startswith("quantizer.")
            }
            quantizer = config["quantizer"]
            layer = FittedQuantizer.from_state(quantizer["kind"], quantizer["params"], state)
        assert layer is not None
        tokenizer = cls(
            encoder,
            decoder,
            layer,
            image_shape=config["image_shape"],
            latent_shape=config["latent_shape"],
            tokens=config["tokens"],
            architecture=architecture,
        )
        load_arrays(tokenizer, arrays)
        return tokenizer

    def _config(self) -> dict[str, object]:
        fitted = self.quantizer if isinstance(self.quantizer, FittedQuantizer) else None
        return {
            "kind": "latent",
            "architecture": None if self.architecture is None else to_json(self.architecture),
            "image_shape": list(self.image_shape),
            "latent_shape": list(self.latent_shape),
            "tokens": list(self.tokens),
            "quantizer": None if fitted is None else {"kind": fitted.kind, "params": fitted.params},
        }

    def _codes(self, mean: Tensor, sigma: Tensor) -> Tensor:
        tokens = cut(mean, self.tokens)
        if self.quantizer.uses_sigma:
            codes = self.quantizer(tokens, cut(sigma, self.tokens)).codes
        else:
            codes = self.quantizer(tokens).codes
        return codes.reshape(len(mean), -1)

    def _latents(self, codes: Tensor) -> Tensor:
        n_levels = len(self.quantizer.n_codes)
        shape = (len(codes), self.tokens[0] * self.tokens[1])
        codes = codes.long()  # PyTorch would take bytes for a mask
        per_token = codes.reshape(shape) if n_levels == 1 else codes.reshape(*shape, n_levels)
        return paste(self.quantizer.lookup(per_token).float(), self.latent_shape)
