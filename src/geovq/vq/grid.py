"""What all layers share whose codes are the points of a fixed grid: nothing to learn, start or revive."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geovq.errors import InputError
from geovq.seeding import seeded_weights
from geovq.vq.distributed import summed
from geovq.vq.estimators import straight_through
from geovq.vq.layer import QuantizerLayer, check_codes, checked_tokens
from geovq.vq.quantized import Quantized
from geovq.vq.watch import Watch

MOST_BITS = 18  # of one alphabet: every code is counted, and a prior has an output for each
MOST_CODES = 2**MOST_BITS
SMALLEST_VARIANCE = 1e-12  # of a channel: below it there is nothing to scale


class GridLayer(QuantizerLayer):
    """A vector's channels are quantized one by one; the code is their digits as one number.

    The number has mixed radix, the first channel its lowest digit. Where the vectors do not have as many
    dimensions as the grid has channels, a learnt affine map leads to the channels and another one back.

    The grid follows the encoder, as a codebook of moving averages does: the channels are standardised by the
    moving mean and deviation of their values, which are constants to the gradient, begin as those of the
    first training batch and stay still in eval mode. Without it the first steps, whose gradient is nearly the
    same for all vectors, carry them all to one side of the grid, where it bounds them and their gradient is
    gone for good.

    A subclass says where in the grid a vector lies (``_place``), which digits are nearest (``_digits``),
    which point they stand for (``_points``), and what is minimised (``_loss``). All of it is in float32 and
    int64 whatever the precision around it. What ``stats`` tells of latents and codes is measured in the grid.

    Parameters
    ----------
    dim : vector length d.
    levels : digits of every channel, 2 or more each.
    decay : weight of the past in the moving mean and deviation; 1 leaves the channels as they are, as
        published.
    seed : of the maps' first weights.
    """

    levels: Tensor
    place_values: Tensor
    started: Tensor
    project_in: nn.Linear | None
    project_out: nn.Linear | None
    mean: Tensor
    variance: Tensor

    def __init__(self, dim: int, levels: Sequence[int], *, decay: float, seed: int) -> None:
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
        if not 0 <= decay <= 1:
            raise InputError(f"{name}: decay is {decay}; expected at least 0 and at most 1")
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
        self.decay = decay
        self.register_buffer("mean", torch.zeros(n_channels))
        self.register_buffer("variance", torch.ones(n_channels))
        self.register_buffer("started", torch.tensor(decay == 1))
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
        check_codes(type(self).__name__, codes, self._n_codes)
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
                weight, bias = self.project_out.weight.float(), self.project_out.bias.float()
                z_q = _Affine.apply(z_q, weight, bias, self._looked_up(codes, points))
            loss = self._loss(placed, points)
            _, stats = self.watch(placed.detach(), points, codes)
        return Quantized(z_q.reshape(z.shape), codes.reshape(z.shape[:-1]), loss, stats)

    @property
    def learns_by_output(self) -> bool:
        """Whether there is a map back to d, which nothing else teaches."""
        return self.project_out is not None

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
        if self.decay == 1:
            return channels
        if self.training:
            self._follow(channels.detach())
        return (channels - self.mean.float()) * self.variance.float().clamp_min(SMALLEST_VARIANCE).rsqrt()

    @torch.no_grad()
    def _follow(self, channels: Tensor) -> None:
        n = summed(torch.tensor(float(len(channels)), device=channels.device))
        mean = summed(channels.sum(0)) / n
        variance = summed((channels - mean).square().sum(0)) / n
        past = torch.where(self.started, self.decay, 0.0)
        self.mean.copy_(mean.lerp(self.mean.float(), past))
        self.variance.copy_(variance.lerp(self.variance.float(), past))
        self.started.fill_(True)

    @torch.no_grad()
    def _looked_up(self, codes: Tensor, points: Tensor) -> Tensor:
        """``lookup(codes)`` of codes (n,) at ``points`` (n, c), by the table if that is smaller."""
        return self.codebook[codes] if self._n_codes < len(codes) else self._out_of_grid(points)

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


class _Affine(torch.autograd.Function):
    """``points @ weight.T + bias`` (n, d), whose ``value`` is known: as a product it would depend on n."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, weight: Tensor, bias: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(points, weight)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        points, weight = ctx.saved_tensors
        return gradient @ weight, gradient.T @ points, gradient.sum(0), None
