"""The loop learns, keeps the best epoch, stops in time, and refuses numbers that are not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_trainings import CONFIG, KINDS, digits, new_model, weights_digest
from torch import Tensor, nn

from geovq.config import DataConfig, TrainConfig
from geovq.data import BatchOrder, load
from geovq.errors import ConfigError, TrainingError
from geovq.seeding import seeded_weights
from geovq.training import ImageSource, TensorSource, fit, loop
from geovq.training.schedule import warmup_cosine


class Line(nn.Module):
    """Learns one number; remembers the rows and draws of every training step."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(start))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.seen: list[list[float]] = []
        self.draws: list[float] = []

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        (rows,) = batch
        if self.training:
            self.steps += 1
            self.seen.append(rows.tolist())
            self.draws.append(float(torch.rand((), generator=generator)))
        error = (rows - self.value).square().mean()
        return {"total": error, "double": 2 * error}


class BreaksAt(Line):
    """Its loss, another term or its gradient stops being finite at one training step."""

    def __init__(self, step: int, what: str, value: float) -> None:
        super().__init__()
        self.at, self.what, self.bad = step, what, value

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        terms = {**super().loss(batch, generator), "bce_nats": self.value * 0.0, "stat": torch.tensor(1.0)}
        if self.steps != self.at + 1 or not self.training:
            return terms
        if self.what == "gradient":
            # The derivative of sqrt at 0 is infinite, and 0 times that is not a number.
            return {**terms, "total": terms["total"] + (self.value * 0).sqrt()}
        return {
            **terms,
            "total": terms["total"] + self.bad * (self.what != "stat"),
            self.what: terms[self.what] + self.bad,
        }


def rows(*values: float) -> TensorSource:
    return TensorSource(torch.tensor(values))


def logged(result, split: str, name: str = "total") -> list[float]:
    return [row["value"] for row in result.log if row["split"] == split and row["name"] == name]


@pytest.mark.parametrize("kind", KINDS)
def test_an_autoencoder_learns_digits(kind):
    splits = load(DataConfig("digits"))
    model = new_model(kind)
    config = TrainConfig(epochs=4, batch_size=64, learning_rate=5e-3)
    result = fit(model, ImageSource(splits.train), ImageSource(splits.validation), config, seed=0)
    losses = logged(result, "validation")
    assert len(losses) == 5
    assert losses[-1] < 0.75 * losses[0]
    assert logged(result, "train")[-1] < logged(result, "train")[0]
    assert result.epochs == 4
    assert result.best_epoch == np.argmin(losses)
    assert not model.training


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_names_every_term_of_every_epoch(kind):
    train, validation = digits()
    result = fit(new_model(kind), train, validation, CONFIG, seed=0)
    assert [row.keys() for row in result.log] == [{"epoch", "split", "name", "value"}] * len(result.log)
    terms = {"vae": {"total", "bce_nats", "kl_nats"}, "vqvae": {"total", "bce_nats", "commitment"}}[kind]
    for epoch in range(4):
        for split in ("train", "validation") if epoch else ("validation",):
            names = {row["name"] for row in result.log if (row["epoch"], row["split"]) == (epoch, split)}
            assert terms <= names
            values = {
                row["name"]: row["value"]
                for row in result.log
                if (row["epoch"], row["split"]) == (epoch, split)
            }
            parts = values["bce_nats"] + (0.2 * values["kl_nats"] if kind == "vae" else values["commitment"])
            assert values["total"] == pytest.approx(parts, rel=1e-5)


def test_logged_losses_are_means_over_rows_whatever_the_batches():
    # Batches of 4, 4 and 2: a mean of means would weigh the last one double.
    values = [float(v) for v in range(10)]
    result = fit(Line(), rows(*values), rows(*values), TrainConfig(1, 4, 1e-12), seed=0)
    mean_square = sum(v * v for v in values) / 10
    assert logged(result, "train") == pytest.approx([mean_square])
    assert logged(result, "validation") == pytest.approx([mean_square] * 2)
    assert logged(result, "train", "double") == pytest.approx([2 * mean_square])


def test_batches_are_a_pure_function_of_seed_and_step():
    values = torch.arange(10.0)
    model = Line()
    fit(model, TensorSource(values), TensorSource(values), TrainConfig(2, 4), seed=7)
    order = BatchOrder(10, 4, 7)
    assert model.seen == [values[order.indices(step)].tolist() for step in range(6)]
    for epoch in (model.seen[:3], model.seen[3:]):
        assert sorted(value for batch in epoch for value in batch) == values.tolist()
    assert len(set(model.draws)) == 6


def test_every_epoch_is_validated_with_the_same_draws():
    class Noisy(Line):
        def loss(self, batch, generator):
            noise = torch.rand((), generator=generator)
            return {"total": self.value * 0 + noise}

    result = fit(Noisy(), rows(*range(10)), rows(*range(10)), TrainConfig(3, 4), seed=0)
    assert len(set(logged(result, "validation"))) == 1
    assert len(set(logged(result, "train"))) == 3


def test_the_weights_of_the_best_epoch_are_kept():
    # Training pulls the value from 0 to 10; validation is best on the way, near 1.
    result_values = []

    class Watched(Line):
        def loss(self, batch, generator):
            if not self.training:
                result_values.append(float(self.value.detach()))
            return super().loss(batch, generator)

    model = Watched()
    result = fit(model, rows(10.0), rows(1.0), TrainConfig(epochs=20, learning_rate=0.3), seed=0)
    losses = logged(result, "validation")
    assert 0 < result.best_epoch < 20
    assert result.best_epoch == np.argmin(losses)
    assert float(model.value.detach()) == result_values[result.best_epoch]
    assert model.steps == result.best_epoch


def test_a_model_that_only_gets_worse_is_given_back_as_it_was():
    model = Line(start=1.0)
    result = fit(model, rows(10.0), rows(1.0), TrainConfig(epochs=3, learning_rate=0.3), seed=0)
    assert result.best_epoch == 0
    assert float(model.value.detach()) == 1.0
    assert result.epochs == 3


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_patience_ends_a_training_that_gets_worse(patience):
    result = fit(
        Line(1.0), rows(10.0), rows(1.0), TrainConfig(20, learning_rate=0.3, patience=patience), seed=0
    )
    assert result.epochs == patience
    assert max(row["epoch"] for row in result.log) == patience


def test_patience_counts_from_the_best_epoch():
    result = fit(Line(), rows(10.0), rows(1.0), TrainConfig(40, learning_rate=0.3, patience=3), seed=0)
    assert result.epochs == result.best_epoch + 3 < 40


def test_patience_survives_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    config = TrainConfig(40, learning_rate=0.3, patience=3)
    whole = fit(Line(), rows(10.0), rows(1.0), config, seed=0)

    def stop(done: int, total: int, message: str) -> None:
        if done == whole.best_epoch + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(Line(), rows(10.0), rows(1.0), config, seed=0, checkpoints=tmp_path, progress=stop)
    assert fit(Line(), rows(10.0), rows(1.0), config, seed=0, checkpoints=tmp_path) == whole


def test_progress_hears_of_every_step():
    heard = []
    fit(Line(), rows(*range(10)), rows(1.0), TrainConfig(2, 4), seed=0, progress=lambda *a: heard.append(a))
    assert [(done, total) for done, total, _ in heard] == [(step, 6) for step in range(1, 7)]
    assert all(message.startswith("loss ") for _, _, message in heard)


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1.0, "ema_decay": 0.9}], ids=["plain", "averaged"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("what", "named"), [("total", "term 'total'"), ("bce_nats", "term 'bce_nats'"), ("stat", "term 'stat'")]
)
def test_a_loss_that_is_not_finite_stops_before_the_update(what, named, value, settings):
    model = BreaksAt(4, what, value)
    states = []
    with pytest.raises(
        TrainingError, match=rf"before the update of step 4: {named} is {value}; .*lower learning_rate"
    ) as caught:
        fit(
            model,
            rows(*range(10)),
            rows(1.0),
            TrainConfig(3, 4, **settings),
            seed=0,
            progress=lambda *_: states.append({k: v.clone() for k, v in model.state_dict().items()}),
        )
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert len(states) == 4
    assert model.state_dict() == states[-1]


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1.0, "ema_decay": 0.9}], ids=["plain", "averaged"])
def test_a_gradient_that_is_not_finite_stops_before_the_update(settings):
    model = BreaksAt(4, "gradient", 0.0)
    states = []
    with pytest.raises(TrainingError, match="before the update of step 4: the gradient's norm is nan"):
        fit(
            model,
            rows(*range(10)),
            rows(1.0),
            TrainConfig(3, 4, **settings),
            seed=0,
            progress=lambda *_: states.append({k: v.clone() for k, v in model.state_dict().items()}),
        )
    assert model.state_dict() == states[-1]


def test_a_broken_batch_leaves_no_trace_in_a_codebook():
    train, validation = digits()
    model = new_model("vqvae")
    digests = []
    poisoned = train.tensors[0].clone()
    poisoned[BatchOrder(len(train), CONFIG.batch_size, 0).indices(3)[0]] = math.nan
    with pytest.raises(TrainingError, match="before the update of step 3"):
        fit(
            model,
            TensorSource(poisoned),
            validation,
            CONFIG,
            seed=0,
            progress=lambda *_: digests.append(weights_digest(model)),
        )
    assert len(digests) == 3
    assert weights_digest(model) == digests[-1]


def test_a_validation_loss_that_is_not_finite_is_named():
    with pytest.raises(TrainingError, match="term 'double' of the validation loss after epoch 0 is nan"):
        fit(Line(), rows(1.0), rows(math.nan), TrainConfig(1), seed=0)


def test_the_last_good_checkpoint_outlives_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    config = TrainConfig(3, 4)
    with pytest.raises(TrainingError):
        fit(BreaksAt(4, "total", math.nan), rows(*range(10)), rows(1.0), config, seed=0, checkpoints=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000004"]
    steps = []
    fit(
        Line(),
        rows(*range(10)),
        rows(1.0),
        config,
        seed=0,
        checkpoints=tmp_path,
        progress=lambda d, *_: steps.append(d),
    )
    assert steps[0] == 5


def test_frozen_parameters_are_left_alone():
    class Two(nn.Sequential):
        def loss(self, batch, generator):
            return {"total": self(batch[0]).square().mean()}

    with seeded_weights(0, "test"):  # from some weights two steps lead nowhere better, and the first are kept
        model = Two(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    before = [parameter.clone() for parameter in model.parameters()]
    source = TensorSource(torch.ones(4, 2))
    fit(model, source, source, TrainConfig(2, 4, 0.1, weight_decay=0.1), seed=0)
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert changed == [False, False, True, True]


def test_the_global_generator_is_not_used():
    train, validation = digits()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fit(new_model("vqvae"), train, validation, TrainConfig(1, 64), seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_learning_rate_follows_the_schedule(monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def record(optimizer, *arguments, **named):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *arguments, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    fit(Line(), rows(*range(8)), rows(1.0), TrainConfig(4, 2, 0.1, warmup_epochs=1.0), seed=0)
    assert rates == pytest.approx([0.1 * warmup_cosine(s, 16, 4) for s in range(16)])


def test_the_schedule_has_these_values():
    assert [warmup_cosine(step, 12, 4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert warmup_cosine(8, 12, 4) == pytest.approx(0.5)
    assert warmup_cosine(6, 12, 4) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert warmup_cosine(0, 5, 0) == 1


@given(st.integers(1, 500), st.integers(0, 600))
def test_the_schedule_rises_then_falls_and_is_never_zero(n_steps, n_warmup):
    factors = [warmup_cosine(step, n_steps, n_warmup) for step in range(n_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    warm = min(n_warmup, n_steps)
    assert factors[:warm] == sorted(factors[:warm])
    assert factors[warm:] == sorted(factors[warm:], reverse=True)


def test_sources_give_the_rows_asked_for():
    splits = load(DataConfig("digits"))
    (images,) = ImageSource(splits.train).rows(np.array([5, 0, 5]))
    assert images.shape == (3, 1, 8, 8)
    assert np.array_equal(images, splits.train.images(np.array([5, 0, 5])))
    assert len(ImageSource(splits.train)) == len(splits.train)
    a, b = TensorSource(torch.arange(4), torch.arange(8).reshape(4, 2)).rows(np.array([3, 1]))
    assert a.tolist() == [3, 1]
    assert b.tolist() == [[6, 7], [2, 3]]


class Product(nn.Module):
    """Notes the precision that a matrix product has inside its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(1, 1)
        self.found: set[torch.dtype] = set()

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        (rows,) = batch
        product = self.weights(rows[:, None])
        self.found.add(product.dtype)
        return {"total": product.float().square().mean()}


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_products_have_the_precision_asked_for_and_weights_are_float32(name):
    model = Product()
    rows = TensorSource(torch.arange(8.0))
    fit(model, rows, rows, TrainConfig(epochs=1, batch_size=4, precision=name), seed=0)
    assert model.found == {getattr(torch, name)}
    assert model.weights.weight.dtype == torch.float32


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="precision is 'half'; expected one of float32, bfloat16"):
        TrainConfig(epochs=1, precision="half")
