"""Lookup-free quantization: the code is the signs of the channels.

Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (2023), section 3.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from geovq.errors import InputError
from geovq.vq.entropy import REGULARISED_VECTORS
from geovq.vq.estimators import mean_squared_distance
from geovq.vq.grid import MOST_BITS, GridLayer


class LFQ(GridLayer):
    """``q = sign(z)`` in {-1, 1}^b with sign(0) = 1, straight-through gradient, commitment, entropy penalty.

    ``loss = commitment |z - sg(q)|^2 + entropy (E[H(p)] + gamma (b ln 2 - H(E[p])))`` in nats (equation 5),
    for ``p(c | z)`` proportional to ``exp(-|z - c|^2 / temperature)``: vectors far from where a bit flips,
    and all codes used alike. The constant ``b ln 2``, which is not in the paper, lets the ideal loss be 0
    rather than negative. H(p) is exact, a sum over bits; H(E[p]) is exact up to ``bits_together`` bits, and
    beyond it a sum over groups of at most so many, which is an upper bound. Both are of the vectors of one
    process, at most 4,095 of them.

    The penalty acts on values near 0 alone, about as wide as the temperature; that the channels are
    standardised keeps them in its reach.

    Parameters
    ----------
    dim : vector length d.
    n_bits : b, 1 to 18; where it is not d, learnt affine maps stand before and after. d if not given.
    commitment : weight of ``|z - sg(q)|^2``, which acts on the encoder alone. The usual 0.25 is of the mean
        over bits, 0.25 / b of this sum; as the sum's weight it fixes signs before they mean anything.
    entropy : weight of the entropy penalty.
    gamma : weight of the codes' even use within it.
    temperature : of p, in squared units of z.
    decay : of the channels' moving mean and deviation; 1 leaves the channels as they are, as published.
    seed : of the maps' first weights.
    """

    bits_together = 10  # 2^10 probabilities a vector

    def __init__(
        self,
        dim: int,
        *,
        n_bits: int | None = None,
        commitment: float = 0.02,
        entropy: float = 0.1,
        gamma: float = 1.0,
        temperature: float = 0.01,
        decay: float = 0.95,
        seed: int = 0,
    ) -> None:
        name = type(self).__name__
        n_bits = dim if n_bits is None else n_bits
        if not 1 <= n_bits <= MOST_BITS:
            raise InputError(
                f"{name}: n_bits is {n_bits}; expected 1 to {MOST_BITS}; set n_bits, which is dim otherwise, "
                "or cut latents into more tokens of fewer bits"
            )
        for what, weight in (("commitment", commitment), ("entropy", entropy), ("gamma", gamma)):
            if not 0 <= weight < math.inf:
                raise InputError(f"{name}: {what} is {weight}; expected a weight of at least 0")
        if not temperature > 0:
            raise InputError(f"{name}: temperature is {temperature}; expected above 0")
        super().__init__(dim, [2] * n_bits, decay=decay, seed=seed)
        self.commitment, self.entropy, self.gamma, self.temperature = commitment, entropy, gamma, temperature
        self.corner = self._corner(n_bits)

    def _corner(self, n_bits: int) -> float:
        """The size of every coordinate of a code."""
        return 1.0

    def _place(self, channels: Tensor) -> Tensor:
        return channels

    def _digits(self, placed: Tensor) -> Tensor:
        return (placed >= 0).long()

    def _points(self, digits: Tensor) -> Tensor:
        return (2 * digits - 1).float() * self.corner

    def _loss(self, placed: Tensor, points: Tensor) -> Tensor:
        loss = self.commitment * mean_squared_distance(placed, points)
        if self.entropy:
            some = placed[:: max(1, len(placed) // REGULARISED_VECTORS)]
            # -|z - c|^2 differs by 4 z_d |c_d| between the two signs of c_d.
            log_odds = some * (4 * self.corner / self.temperature)
            doubt = entropy_of_bits(log_odds)
            unused = log_odds.shape[1] * math.log(2) - entropy_of_use(log_odds, self.bits_together)
            loss = loss + self.entropy * (doubt + self.gamma * unused)
        return loss


def entropy_of_bits(log_odds: Tensor) -> Tensor:
    """``E[H(p)]`` in nats for independent bits of these log-odds (n, b): summed over b, averaged over n."""
    size = log_odds.abs()
    return (functional.softplus(-size) + size * (-size).sigmoid()).sum(1).mean()


def entropy_of_use(log_odds: Tensor, bits_together: int) -> Tensor:
    """``H(E[p])`` in nats for log-odds (n, b), summed over groups of at most ``bits_together`` bits."""
    n_groups = math.ceil(log_odds.shape[1] / bits_together)
    entropies = [_joint_entropy(group) for group in log_odds.tensor_split(n_groups, dim=1)]
    return torch.stack(entropies).sum()


def _joint_entropy(log_odds: Tensor) -> Tensor:
    places = torch.arange(log_odds.shape[1], device=log_odds.device)
    codes = torch.arange(2 ** log_odds.shape[1], device=log_odds.device)
    bits = (codes[:, None] >> places & 1).to(log_odds)
    average = (log_odds @ bits.T).softmax(1).mean(0)
    return -(average * average.clamp_min(torch.finfo(average.dtype).tiny).log()).sum()
