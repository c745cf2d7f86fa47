"""Gradient clipping bounds what the optimizer sees, and leaves what is within the bound alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trainings import CONFIG, digits, new_model, weights_digest
from torch import Tensor, nn

from geovq.config import TrainConfig
from geovq.errors import ConfigError
from geovq.training import TensorSource, fit


class Slope(nn.Module):
    """Two numbers whose gradient is the mean row (2,) of a batch; both fall for ever if rows are positive."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        first, second = batch[0].mean(0)
        return {"total": first * self.first + second * self.second}


def after_training(rows: Tensor, clip_norm: float) -> list[float]:
    model = Slope()
    config = TrainConfig(2, 1, 0.1, clip_norm=clip_norm)
    result = fit(model, TensorSource(rows), TensorSource(torch.ones(1, 2)), config, seed=0)
    assert result.best_epoch == 2
    return [float(value.detach()) for value in model.parameters()]


positive = st.floats(0.01, 1e3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=8), st.floats(0.1, 100))
def test_clipping_trains_as_gradients_cut_to_the_bound_would(gradients, bound):
    rows = torch.tensor(gradients)
    cut = rows * (bound / rows.norm(dim=1, keepdim=True)).clamp_max(1)
    assert after_training(rows, bound) == pytest.approx(after_training(cut, 0.0), rel=1e-4)


def test_a_spike_throws_the_weights_less_far():
    gradients = torch.ones(40, 2)
    gradients[7] = 1e4
    with_spike, clipped = after_training(gradients, 0.0), after_training(gradients, 2.0)
    without = after_training(torch.ones(40, 2), 0.0)
    assert clipped == pytest.approx(without, rel=0.1)
    assert with_spike != pytest.approx(without, rel=0.3)


def lengths_seen(monkeypatch, clip_norm: float) -> tuple[list[float], str]:
    """Length of the gradient at every update, and a digest of the weights at the end."""
    lengths = []
    step = torch.optim.AdamW.step

    def record(optimizer, *arguments, **named):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        lengths.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))
        return step(optimizer, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", record)
        model = new_model("vqvae")
        fit(model, *digits(), replace(CONFIG, clip_norm=clip_norm), seed=0)
    return lengths, weights_digest(model)


def test_no_gradient_is_longer_than_the_bound(monkeypatch):
    free, _ = lengths_seen(monkeypatch, 0.0)
    bound = sorted(free)[len(free) // 2]
    clipped, _ = lengths_seen(monkeypatch, bound)
    assert max(free) > 1.01 * bound
    assert max(clipped) <= bound * (1 + 1e-6)


def test_a_bound_that_no_gradient_reaches_changes_no_byte(monkeypatch):
    assert lengths_seen(monkeypatch, 1e6) == lengths_seen(monkeypatch, 0.0)


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_a_bound_below_0_is_refused(value):
    with pytest.raises(ConfigError, match=f"clip_norm is {value}; expected 0 or more"):
        TrainConfig(epochs=1, clip_norm=value)
