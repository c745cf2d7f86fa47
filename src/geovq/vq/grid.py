"""What all layers share whose codes are the points of a fixed grid: nothing to learn, start or revive."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from geovq.errors import InputError
from geovq.seeding import seeded_weights
from geovq.vq.distributed import summed
from geovq.vq.estimators import straight_through
from geovq.vq.layer import QuantizerLayer, checked_tokens
from geovq.vq.quantized import Quantized
from geovq.vq.watch import Watch

MOST_BITS = 18  # of one alphabet: every code is counted, and a prior has an output for each
MOST_CODES = 2**MOST_BITS
SMALLEST_DEVIATION = 1e-8  # of a channel over the first batch: below it there is nothing to scale


class GridLayer(QuantizerLayer):
    """A vector's channels are quantized one by one; the code is their digits as one number.

    The number has mixed radix, the first channel its lowest digit. Where the vectors do not have as many
    dimensions as the grid has channels, a learnt affine map leads to the channels and another one back. A new
    encoder's vectors are often so small, or so far off, that all of them fall to one code and none of their
    gradients tells them apart; so every channel has a learnt scale and shift, which start as those that give
    it mean 0 and deviation 1 in the first training batch (as in Kingma & Dhariwal, "Glow", 2018, section
    3.1).

    A subclass says where in the grid a vector lies (``_place``), which digits are nearest (``_digits``),
    which point they stand for (``_points``), and what is minimised (``_loss``). All of it is in float32 and
    int64 whatever the precision around it. What ``stats`` tells of latents and codes is measured in the grid.

    Parameters
    ----------
    dim : vector length d.
    levels : digits of every channel, 2 or more each.
    start : ``batch`` as above, or ``none``: the channels as they are, as published.
    seed : of the maps' first weights.
    """

    levels: Tensor
    place_values: Tensor
    started: Tensor
    project_in: nn.Linear | None
    project_out: nn.Linear | None
    scale: nn.Parameter | None
    shift: nn.Parameter | None

    def __init__(
        self, dim: int, levels: Sequence[int], *, start: Literal["batch", "none"], seed: int
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if dim < 1:
            raise InputError(f"{name}: dim is {dim}; expected at least 1")
        n_codes, n_channels = math.prod(levels), len(levels)
        if n_codes > MOST_CODES:
            raise InputError(
                f"{name}: levels {list(levels)} give {n_codes} codes; expected at most {MOST_CODES}; cut "
                "latents into more tokens of fewer codes"
            )
        if start not in ("batch", "none"):
            raise InputError(f"{name}: start is '{start}'; expected 'batch' or 'none'")
        self.dim, self._n_codes, self.seed = dim, n_codes, seed
        # Integers, for a model cast to half precision would round floats; constants, so not in the state.
        place_values = [math.prod(levels[:channel]) for channel in range(n_channels)]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("place_values", torch.tensor(place_values), persistent=False)
        self.project_in = self.project_out = None
        if dim != n_channels:
            with seeded_weights(seed, "projections of a grid"):
                self.project_in = nn.Linear(dim, n_channels)
                self.project_out = nn.Linear(n_channels, dim)
        self.scale = self.shift = None
        if start == "batch":
            self.scale = nn.Parameter(torch.ones(n_channels))
            self.shift = nn.Parameter(torch.zeros(n_channels))
        self.register_buffer("started", torch.tensor(start == "none"))
        self.watch = Watch(n_codes, n_channels)

    @property
    def n_codes(self) -> tuple[int, ...]:
        """``(K,)``, K the product of the levels."""
        return (self._n_codes,)

    @property
    def codebook(self) -> Tensor:
        """The vectors of all codes (K, d), computed."""
        return self.lookup(torch.arange(self._n_codes, device=self.levels.device))

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (...).

        Raises ``InputError`` if a code is negative or not below K.
        """
        if not torch.compiler.is_compiling() and not bool(((codes >= 0) & (codes < self._n_codes)).all()):
            raise InputError(
                f"{type(self).__name__}: codes reach from {int(codes.min())} to {int(codes.max())}; expected "
                f"0 to {self._n_codes - 1}"
            )
        digits = codes[..., None] // self.place_values % self.levels
        with torch.autocast(codes.device.type, enabled=False):
            return self._out_of_grid(self._points(digits))

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z (..., d)``.

        Raises ``InputError`` if ``z`` is empty, has another width or is not finite.
        """
        flat = checked_tokens(type(self).__name__, z, self.dim)
        with torch.autocast(z.device.type, enabled=False):
            placed = self._place(self._into_grid(flat))
            digits = self._digits(placed.detach())
            codes = (digits * self.place_values).sum(1)
            points = self._points(digits)
            z_q = straight_through(placed, points)
            if self.project_out is not None:
                z_q = functional.linear(z_q, self.project_out.weight.float(), self.project_out.bias.float())
                if not self.training:
                    # A product of other rows may round otherwise.
                    z_q = straight_through(z_q, self._out_of_grid(points))
            loss = self._loss(placed, points)
            _, stats = self.watch(placed.detach(), points, codes)
        return Quantized(z_q.reshape(z.shape), codes.reshape(z.shape[:-1]), loss, stats)

    @abstractmethod
    def _place(self, channels: Tensor) -> Tensor:
        """Positions (n, c) in the grid of the values (n, c) of the channels, in the graph."""

    @abstractmethod
    def _digits(self, placed: Tensor) -> Tensor:
        """Digits int64 (n, c) of positions (n, c), from 0."""

    @abstractmethod
    def _points(self, digits: Tensor) -> Tensor:
        """Grid points float32 (..., c) of digits (..., c)."""

    @abstractmethod
    def _loss(self, placed: Tensor, points: Tensor) -> Tensor:
        """What the layer adds to a model's loss, summed over channels and averaged over vectors."""

    def _into_grid(self, flat: Tensor) -> Tensor:
        channels = flat
        if self.project_in is not None:
            channels = functional.linear(flat, self.project_in.weight.float(), self.project_in.bias.float())
        if self.scale is None or self.shift is None:
            return channels
        if self.training and not bool(self.started):
            self._standardise(channels.detach(), self.scale, self.shift)
        return channels * self.scale.float() + self.shift.float()

    @torch.no_grad()
    def _standardise(self, channels: Tensor, scale: nn.Parameter, shift: nn.Parameter) -> None:
        n = summed(torch.tensor(float(len(channels)), device=channels.device))
        mean = summed(channels.sum(0)) / n
        deviation = (summed((channels - mean).square().sum(0)) / n).sqrt()
        scale.copy_(torch.where(deviation > SMALLEST_DEVIATION, 1 / deviation, 1.0))
        shift.copy_(-mean * scale)
        self.started.fill_(True)

    def _out_of_grid(self, points: Tensor) -> Tensor:
        """Vectors (..., d) of grid points (..., c), the same whatever points stand beside them."""
        if self.project_out is None:
            return points
        # Channel by channel: a matrix product rounds differently for other numbers of rows, and the vector
        # of a code would depend on the batch.
        vectors = self.project_out.bias.float()
        for channel, column in zip(points.unbind(-1), self.project_out.weight.float().unbind(1), strict=True):
            vectors = vectors + channel[..., None] * column
        return vectors
