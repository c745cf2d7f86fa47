"""The moving average of weights: its numbers, and what of a training it replaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trainings import AVERAGED, CONFIG, digits, new_model, weights_digest
from torch import nn

from geovq.config import TrainConfig
from geovq.data import BatchOrder
from geovq.errors import ConfigError
from geovq.models.weights import arrays_of
from geovq.seeding import torch_generator
from geovq.training import fit
from geovq.training.averaging import WeightAverage
from geovq.training.schedule import warmup_cosine

N_STEPS = 15


class Mixed(nn.Module):
    """A parameter, a floating buffer, a count and a flag, all of which ``move`` sets."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 3))
        self.frozen = nn.Parameter(torch.full((2,), 0.1), requires_grad=False)
        self.register_buffer("codebook", torch.zeros(4))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def move(self, generator: np.random.Generator) -> None:
        self.weight.copy_(torch.from_numpy(generator.normal(size=(2, 3))))
        self.codebook = torch.from_numpy(generator.normal(size=4)).float()  # a new tensor, as layers may set
        self.count += 7
        self.started.fill_(True)


def recurrence(start: np.ndarray, values: list[np.ndarray], decay: float) -> np.ndarray:
    average = start.astype(np.float64)
    for step, value in enumerate(values):
        weight = min(decay, (1 + step) / (10 + step))
        average = weight * average + (1 - weight) * value
    return average


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 0.999), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_the_average_follows_its_recurrence(decay, n_steps, seed):
    model, generator = Mixed(), np.random.default_rng(seed)
    start, average, visited = arrays_of(model), WeightAverage(model, decay), []
    for step in range(n_steps):
        model.move(generator)
        average.update(model, step)
        visited.append(arrays_of(model))
    found = average.arrays()
    for name in ("weight", "codebook"):
        expected = recurrence(start[name], [values[name] for values in visited], decay)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(found["frozen"], start["frozen"])
    assert found["count"] == 7 * n_steps
    assert found["count"].dtype == np.int64
    assert found["started"].dtype == bool
    assert found["started"]


def test_the_average_is_carried_inside_the_block_alone():
    model, generator = Mixed(), np.random.default_rng(0)
    average = WeightAverage(model, 0.9)
    model.move(generator)
    average.update(model, 0)
    own, averaged = arrays_of(model), average.arrays()
    with pytest.raises(KeyError), average.applied(model):
        np.testing.assert_equal(arrays_of(model), averaged)
        raise KeyError
    np.testing.assert_equal(arrays_of(model), own)
    np.testing.assert_equal(average.arrays(), averaged)
    assert not np.array_equal(own["weight"], averaged["weight"])


def test_an_average_goes_on_from_its_arrays():
    model, generator = Mixed(), np.random.default_rng(1)
    first = WeightAverage(model, 0.9)
    model.move(generator)
    first.update(model, 0)
    second = WeightAverage(Mixed(), 0.9)
    second.load(first.arrays())
    model.move(generator)
    for average in (first, second):
        average.update(model, 1)
    np.testing.assert_equal(first.arrays(), second.arrays())


class Trained:
    """A small VQ-VAE's training: its weights after every step, and what every epoch was told with."""

    def __init__(self, config: TrainConfig) -> None:
        self.model = new_model("vqvae")
        self.steps = [arrays_of(self.model)]
        self.epochs: list[dict[str, np.ndarray]] = []
        self.losses: list[float] = []
        self.validation = digits()[1]
        self.result = fit(
            self.model,
            *digits(),
            config,
            seed=5,
            progress=lambda *_: self.steps.append(arrays_of(self.model)),
            on_epoch=self.listen,
        )

    @torch.no_grad()
    def listen(self, epoch: int, model: nn.Module) -> None:
        assert epoch == len(self.epochs)
        assert not any(module.training for module in model.modules())
        self.epochs.append(arrays_of(model))
        (images,) = self.validation.tensors
        whole = model.loss((images,), torch.Generator())
        self.losses.append(float(whole["total"]))

    def validated(self) -> list[float]:
        rows = self.result.log
        return [row["value"] for row in rows if (row["split"], row["name"]) == ("validation", "total")]


@pytest.fixture(scope="module")
def plain() -> Trained:
    return Trained(CONFIG)


@pytest.fixture(scope="module")
def averaged() -> Trained:
    return Trained(replace(AVERAGED, clip_norm=0.0))


def test_averaging_leaves_the_weights_in_training_as_they_are(plain, averaged):
    assert len(plain.steps) == N_STEPS + 1
    np.testing.assert_equal(averaged.steps, plain.steps)


def test_epochs_are_told_of_with_the_average_of_the_steps_so_far(averaged):
    for epoch, told in enumerate(averaged.epochs):
        steps = averaged.steps[: 1 + epoch * N_STEPS // 3]
        for name, value in told.items():
            if np.issubdtype(value.dtype, np.floating):
                expected = recurrence(steps[0][name], [step[name] for step in steps[1:]], AVERAGED.ema_decay)
                np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
            else:
                assert np.array_equal(value, steps[-1][name])


@pytest.mark.parametrize("name", ["plain", "averaged"])
def test_an_epoch_is_told_of_with_the_weights_that_were_validated(name, request):
    trained = request.getfixturevalue(name)
    assert len(trained.losses) == 4
    assert trained.losses == pytest.approx(trained.validated(), rel=1e-5)
    assert len(set(trained.losses)) == 4


@pytest.mark.parametrize("name", ["plain", "averaged"])
def test_the_best_weights_told_of_are_those_left_in_the_model(name, request):
    trained = request.getfixturevalue(name)
    assert trained.result.best_epoch == np.argmin(trained.validated())
    np.testing.assert_equal(arrays_of(trained.model), trained.epochs[trained.result.best_epoch])


def test_the_average_is_what_differs(plain, averaged):
    assert plain.validated()[0] == averaged.validated()[0]
    assert not set(plain.validated()[1:]) & set(averaged.validated()[1:])
    assert weights_digest(plain.model) != weights_digest(averaged.model)


def test_without_average_and_clipping_every_step_is_the_plain_one(plain):
    (images,) = digits()[0].tensors
    model = new_model("vqvae").train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=CONFIG.weight_decay)
    order = BatchOrder(len(images), CONFIG.batch_size, 5)
    for step in range(N_STEPS):
        optimizer.param_groups[0]["lr"] = CONFIG.learning_rate * warmup_cosine(step, N_STEPS, 2)
        terms = model.loss((images[order.indices(step)],), torch_generator(5, "loss", step))
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        np.testing.assert_equal(arrays_of(model), plain.steps[step + 1])


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(value):
    with pytest.raises(ConfigError, match=f"ema_decay is {value}; expected at least 0 and below 1"):
        TrainConfig(epochs=1, ema_decay=value)
