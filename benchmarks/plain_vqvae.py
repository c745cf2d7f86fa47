"""The training of a VQ-VAE as it is most often written, for ``vqvae_training.py`` to compare with.

A map-style data set that decodes one image at a time, PyTorch's loader, and the textbook quantizer: all
distances at once, one-hot codes, and matrix products with them. Encoder, decoder and optimizer are GeoVQ's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from geovq.models.blocks import Decoder, Encoder


class DecodedImages(Dataset[Tensor]):
    """Images (N, H, W, C) uint8 in memory; an item is a standardised float32 tensor (C, H, W).

    ``normalization`` holds the channels' means and standard deviations (2, C).
    """

    def __init__(self, pixels: np.ndarray, normalization: Sequence[Sequence[float]]) -> None:
        self.pixels = pixels
        self.mean, self.deviation = torch.tensor(normalization)[:, :, None, None]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        image = Image.fromarray(self.pixels[index])  # what transforms of images take
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return tensor.to(torch.float32).div_(255).sub_(self.mean).div_(self.deviation)


class TextbookVQ(nn.Module):
    """Nearest codes of latent maps (N, d, h, w), learnt by moving averages.

    van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017), appendix A.1, with
    Laplace smoothing of the counts.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, dim: int, n_codes: int, commitment: float = 0.25, decay: float = 0.99) -> None:
        super().__init__()
        self.n_codes, self.commitment, self.decay = n_codes, commitment, decay
        self.register_buffer("codebook", torch.randn(n_codes, dim))
        self.register_buffer("counts", torch.zeros(n_codes))
        self.register_buffer("sums", self.codebook.clone())

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantized maps (N, d, h, w), commitment loss and perplexity."""
        z = latents.permute(0, 2, 3, 1).contiguous()
        flat = z.detach().view(-1, z.shape[-1])
        distances = (
            flat.square().sum(1, keepdim=True) + self.codebook.square().sum(1) - 2 * flat @ self.codebook.T
        )
        codes = distances.argmin(1)
        one_hot = torch.zeros(len(flat), self.n_codes).scatter_(1, codes[:, None], 1)
        quantized = (one_hot @ self.codebook).view(z.shape)
        if self.training:
            self._learn(flat, one_hot)
        loss = self.commitment * functional.mse_loss(z, quantized)
        share = one_hot.mean(0)
        perplexity = (-(share * (share + 1e-10).log()).sum()).exp()
        passed = z + (quantized - z).detach()
        return passed.permute(0, 3, 1, 2).contiguous(), loss, perplexity

    @torch.no_grad()
    def _learn(self, flat: Tensor, one_hot: Tensor) -> None:
        self.counts.mul_(self.decay).add_(one_hot.sum(0), alpha=1 - self.decay)
        self.sums.mul_(self.decay).add_(one_hot.T @ flat, alpha=1 - self.decay)
        n = self.counts.sum()
        smoothed = (self.counts + 1e-5) / (n + self.n_codes * 1e-5) * n
        self.codebook.copy_(self.sums / smoothed[:, None])


class PlainLoop:
    """An encoder, a textbook quantizer and a decoder, and the steps of their training.

    Parameters
    ----------
    encoder, decoder : GeoVQ's; the encoder's own standardisation is left out, as images come standardised.
    quantizer : between the two, in float32 at either precision.
    loader : of ``DecodedImages``.
    learning_rate : of AdamW.
    bfloat16 : whether the networks compute in bfloat16.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        quantizer: TextbookVQ,
        loader: DataLoader[Tensor],
        learning_rate: float,
        bfloat16: bool,
    ) -> None:
        self.encoder, self.decoder, self.quantizer = encoder, decoder, quantizer
        self.bfloat16 = bfloat16
        networks = nn.ModuleList([encoder, decoder, quantizer])
        self.optimizer = torch.optim.AdamW(networks.parameters(), lr=learning_rate, weight_decay=0.0)
        self.losses: list[float] = []
        self._batches = _endless(loader)

    def step(self) -> None:
        """Read a batch and learn from it."""
        loss = self.loss(self.batch())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())

    def batch(self) -> Tensor:
        """The next standardised images (N, C, H, W)."""
        return next(self._batches)

    def loss(self, images: Tensor) -> Tensor:
        """Squared error of standardised images (N, C, H, W) and commitment."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            latents = self.encoder.head(self.encoder.features(images))
            with torch.autocast("cpu", enabled=False):
                quantized, commitment, _ = self.quantizer(latents.float())
            decoded = self.decoder.layers(quantized)
        return functional.mse_loss(decoded.float(), images) + commitment


def _endless(loader: DataLoader[Tensor]) -> Iterator[Tensor]:
    """The batches of one epoch after the other."""
    while True:
        yield from loader
