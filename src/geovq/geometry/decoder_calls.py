"""A decoder as lengths need it: in eval mode, without gradients, a batch at a time, checked and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from geovq.errors import InputError
from geovq.geometry.jacobian_products import has_derivative, jvp

Decoder = nn.Module | Callable[[Tensor], Tensor]
"""Latents (N, *latent_shape) -> images (N, ...), row by row in eval mode."""

LARGEST_BATCH, NUMBERS_A_BATCH = 128, 2**22  # of latents, and of output numbers: more would leave the cache
SMALLEST_PROBABILITY = 1e-6
DIFFERENTIABLE = "PyTorch operations from latents to images, all with forward derivatives"


class DecoderCalls:
    """Calls of one decoder, all inside ``with calls.running()``; the features of an image are its numbers.

    They run on the device of the decoder's weights (the CPU if it has none), in float64 if the weights are,
    else in float32. Latents (b, *latent_shape) come with the numbers of the images that they belong to, int64
    (b,), by which an ``InputError`` names the first one that the decoder failed on.

    Parameters
    ----------
    decoder : module or function
    first : a latent (1, *latent_shape), to try the decoder on
    subject : what messages begin with, such as ``"edges 'chord'"``

    Attributes
    ----------
    decodes : latents decoded so far
    jvps : Jacobian-vector products taken so far
    """

    def __init__(self, decoder: Decoder, first: Tensor, subject: str = "") -> None:
        self.decoder = decoder
        self.subject = subject
        self.decodes = 0
        self.jvps = 0
        self._first = first
        self._n_features: int | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Eval mode, no gradients, no autocast; afterwards every part of the decoder has its mode again."""
        parts = list(self._module.modules())
        modes = [part.training for part in parts]
        try:
            self._module.eval()
            with torch.no_grad(), torch.autocast(self._placement[0].type, enabled=False):
                yield
        finally:
            for part, mode in zip(parts, modes, strict=True):
                part.training = mode

    def check(self) -> None:
        """Decode the first latent. Raises ``InputError`` if the decoder does not take it."""
        try:
            features = self.features(self._first.clone(), torch.zeros(1, dtype=torch.int64))
        except (RuntimeError, TypeError) as error:
            raise self._refusal(
                f"failed on a latent of shape {tuple(self._first.shape[1:])}: {_one_line(error)}",
                "expected latents (N, ...) -> images (N, ...); give the decoder of these latents",
            ) from error
        self._n_features = features.shape[1]

    @property
    def n_features(self) -> int:
        """Features of an image, P."""
        if self._n_features is None:
            self.check()
        assert self._n_features is not None
        return self._n_features

    @property
    def batch(self) -> int:
        """How many latents to pass at once."""
        return max(1, min(LARGEST_BATCH, NUMBERS_A_BATCH // max(1, self.n_features)))

    def features(self, latents: Tensor, images: Tensor) -> Tensor:
        """Features of the decoded latents, (b, P)."""
        self.decodes += len(latents)
        return self._decoded(self._placed(latents), images)

    def products(self, latents: Tensor, tangents: Tensor, images: Tensor) -> Tensor:
        """The features' Jacobian at every latent times its t tangents (t, b, *latent_shape): (t, b, P)."""
        points, directions = self._placed(latents), self._placed(tangents)

        def pushed(direction: Tensor) -> Tensor:
            return jvp(lambda latents: self._decoded(latents, images), points, direction)

        self.jvps += len(directions) * len(points)
        chunk_size = max(1, self.batch // len(latents))
        try:
            if len(directions) == 1:  # without vmap, which not every decoder can run under
                products = pushed(directions[0])[None]
            else:
                products = torch.func.vmap(pushed, chunk_size=chunk_size)(directions)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # NotImplementedError is one
            raise self._refusal(
                f"has no forward derivative: {_one_line(error)}", f"expected {DIFFERENTIABLE}"
            ) from error
        self._check_finite(products.movedim(1, 0), images, "the derivative")
        if not bool(products.any()) and not has_derivative(self.decoder, points):
            raise self._refusal(
                "has no derivative: its images do not depend on the latents, or are detached from them",
                f"expected {DIFFERENTIABLE}",
            )
        return products

    def _decoded(self, latents: Tensor, images: Tensor) -> Tensor:
        decoded = self.decoder(latents)
        if not isinstance(decoded, Tensor) or decoded.shape[:1] != latents.shape[:1]:
            found = tuple(decoded.shape) if isinstance(decoded, Tensor) else type(decoded).__name__
            raise self._refusal(
                f"returned {found} for {len(latents)} latents from row {int(images[0])} on",
                f"expected a tensor ({len(latents)}, ...), an image for every latent",
            )
        features = decoded.reshape(len(latents), -1).to(latents.dtype)
        self._check_finite(features, images, "the image")
        return self._features(features, images)

    def _features(self, numbers: Tensor, images: Tensor) -> Tensor:
        return numbers

    def _check_finite(self, values: Tensor, images: Tensor, what: str) -> None:
        self._check_rows(
            values.isfinite().flatten(1).all(1), images, f"NaN or infinity in {what}", "finite numbers"
        )

    def _check_rows(self, valid: Tensor, images: Tensor, found: str, expected: str) -> None:
        if not bool(valid.all()):
            row = int(images[int((~valid).nonzero()[0, 0])])
            raise self._refusal(
                f"gave {found} of latent row {row}",
                f"expected {expected}; check the decoder's weights and that these are its latents",
            )

    def _refusal(self, found: str, expected: str) -> InputError:
        name = getattr(self.decoder, "__name__", type(self.decoder).__name__)
        before = f"{self.subject}: " if self.subject else ""
        return InputError(f"{before}decoder {name} {found}; {expected}")

    def _placed(self, latents: Tensor) -> Tensor:
        device, dtype = self._placement
        return latents.to(device, dtype)

    @property
    def _module(self) -> nn.Module:
        """The module whose mode counts; a bound method, such as ``model.decode``, has one too."""
        owner = getattr(self.decoder, "__self__", None)
        module = next((part for part in (self.decoder, owner) if isinstance(part, nn.Module)), None)
        return nn.Module() if module is None else module

    @property
    def _placement(self) -> tuple[torch.device, torch.dtype]:
        weights = chain(self._module.parameters(), self._module.buffers())
        none = torch.empty(0, dtype=torch.float32, device="cpu")
        weight = next((weight for weight in weights if weight.is_floating_point()), none)
        return weight.device, torch.float64 if weight.dtype == torch.float64 else torch.float32


class BernoulliCalls(DecoderCalls):
    """Calls of a decoder of Bernoulli means p; the features of an image are its angles 2 arcsin sqrt(p).

    Their Euclidean distance is the Fisher-Rao distance of independent pixels. The derivative of an angle is
    infinite at p = 0 and 1, so p is held in [1e-6, 1 - 1e-6].
    """

    def _features(self, numbers: Tensor, images: Tensor) -> Tensor:
        inside = ((numbers >= 0) & (numbers <= 1)).all(1)
        self._check_rows(inside, images, "numbers outside [0, 1] in the image", "Bernoulli means")
        p = numbers.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        # arcsin sqrt(p), without its loss of digits near p = 1.
        return 2 * torch.atan2(p.sqrt(), (1 - p).sqrt())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
