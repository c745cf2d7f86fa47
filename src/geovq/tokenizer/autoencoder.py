"""The frozen halves of an autoencoder, run over any number of images in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from geovq.errors import InputError
from geovq.models.blocks import Decoder
from geovq.models.pixel_likelihood import DiscretizedLogistic
from geovq.tokenizer.image_module import ImageModule
from geovq.tokenizer.protocol import Images


class Autoencoder(ImageModule):
    """Encoder and decoder without anything between them: the continuous floor of a comparison.

    Parameters
    ----------
    encoder : images (N, C, H, W) -> (mean, sigma) of the latents; a mean alone is taken with sigma 0.
    decoder : latents (N, *latent_shape) -> images in [0, 1].
    image_shape : (C, H, W).

    Encoder and decoder are put in eval mode, for good.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, image_shape: Sequence[int]) -> None:
        super().__init__(image_shape)
        self.encoder, self.decoder = encoder.eval(), decoder.eval()

    @property
    def likelihood(self) -> DiscretizedLogistic | None:
        """That of pixels given the decoded image, where the decoder was trained with one."""
        return self.decoder.likelihood if isinstance(self.decoder, Decoder) else None

    def posterior(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and sigma, float32 (N, *latent_shape) each.

        Raises ``InputError`` if the images do not fit, or the encoder gives anything but finite latents, one
        for every image, alone or with standard deviations.
        """
        self.check_images(images)
        mean, sigma = self.in_batches(self._encode, images)
        check_posterior(f"encoder {type(self.encoder).__name__}: the latents'", mean, sigma)
        return mean, sigma

    def decode_latents(self, latents: np.ndarray) -> np.ndarray:
        """Images float32 (N, C, H, W) of latents (N, *latent_shape).

        Raises ``InputError`` if the decoder does not take them, or gives anything but a finite image each.
        """
        (images,) = self.in_batches(lambda batch: (self._decoded(batch.float()),), latents)
        return images

    def reconstruct(self, images: Images) -> np.ndarray:
        """Images decoded from the posterior means, without any quantization."""
        return self.decode_latents(self.posterior(images)[0])

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.encoder(images.float())
        if isinstance(encoded, Tensor):
            mean, sigma = encoded, torch.zeros_like(encoded)
        elif _is_pair(encoded):
            mean, sigma = encoded
        else:
            raise InputError(
                f"encoder returned {_described(encoded)}; expected latents or a pair (mean, sigma) of tensors"
            )
        if mean.shape != sigma.shape or mean.shape[:1] != images.shape[:1]:
            found = "" if isinstance(encoded, Tensor) else f" and sigma {tuple(sigma.shape)}"
            raise InputError(
                f"encoder returned latents {tuple(mean.shape)}{found} for {len(images)} images; expected a "
                f"latent for every image, ({len(images)}, ...), and sigma of the same shape"
            )
        return mean, sigma

    def _decoded(self, latents: Tensor) -> Tensor:
        """Images (n, C, H, W) of latents (n, *latent_shape), in one batch and with gradients."""
        name = type(self.decoder).__name__
        expected = (len(latents), *self.image_shape)
        try:
            images = self.decoder(latents)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"decoder {name} failed on latents {tuple(latents.shape)}: {' '.join(str(error).split())}; "
                f"expected images {expected}; give the decoder of these latents"
            ) from error
        if not isinstance(images, Tensor) or images.shape != expected:
            raise InputError(
                f"decoder {name} returned {_described(images)} for latents {tuple(latents.shape)}; expected "
                f"a tensor {expected}, an image for every latent"
            )
        # Training has its own check, of the loss.
        if torch.is_inference_mode_enabled() and not bool(images.isfinite().all()):
            wrong = ~images.isfinite().flatten(1).all(1)
            raise InputError(
                f"decoder {name} gave NaN or infinity in {int(wrong.sum())} of {len(wrong)} images; expected "
                "finite numbers; check the decoder's weights and that these are its latents"
            )
        return images


def check_posterior(subject: str, mean: np.ndarray, sigma: np.ndarray) -> None:
    """Raise ``InputError`` about ``subject`` unless mean and sigma (N, ...) are finite and sigma is >= 0."""
    finite = ("NaN or infinity", "expected finite numbers")
    _check_rows(f"{subject} mean has", np.isfinite(mean), *finite)
    _check_rows(f"{subject} sigma has", np.isfinite(sigma), *finite)
    deviations = "expected standard deviations, not logarithms of variances"
    _check_rows(f"{subject} sigma is", np.asarray(sigma) >= 0, "negative", deviations)


def _check_rows(subject: str, valid: np.ndarray, found: str, expected: str) -> None:
    wrong = np.asarray(~valid.all(axis=tuple(range(1, valid.ndim))))
    if wrong.any():
        raise InputError(
            f"{subject} {found} in {wrong.sum()} of {len(wrong)} images, first in image {wrong.argmax()}; "
            f"{expected}"
        )


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(each, Tensor) for each in value)
    )


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return (
            f"a {type(value).__name__} of {len(value)} ({', '.join(type(each).__name__ for each in value)})"
        )
    return f"a {type(value).__name__}"
