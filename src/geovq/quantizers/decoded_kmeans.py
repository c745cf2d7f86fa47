"""k-means on what a decoder makes of the points: the control of every geometry that a decoder induces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.geometry import snap_to_points
from geovq.geometry.decoder_calls import Decoder, DecoderCalls
from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.validation import check_count
from geovq.search import MAX_POINTS_PER_CODE, cell_means, kmeans, nearest_codes, sample_rows

MAX_NUMBERS = 2**27  # of all images decoded to fit: 0.5 GB in float32
SAME_IMAGE = 1e-2  # of its largest number: how far another device or precision may take an image


class DecodedKMeansQuantizer(Quantizer):
    """k-means of decoded points: no geometry of the latents at all.

    Since a mean of images has no latent, the code of a cell is the mean of the cell's latents or, if its
    image is nearer to the mean image, one of the cell's points. A new point is decoded and gets the code of
    the nearest image, which is the best one that there is for the squared error of its image.

    Without a decoder this is ``KMeansQuantizer``, and with a linear one k-means of the images. Points are
    whole latents. At most 1,024 of them a code are used, and no more than give 2^27 numbers of images.

    Parameters
    ----------
    n_codes : K
    decoder : module or function, latents (n, d) -> images (n, ...), row by row in eval mode; ``None`` for
        points that are to be compared as they are. It is not saved: after ``load``, coding needs it again, by
        ``set_params(decoder=...)``; looking codes up does not
    n_iterations : Lloyd iterations
    random_state : seed, or ``np.random.RandomState``, of the start

    Attributes
    ----------
    codebook_ : (K, d), in the dtype of the fitted X
    decoded_ : float32 (K, P), the images of the codes; with a decoder alone
    needs_decoder_ : whether it was fitted with a decoder

    Raises
    ------
    InputError
        By fit and coding, if the decoder gives anything but one finite image for every point; by coding, if
        it is not the decoder of the fit, or there is none.
    """

    codebook_: np.ndarray
    decoded_: np.ndarray
    needs_decoder_: bool

    def __init__(
        self,
        n_codes: int = 8,
        decoder: Decoder | None = None,
        n_iterations: int = 25,
        random_state: Any = None,
    ) -> None:
        self.n_codes = n_codes
        self.decoder = decoder
        self.n_iterations = n_iterations
        self.random_state = random_state

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        check_count("n_iterations", self.n_iterations)
        self.needs_decoder_ = self.decoder is not None
        if self.decoder is None:
            self.codebook_ = kmeans(points, self.n_codes, seed, self.n_iterations)
            return
        calls = ImageCalls(self.decoder, as_tensor(points[:1]))
        most = max(self.n_codes, MAX_NUMBERS // calls.n_features)
        rows = sample_rows(len(points), min(MAX_POINTS_PER_CODE * self.n_codes, most), seed)
        points = points[rows]
        images = calls.images(points, rows)
        mean_images = kmeans(images, self.n_codes, seed, self.n_iterations)
        cells = nearest_codes(as_tensor(images), as_tensor(mean_images)).numpy()
        members = snap_to_points(images, mean_images, cells)
        means, counts = cell_means(points, cells, self.n_codes)
        means = np.where(counts[:, None] > 0, means, points[members]).astype(points.dtype)
        of_means, of_members = calls.images(means, rows[members]), images[members]
        by_mean = _squares(of_means - mean_images) < _squares(of_members - mean_images)
        self.codebook_ = np.where(by_mean[:, None], means, points[members])
        self.decoded_ = np.where(by_mean[:, None], of_means, of_members)

    def _encode(self, points: Tensor, sigma: Tensor | None, metric: Tensor | None) -> Tensor:
        if self.needs_decoder_ != (self.decoder is not None):
            fitted, found = (
                ("with a", "has none: it is not saved") if self.needs_decoder_ else ("without a", "has one")
            )
            raise InputError(
                f"the quantizer was fitted {fitted} decoder and {found}; fit and assignment use one metric: "
                f"call set_params(decoder={'the decoder of the fit' if self.needs_decoder_ else None})"
            )
        if self.decoder is None:
            return nearest_codes(points, as_tensor(self.codebook_))
        calls = ImageCalls(self.decoder, as_tensor(self.codebook_[:1]))
        self._check_same(calls)
        return calls.nearest(points, as_tensor(self.decoded_))

    def _check_same(self, calls: ImageCalls) -> None:
        """Raise ``InputError`` unless the first code has the image that it had in ``fit``."""
        found = calls.images(self.codebook_[:1], np.zeros(1, dtype=np.int64))[0]
        expected = self.decoded_[0]
        if (
            found.shape == expected.shape
            and np.abs(found - expected).max() <= SAME_IMAGE * np.abs(expected).max()
        ):
            return
        raise InputError(
            f"decoder makes another image, of {len(found)} numbers, of the first code than in fit, of "
            f"{len(expected)}; expected the decoder of the fit with the same weights; fit again with this one"
        )

    def json_params(self) -> dict[str, Any]:
        """Constructor arguments as JSON values; without the decoder."""
        return {**super().json_params(), "decoder": None}


class ImageCalls(DecoderCalls):
    """Calls of a decoder of flat latents, tried on construction.

    Parameters
    ----------
    decoder : module or function
    first : a latent (1, d), to try the decoder on
    """

    def __init__(self, decoder: Decoder, first: Tensor) -> None:
        if not callable(decoder):
            raise InputError(f"decoder is a {type(decoder).__name__}; expected a module or function")
        super().__init__(decoder, first)
        with self.running():
            self.check()

    def images(self, latents: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Images float32 (n, P) of ``latents (n, d)``; ``rows (n,)`` name them in messages."""
        images = np.empty((len(latents), self.n_features), dtype=np.float32)
        with self.running():
            for start in range(0, len(latents), self.batch):
                part = slice(start, start + self.batch)
                features = self.features(as_tensor(latents[part]), as_tensor(rows[part]))
                images[part] = features.cpu().numpy()
        return images

    def nearest(self, latents: Tensor, images: Tensor) -> Tensor:
        """For ``latents (n, d)`` the nearest of ``images (K, P)`` to theirs, int64 (n,), on their device."""
        codes = torch.empty(len(latents), dtype=torch.int64, device=latents.device)
        rows = torch.arange(len(latents))
        with self.running():
            for start in range(0, len(latents), self.batch):
                part = slice(start, start + self.batch)
                codes[part] = nearest_codes(self.features(latents[part], rows[part]), images).to(codes.device)
        return codes


def _squares(differences: np.ndarray) -> np.ndarray:
    return np.square(differences, dtype=np.float64).sum(1)
