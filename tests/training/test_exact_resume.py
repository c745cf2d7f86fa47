"""A training that was killed and went on ends with the same bytes as one that was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_trainings import CONFIG, KINDS, digest_of, digits, new_model, train_small

import geovq
from geovq.config import TrainConfig
from geovq.errors import StorageError
from geovq.storage.artifact import TENSORS
from geovq.training import fit, loop

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
    return {kind: digest_of(*train_small(kind)) for kind in KINDS}


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)


@pytest.mark.parametrize("kind", KINDS)
def test_two_trainings_of_one_seed_are_the_same(kind, undisturbed):
    assert digest_of(*train_small(kind)) == undisturbed[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_do_not_change_a_training(kind, undisturbed, tmp_path, every_step):
    assert digest_of(*train_small(kind, tmp_path)) == undisturbed[kind]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, N_STEPS), min_size=1, max_size=4).map(sorted))
def test_interruptions_at_any_steps_change_nothing(kind, stops, undisturbed, tmp_path_factory, every_step):
    folder = tmp_path_factory.mktemp("stopped")
    for step in stops:
        with pytest.raises(Interrupted):
            train_small(kind, folder, stop_at(step))
    assert digest_of(*train_small(kind, folder)) == undisturbed[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_training_is_not_run_again(kind, undisturbed, tmp_path, every_step):
    train_small(kind, tmp_path)
    assert digest_of(*train_small(kind, tmp_path, stop_at(1))) == undisturbed[kind]


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
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


def test_only_the_newest_checkpoint_is_kept(tmp_path, every_step):
    train_small("vae", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"step-{N_STEPS:09d}"]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch, every_step):
    monkeypatch.chdir(tmp_path)
    train_small("vae")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"config": TrainConfig(epochs=4, batch_size=48, learning_rate=3e-3, weight_decay=0.01)},
        {"config": TrainConfig(epochs=3, batch_size=48, learning_rate=1e-3, weight_decay=0.01)},
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
