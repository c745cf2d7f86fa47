"""A moving average of a model's weights, which is often better than the weights of any one step.

Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992); exponential, as in
TensorFlow's ``ExponentialMovingAverage``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of everything that ``model.state_dict()`` names; it starts at the model.

    After the update of step ``t``, counted from 0, the average ``a`` of floating-point numbers ``w`` becomes
    ``d a + (1 - d) w`` with ``d = min(decay, (1 + t) / (10 + t))``: TensorFlow's ``num_updates`` rule, which
    forgets the start soon. Buffers count as parameters do, for they may hold a codebook; whole numbers and
    flags, such as counts of steps, are copied.

    Parameters
    ----------
    model : its parameters and buffers are read and never changed, but inside ``applied``.
    decay : weight of the past once ``t`` is large, at least 0 and below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = _copies(model)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights that ``model`` has after the update of ``step``."""
        floating: tuple[list[Tensor], list[Tensor]] = ([], [])
        for name, value in model.state_dict().items():
            average = self.values[name]
            if average.is_floating_point():
                floating[0].append(average)
                floating[1].append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(*floating, 1 - min(self.decay, (1 + step) / (10 + step)))

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let ``model`` carry the average inside the block, and its own weights again after it."""
        own = _copies(model)
        model.load_state_dict(self.values)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def arrays(self) -> dict[str, np.ndarray]:
        """The average, under the names of ``model.state_dict()``."""
        return {name: value.cpu().numpy() for name, value in self.values.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``arrays`` gave."""
        for name, value in self.values.items():
            value.copy_(torch.from_numpy(arrays[name]))


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
