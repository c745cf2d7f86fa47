"""The tokenizer of one latent: encoder -> map -> cut -> quantizer -> paste -> inverse map -> decoder.

The quantizer is either a layer trained with the encoder or a post-hoc quantizer fitted on its frozen latents;
nothing that uses a tokenizer can tell which.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geovq.config import AwareConfig, Spec, from_json, to_json
from geovq.errors import CorruptArtifactError, InputError
from geovq.geometry import pullback_metrics
from geovq.models.cut import cut, paste, token_dim
from geovq.models.rectifier import Rectifier
from geovq.models.weights import arrays_of, load_arrays, weight_hashes
from geovq.quantizers.module import FittedQuantizer
from geovq.registry import build, resolve
from geovq.storage.artifact import fingerprint, load_artifact, save_artifact
from geovq.tokenizer.autoencoder import Autoencoder, check_posterior
from geovq.tokenizer.decoder_aware import refine_by_image, refine_by_metric
from geovq.tokenizer.latent_map import LatentMap
from geovq.tokenizer.layout import CodeGrid, CodeLayout
from geovq.tokenizer.mapped_decoder import MappedDecoder
from geovq.tokenizer.protocol import Images
from geovq.tokenizer.vectors import CodeVectors, codebooks
from geovq.vq import QuantizerLayer

METRIC_NUMBERS_A_BATCH = 2**24  # of the metrics that are held at once


class LatentTokenizer(Autoencoder):
    """Codes of a flat latent or a latent map.

    Parameters
    ----------
    encoder, decoder, image_shape : see ``Autoencoder``.
    quantizer : a module with the layers' interface: a ``geovq.vq`` layer or a quantizer's ``as_module()``.
    latent_shape : (D,) of a flat latent, (D, h, w) of a map.
    tokens : grid (height, width) of tokens that the latent is cut into.
    latent_map : applied to the latent before it is cut and undone after lookup, such as
        ``mean_pullback_map(decoder, latents)``; the quantizer was fitted on mapped latents.
    vectors : what codes are decoded to, where that is no longer the quantizer's own codebook.
    rectifier : a network on the quantized latents, before the decoder.
    aware : decoder-aware encoding, where the quantizer's codes are only the start.
    architecture : the model that encoder and decoder are halves of, so that ``from_pretrained`` can build
        them; without it they must be passed to ``from_pretrained``.

    Encoder and decoder are put in eval mode; all other parts go to the device of the encoder's weights.

    Raises
    ------
    InputError
        If the parts do not fit each other, or the latent cannot be cut so.
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
        latent_map: LatentMap | None = None,
        vectors: CodeVectors | None = None,
        rectifier: Rectifier | None = None,
        aware: AwareConfig | None = None,
        architecture: Spec | None = None,
    ) -> None:
        super().__init__(encoder, decoder, image_shape)
        _check_parts(quantizer, vectors, latent_shape, tokens)
        self.quantizer = quantizer
        quantizer.eval()
        self.latent_shape, self.tokens = tuple(latent_shape), (tokens[0], tokens[1])
        self.latent_map, self.vectors, self.rectifier = latent_map, vectors, rectifier
        self.aware, self.architecture = aware, architecture
        weight = next(encoder.parameters(), None)
        for part in (quantizer, latent_map, vectors, rectifier):
            if weight is not None and part is not None:
                part.to(weight.device)

    @property
    def layout(self) -> CodeLayout:
        """One grid of tokens, with a level for every level of the quantizer."""
        return CodeLayout((CodeGrid("latent", *self.tokens, n_codes=self.quantizer.n_codes),))

    @property
    def bits_per_image(self) -> float:
        """Nominal bits an image."""
        return self.layout.bits

    @property
    def encodes_slowly(self) -> bool:
        """Whether encoding calls the decoder."""
        return self.aware is not None or self.quantizer.uses_metric

    @property
    def mapped_decoder(self) -> nn.Module:
        """The decoder of mapped latents."""
        return self.decoder if self.latent_map is None else MappedDecoder(self.latent_map, self.decoder)

    def encode(self, images: Images) -> np.ndarray:
        """Codes int64 (N, S) of images (N, C, H, W); a VAE's images go by their posterior means."""
        return self.encode_latents(*self.posterior(images), images)

    def encode_latents(self, mean: np.ndarray, sigma: np.ndarray, images: Images | None = None) -> np.ndarray:
        """Codes int64 (N, S) of latents (N, *latent_shape) that ``posterior`` gave.

        Raises ``InputError`` if the latents have another shape or are not finite, or ``aware`` encoding needs
        the images that they are of.
        """
        for name, array in (("mean", mean), ("sigma", sigma)):
            if array.shape[1:] != self.latent_shape:
                raise InputError(
                    f"the latents' {name} has shape {array.shape}; this tokenizer expects "
                    f"(N, {', '.join(map(str, self.latent_shape))})"
                )
        if len(sigma) != len(mean):
            raise InputError(f"{len(sigma)} sigma are given for {len(mean)} latents; expected as many")
        check_posterior("the latents'", mean, sigma)
        if self.aware is None or self.aware.by != "image":
            (codes,) = self.in_batches(
                lambda m, s: (self._codes(m, s, None),), mean, sigma, most=self._metrics_a_batch
            )
        elif images is None or len(images) != len(mean):
            found = "none are given" if images is None else f"{len(images)} are given"
            raise InputError(
                f"decoder-aware encoding compares with the images of {len(mean)} latents, and {found}; pass "
                "them as encode_latents(mean, sigma, images), or call encode(images)"
            )
        else:
            self.check_images(images)
            (codes,) = self.in_batches(
                lambda m, s, x: (self._codes(m, s, x),), mean, sigma, images, most=self._metrics_a_batch
            )
        return codes

    def lookup(self, codes: np.ndarray) -> np.ndarray:
        """Quantized latents float32 (N, *latent_shape) of codes (N, S), before any rectifier."""
        self.layout.validate(codes)
        (latents,) = self.in_batches(lambda batch: (self._unmapped(self._tokens(batch)),), codes)
        return latents

    @torch.inference_mode()
    def layer_loss(self, latents: np.ndarray) -> float | None:
        """Loss of the trained layer on latents (N, *latent_shape), summed over an image, mean over images.

        None where a quantizer that was fitted after the fact, or tuned code vectors, find the codes.
        """
        if isinstance(self.quantizer, FittedQuantizer):
            return None
        tokens = cut(torch.from_numpy(latents), self.tokens)
        return float(self.quantizer(tokens).loss) * tokens.shape[1]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Images float32 (N, C, H, W) of codes (N, S)."""
        self.layout.validate(codes)
        (images,) = self.in_batches(lambda batch: (self.decode_codes(batch),), codes)
        return images

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Images (N, C, H, W) of codes (N, S), in one batch and with gradients."""
        return self.decode_tokens(self._tokens(codes))

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Images (N, C, H, W) of quantized tokens (N, T, d), as codes are looked up."""
        latents = self._unmapped(tokens)
        return self._decoded(latents if self.rectifier is None else self.rectifier(latents))

    def reconstruct(self, images: Images) -> np.ndarray:
        """``decode(encode(images))``."""
        return self.decode(self.encode(images))

    def changed(self, **parts: Any) -> LatentTokenizer:
        """This tokenizer with other ``parts``, as in ``changed(decoder=...)`` or ``changed(aware=...)``."""
        own = {
            "encoder": self.encoder,
            "decoder": self.decoder,
            "quantizer": self.quantizer,
            "image_shape": self.image_shape,
            "latent_shape": self.latent_shape,
            "tokens": self.tokens,
            "latent_map": self.latent_map,
            "vectors": self.vectors,
            "rectifier": self.rectifier,
            "aware": self.aware,
            "architecture": self.architecture,
        }
        return LatentTokenizer(**{**own, **parts})

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

        ``encoder`` and ``decoder`` are needed for a pair that is not one of GeoVQ's models: copies of them
        get the weights in the folder. Raises ``CorruptArtifactError`` if the folder is damaged.
        """
        config, arrays = load_artifact(Path(folder))
        if config.get("kind") != "latent":
            raise CorruptArtifactError(f"{folder}: holds a '{config.get('kind')}'; expected a tokenizer")
        for part in ("latent_map", "vectors", "rectifier", "aware"):
            if part not in config:
                raise CorruptArtifactError(
                    f"{folder}: its config.json has no '{part}'; it is of another version; make it again"
                )
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
            architecture, encoder, decoder = None, copy.deepcopy(encoder), copy.deepcopy(decoder)
        if config["quantizer"] is not None:
            quantizer = config["quantizer"]
            layer = FittedQuantizer.from_state(
                quantizer["kind"], quantizer["params"], _state(arrays, "quantizer.")
            )
        assert layer is not None
        parts: dict[str, Any] = {}
        if config["latent_map"]:
            parts["latent_map"] = LatentMap.from_state(_state(arrays, "latent_map."))
        if config["vectors"] is not None:
            parts["vectors"] = CodeVectors.empty(config["vectors"])
        if config["rectifier"] is not None:
            parts["rectifier"] = Rectifier(config["latent_shape"], **config["rectifier"])
        if config["aware"] is not None:
            parts["aware"] = from_json(AwareConfig, config["aware"], "aware")
        tokenizer = cls(
            encoder,
            decoder,
            layer,
            image_shape=config["image_shape"],
            latent_shape=config["latent_shape"],
            tokens=config["tokens"],
            architecture=architecture,
            **parts,
        )
        load_arrays(tokenizer, arrays)
        return tokenizer

    def _config(self) -> dict[str, object]:
        fitted = self.quantizer if isinstance(self.quantizer, FittedQuantizer) else None
        vectors, rectifier = self.vectors, self.rectifier
        return {
            "kind": "latent",
            "architecture": None if self.architecture is None else to_json(self.architecture),
            "image_shape": list(self.image_shape),
            "latent_shape": list(self.latent_shape),
            "tokens": list(self.tokens),
            "quantizer": None if fitted is None else {"kind": fitted.kind, "params": fitted.params},
            "latent_map": self.latent_map is not None,
            "vectors": None if vectors is None else [list(level.shape) for level in vectors.levels],
            "rectifier": None
            if rectifier is None
            else {"width": rectifier.width, "n_blocks": rectifier.n_blocks},
            "aware": None if self.aware is None else to_json(self.aware),
        }

    def _codes(self, mean: Tensor, sigma: Tensor, images: Tensor | None) -> Tensor:
        if self.latent_map is not None:
            mean, sigma = self.latent_map(mean), self.latent_map.sigma(sigma)
        tokens = cut(mean, self.tokens)
        if isinstance(self.quantizer, FittedQuantizer):
            # Every time: tokenizers with different decoders may share a quantizer.
            self.quantizer.decode_with(self.mapped_decoder)
            given = cut(sigma, self.tokens) if self.quantizer.uses_sigma else None
            metric = None
            if self.quantizer.uses_metric:
                metric = _metrics(self.mapped_decoder, mean, self.tokens)
            codes = self.quantizer.encode(tokens, given, metric)
        else:
            codes = self.quantizer(tokens).codes
        if self.aware is not None:
            codes = self._refined(codes.reshape(*tokens.shape[:2], -1), mean, tokens, images)
        return codes.reshape(len(mean), -1)

    def _refined(self, codes: Tensor, mean: Tensor, tokens: Tensor, images: Tensor | None) -> Tensor:
        assert self.aware is not None
        levels = codebooks(self.quantizer) if self.vectors is None else list(self.vectors.levels)
        effort = {"n_candidates": self.aware.n_candidates, "sweeps": self.aware.sweeps}
        if self.aware.by == "metric":
            # A metric of all sites of a map at once would have (D h w)^2 numbers.
            blocks = None if mean.ndim == 2 else self.tokens
            metrics = _metrics(self._rectified_decoder, mean, blocks)
            return refine_by_metric(codes, tokens, levels, metrics, **effort)
        assert images is not None
        return refine_by_image(codes, tokens, levels, self.decode_tokens, images.float(), **effort)

    @property
    def _rectified_decoder(self) -> nn.Module:
        """The decoder of mapped latents as codes are decoded: behind the rectifier."""
        if self.rectifier is None:
            return self.mapped_decoder
        decoder = nn.Sequential(self.rectifier, self.decoder)
        return decoder if self.latent_map is None else MappedDecoder(self.latent_map, decoder)

    @property
    def _metrics_a_batch(self) -> int | None:
        """Latents whose metrics may be held at once; None if encoding takes no metrics."""
        by_metric = self.aware is not None and self.aware.by == "metric"
        if not (by_metric or self.quantizer.uses_metric):
            return None
        size = math.prod(self.latent_shape)
        whole = by_metric and len(self.latent_shape) == 1
        return METRIC_NUMBERS_A_BATCH // (
            size * (size if whole else token_dim(self.latent_shape, self.tokens))
        )

    def _tokens(self, codes: Tensor) -> Tensor:
        """Quantized tokens (N, T, d) of codes (N, S)."""
        codes = codes.long()  # PyTorch would take bytes for a mask
        per_level = codes.reshape(len(codes), math.prod(self.tokens), len(self.quantizer.n_codes))
        if self.vectors is not None:
            tokens: Tensor = self.vectors(per_level)
            return tokens
        codebook = self.quantizer.codebook
        has_levels = not isinstance(codebook, Tensor) or codebook.ndim == 3
        return self.quantizer.lookup(per_level if has_levels else per_level[..., 0]).float()

    def _unmapped(self, tokens: Tensor) -> Tensor:
        latents = paste(tokens, self.latent_shape)
        return latents if self.latent_map is None else self.latent_map.undo(latents)


def _check_parts(
    quantizer: QuantizerLayer, vectors: CodeVectors | None, latent_shape: Sequence[int], tokens: Sequence[int]
) -> None:
    if not isinstance(quantizer, QuantizerLayer):
        raise InputError(
            f"quantizer is a {type(quantizer).__name__}; expected a layer or a fitted quantizer as a module; "
            "give quantizer.as_module()"
        )
    if len(latent_shape) not in (1, 3) or len(tokens) != 2:
        raise InputError(
            f"latent_shape is {tuple(latent_shape)} and tokens is {tuple(tokens)}; expected (D,) of a flat "
            "latent or (D, h, w) of a map, and a grid (height, width) of tokens"
        )
    dim = token_dim(latent_shape, tokens)  # refuses a cut that does not come out even
    width = codebooks(quantizer)[0].shape[1]
    if width != dim:
        raise InputError(
            f"the quantizer has vectors of {width} numbers, but a latent {tuple(latent_shape)} cut into "
            f"{tokens[0]}x{tokens[1]} tokens has tokens of {dim}; expected the same; fit it on these tokens"
        )
    if vectors is not None:
        found = [tuple(level.shape) for level in vectors.levels]
        expected = [(size, dim) for size in quantizer.n_codes]
        if found != expected:
            raise InputError(
                f"vectors have levels {found}; expected {expected}, as the quantizer's codes; make them with "
                "CodeVectors.of(quantizer)"
            )


def _metrics(decoder: nn.Module, mapped: Tensor, tokens: tuple[int, int] | None) -> Tensor:
    return torch.from_numpy(pullback_metrics(decoder, mapped, tokens)).to(mapped.device)


def _state(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(array.copy())
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
