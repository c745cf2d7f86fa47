"""A training that was killed and went on ends with the same bytes as one that was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_trainings import CONFIG, TRAININGS, digest_of, digits, new_model, train_small, weights_digest
from torch import Tensor, nn

import geovq
from geovq.config import TrainConfig
from geovq.errors import StorageError
from geovq.storage.artifact import TENSORS
from geovq.training import TensorSource, fit, loop

N_STEPS = 15


class Interrupted(Exception):
    """Stands for the end of the process."""


def stop_at(step: int):
    def progress(done: int, total: int, message: str) -> None:
        assert total == N_STEPS
        if done == step:
            raise Interrupted

    return progress


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, str]:
    return {kind: digest_of(*train_small(kind)) for kind in TRAININGS}


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)


@pytest.mark.parametrize("kind", TRAININGS)
def test_two_trainings_of_one_seed_are_the_same(kind, undisturbed):
    assert digest_of(*train_small(kind)) == undisturbed[kind]


@pytest.mark.parametrize("kind", TRAININGS)
def test_checkpoints_do_not_change_a_training(kind, undisturbed, tmp_path, every_step):
    assert digest_of(*train_small(kind, tmp_path)) == undisturbed[kind]


@pytest.mark.parametrize("kind", TRAININGS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, N_STEPS), min_size=1, max_size=4).map(sorted))
def test_interruptions_at_any_steps_change_nothing(kind, stops, undisturbed, tmp_path_factory, every_step):
    folder = tmp_path_factory.mktemp("stopped")
    for step in stops:
        with pytest.raises(Interrupted):
            train_small(kind, folder, stop_at(step))
    assert digest_of(*train_small(kind, folder)) == undisturbed[kind]


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_finished_training_is_not_run_again(kind, undisturbed, tmp_path, every_step):
    train_small(kind, tmp_path)
    assert digest_of(*train_small(kind, tmp_path, stop_at(1))) == undisturbed[kind]


@pytest.mark.parametrize("kind", ["vae", "averaged"])
def test_sigkill_at_random_moments_changes_nothing(kind, tmp_path):
    script = Path(__file__).with_name("kill_trainings.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(geovq.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, script, kind, tmp_path, "3"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert [life["digest"] for life in report["disturbed"]] == [report["undisturbed"]] * 3
    assert sum(life["kills"] for life in report["disturbed"]) >= 3
    assert [life["remaining"] for life in report["disturbed"]] == [0, 0, 0]


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_damaged_checkpoint_costs_time_and_nothing_else(kind, undisturbed, tmp_path, every_step):
    with pytest.raises(Interrupted):
        train_small(kind, tmp_path, stop_at(8))
    (newest,) = tmp_path.glob("step-*")
    assert newest.name == "step-000000007"
    content = bytearray((newest / TENSORS).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / TENSORS).write_bytes(content)
    first_steps = []
    model, result = train_small(kind, tmp_path, lambda done, total, message: first_steps.append(done))
    assert first_steps[0] == 1
    assert digest_of(model, result) == undisturbed[kind]


def test_an_older_checkpoint_serves_when_the_newest_is_damaged(undisturbed, tmp_path, every_step):
    with pytest.raises(Interrupted):
        train_small("vqvae", tmp_path, stop_at(6))
    (older,) = tmp_path.glob("step-*")
    kept = {path.name: path.read_bytes() for path in older.iterdir()}
    with pytest.raises(Interrupted):
        train_small("vqvae", tmp_path, stop_at(11))
    (newest,) = tmp_path.glob("step-*")
    (newest / "manifest.json").write_text("{")
    older.mkdir()
    for name, content in kept.items():
        (older / name).write_bytes(content)
    first_steps = []
    model, result = train_small("vqvae", tmp_path, lambda done, total, message: first_steps.append(done))
    assert first_steps[0] == 6
    assert digest_of(model, result) == undisturbed["vqvae"]


class Listener:
    """Notes the weights of every epoch that it hears of; may end the process there."""

    def __init__(self, last: int | None = None) -> None:
        self.heard: dict[int, str] = {}
        self.last = last

    def __call__(self, epoch: int, model: nn.Module) -> None:
        assert epoch not in self.heard
        self.heard[epoch] = weights_digest(model)
        if epoch == self.last:
            raise Interrupted


@pytest.fixture(scope="module")
def told() -> dict[str, dict[int, str]]:
    every = {}
    for kind in TRAININGS:
        train_small(kind, on_epoch=(listener := Listener()))
        every[kind] = listener.heard
    return every


@pytest.mark.parametrize("kind", TRAININGS)
@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_an_epoch_without_a_checkpoint_after_it_is_told_of_again(kind, epoch, told, tmp_path, every_step):
    with pytest.raises(Interrupted):
        train_small(kind, tmp_path, on_epoch=(before := Listener(epoch)))
    train_small(kind, tmp_path, on_epoch=(after := Listener()))
    assert list(before.heard) == [*range(epoch + 1)]
    assert list(after.heard) == [*range(epoch, 4)]
    assert before.heard.items() <= told[kind].items()
    assert after.heard.items() <= told[kind].items()


@pytest.mark.parametrize("kind", TRAININGS)
def test_after_an_interruption_only_epochs_to_come_are_told_of(kind, told, tmp_path, every_step):
    with pytest.raises(Interrupted):
        train_small(kind, tmp_path, stop_at(8), before := Listener())
    train_small(kind, tmp_path, on_epoch=(after := Listener()))
    assert (list(before.heard), list(after.heard)) == ([0, 1], [2, 3])
    assert before.heard | after.heard == told[kind]


def test_who_listens_changes_nothing(undisturbed):
    for kind in TRAININGS:
        assert digest_of(*train_small(kind, on_epoch=Listener())) == undisturbed[kind]


def test_only_the_newest_checkpoint_is_kept(tmp_path, every_step):
    train_small("vae", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"step-{N_STEPS:09d}"]


class Constant(nn.Module):
    """Trains in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        return {"total": self.value.square()}


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("cost", "pause"), [(0.125, 20), (0.375, 20), (2.0, 100)])
def test_checkpoints_take_a_50th_of_the_time_at_most(cost, pause, tmp_path, monkeypatch):
    clock, written = Clock(), []

    def step_of_a_second(done: int, total: int, message: str) -> None:
        clock.now += 1

    def save(*state) -> None:
        written.append(clock.now)
        clock.now += cost

    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "save_checkpoint", save)
    source = TensorSource(torch.zeros(400, 1))
    fit(
        Constant(),
        source,
        source,
        TrainConfig(1, 1),
        seed=0,
        checkpoints=tmp_path,
        progress=step_of_a_second,
    )
    pauses = np.diff(written) - cost
    assert written[0] == 21
    assert pauses == pytest.approx(pause + 1)  # the first whole second after the pause


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch, every_step):
    monkeypatch.chdir(tmp_path)
    train_small("vae")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"config": TrainConfig(epochs=4, batch_size=48, learning_rate=3e-3, weight_decay=0.01)},
        {"config": TrainConfig(epochs=3, batch_size=48, learning_rate=1e-3, weight_decay=0.01)},
        {"config": replace(CONFIG, clip_norm=1.0)},
        {"config": replace(CONFIG, ema_decay=0.9)},
        {"seed": 6},
        {"rows": (190, 60)},
        {"rows": (200, 50)},
        {"kind": "vqvae"},
        {"weights": 1},
    ],
    ids=lambda change: "".join(change),
)
def test_the_checkpoint_of_another_training_is_refused(change, tmp_path, every_step):
    with pytest.raises(Interrupted):
        train_small("vae", tmp_path, stop_at(3))
    model = new_model(change.get("kind", "vae"), change.get("weights", 0))
    sources = digits(*change.get("rows", (200, 60)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(StorageError, match="step-000000002: belongs to another training run"):
        fit(model, *sources, change.get("config", CONFIG), seed=change.get("seed", 5), checkpoints=tmp_path)
    assert all(np.array_equal(tensor, before[name]) for name, tensor in model.state_dict().items())
