"""The tokenizer of a hierarchical model: a grid of codes for every level."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geovq.config import Spec, from_json, to_json
from geovq.errors import CorruptArtifactError, InputError
from geovq.models.model import QuantizedGrid
from geovq.models.pixel_likelihood import DiscretizedLogistic
from geovq.models.vqvae2 import VQVAE2
from geovq.models.weights import arrays_of, load_arrays, weight_hashes
from geovq.registry import build
from geovq.storage.artifact import fingerprint, load_artifact, save_artifact
from geovq.tokenizer.autoencoder import check_posterior
from geovq.tokenizer.image_module import ImageModule
from geovq.tokenizer.layout import CodeGrid, CodeLayout
from geovq.tokenizer.protocol import Images

KIND = "hierarchical"


class HierarchicalTokenizer(ImageModule):
    """Codes of a ``VQVAE2``: those of the coarsest level first, as a prior reads them.

    A level's latents depend on the codes of the levels above. ``posterior`` and ``lookup`` give the tokens of
    all levels, each flattened, one level after the other: (N, D) with D the sum over levels of h * w * d.

    Parameters
    ----------
    model : put in eval mode, for good.
    image_shape : (C, H, W).
    architecture : of the model, so that ``from_pretrained`` can build it.
    """

    def __init__(self, model: VQVAE2, *, image_shape: Sequence[int], architecture: Spec) -> None:
        super().__init__(image_shape)
        self.model = model.eval()
        self.architecture = architecture

    @property
    def layout(self) -> CodeLayout:
        """One grid a level."""
        return layout_of_grids(self.model.grids)

    @property
    def bits_per_image(self) -> float:
        """Nominal bits an image."""
        return self.layout.bits

    @property
    def likelihood(self) -> DiscretizedLogistic | None:
        """That of pixels given the decoded image, where the decoder was trained with one."""
        return self.model.decoder.likelihood

    @property
    def level_sizes(self) -> list[int]:
        """How many of the D numbers of a latent belong to each level."""
        return [grid.height * grid.width * self.model.latent_dim for grid in self.model.grids]

    @property
    def encodes_slowly(self) -> bool:
        """Whether encoding calls the decoder: never."""
        return False

    def encode(self, images: Images) -> np.ndarray:
        """Codes int64 (N, S) of images (N, C, H, W)."""
        self.check_images(images)
        (codes,) = self.in_batches(self._codes, images)
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Images float32 (N, C, H, W) of codes (N, S)."""
        self.layout.validate(codes)
        (images,) = self.in_batches(lambda batch: (self.model.decode(self._vectors(batch)),), codes)
        return images

    def reconstruct(self, images: Images) -> np.ndarray:
        """``decode(encode(images))``."""
        return self.decode(self.encode(images))

    def posterior(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Latents of all levels (N, D), and sigmas of zero.

        Raises ``InputError`` if the images do not fit, or the latents are not finite.
        """
        self.check_images(images)
        (mean,) = self.in_batches(self._latents, images)
        sigma = np.zeros_like(mean)
        check_posterior("the latents'", mean, sigma)
        return mean, sigma

    def lookup(self, codes: np.ndarray) -> np.ndarray:
        """Quantized latents float32 (N, D) of codes (N, S)."""
        self.layout.validate(codes)
        (latents,) = self.in_batches(lambda batch: (_flat(self._vectors(batch)),), codes)
        return latents

    def decode_latents(self, latents: np.ndarray) -> np.ndarray:
        """Images float32 (N, C, H, W) of quantized latents (N, D).

        Raises ``InputError`` if they have another size, or are not finite.
        """
        self._check_latents(latents)
        (images,) = self.in_batches(lambda batch: (self.model.decode(self._levels(batch)),), latents)
        return images

    @torch.inference_mode()
    def layer_loss(self, latents: np.ndarray) -> float:
        """Losses of all layers on latents (N, D), summed over an image, mean over images.

        Raises ``InputError`` if they have another size, or are not finite.
        """
        self._check_latents(latents)
        levels = zip(self._levels(torch.from_numpy(latents)), self.model.grids, strict=True)
        return sum(float(grid.layer(tokens).loss) * tokens.shape[1] for tokens, grid in levels)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the configuration and of every weight."""
        return fingerprint({"config": self._config(), "weights": weight_hashes(self)})

    def save_pretrained(self, folder: Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and their hashes into ``folder``."""
        save_artifact(Path(folder), {**self._config(), "fingerprint": self.fingerprint}, arrays_of(self))

    @classmethod
    def from_pretrained(cls, folder: Path) -> HierarchicalTokenizer:
        """Load what ``save_pretrained`` wrote. Raises ``CorruptArtifactError`` if the folder is damaged."""
        config, arrays = load_artifact(Path(folder))
        if config.get("kind") != KIND:
            raise CorruptArtifactError(
                f"{folder}: holds a '{config.get('kind')}'; expected a hierarchical tokenizer"
            )
        architecture, image_shape = from_json(Spec, config.get("architecture")), config["image_shape"]
        model = build("model", architecture, image_shape=image_shape)
        tokenizer = cls(model, image_shape=image_shape, architecture=architecture)
        load_arrays(tokenizer, arrays)
        return tokenizer

    def _config(self) -> dict[str, object]:
        return {
            "kind": KIND,
            "architecture": to_json(self.architecture),
            "image_shape": list(self.image_shape),
        }

    def _codes(self, images: Tensor) -> tuple[Tensor]:
        levels, _ = self.model.quantize(images.float())
        return (torch.cat([level.quantized.codes.flatten(1) for level in levels], 1),)

    def _latents(self, images: Tensor) -> tuple[Tensor]:
        levels, _ = self.model.quantize(images.float())
        return (_flat([level.tokens for level in levels]),)

    def _check_latents(self, latents: np.ndarray) -> None:
        size = sum(self.level_sizes)
        if latents.shape[1:] != (size,):
            raise InputError(f"latents have shape {latents.shape}; this tokenizer expects (N, {size})")
        if not np.isfinite(latents).all():
            raise InputError("latents have NaN or infinity; expected finite numbers")

    def _levels(self, latents: Tensor) -> list[Tensor]:
        """Tokens (N, T, d) of flat latents (N, D), a level each."""
        parts = latents.split(self.level_sizes, 1)
        return [part.unflatten(1, (-1, self.model.latent_dim)) for part in parts]

    def _vectors(self, codes: Tensor) -> list[Tensor]:
        """Vectors (N, T, d) of codes (N, S), a level each."""
        codes, vectors = codes.long(), []  # narrow integers would be taken for a mask, or be refused
        grids = zip(self.layout.grids, self.model.grids, strict=True)
        sizes = [grid.n_slots for grid in self.layout.grids]
        for part, (grid, (_, height, width, layer)) in zip(codes.split(sizes, 1), grids, strict=True):
            n_levels = len(grid.n_codes)
            of_tokens = part.reshape(len(part), height * width, *([n_levels] if n_levels > 1 else []))
            vectors.append(layer.lookup(of_tokens))
        return vectors


def layout_of_grids(grids: Sequence[QuantizedGrid]) -> CodeLayout:
    """The layout of a model's codes."""
    return CodeLayout(tuple(CodeGrid(g.name, g.height, g.width, g.layer.n_codes) for g in grids))


def _flat(tokens: Sequence[Tensor]) -> Tensor:
    return torch.cat([level.flatten(1) for level in tokens], 1)
