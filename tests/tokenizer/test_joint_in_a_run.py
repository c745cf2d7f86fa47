"""A run with an arm whose encoder is tuned with its codes: every stage reads the arm's own latents."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geovq.config import (
    ArmConfig,
    AwareConfig,
    DataConfig,
    ModelConfig,
    RunConfig,
    Spec,
    TrainConfig,
    TuneConfig,
)
from geovq.data import load
from geovq.evaluation.records import read_metrics
from geovq.pipeline.run import run_recipe
from geovq.storage.artifact import read_json
from geovq.tokenizer.codes import load_codes
from geovq.tokenizer.latent import LatentTokenizer

TUNED = ("residual+tuned", "ema+tuned")
CODED = (*TUNED, "residual", "ema", "residual+tuned+aware")


def config() -> RunConfig:
    train = TrainConfig(epochs=3, batch_size=64, learning_rate=5e-3)
    tune = TuneConfig(epochs=2, batch_size=64, learning_rate=3e-3, parts="all")
    shared = {"latent_dim": 8, "widths": [8, 16]}
    layer = {"kind": "ema", "params": {"n_codes": 4}}
    models = {
        "vae": ModelConfig(Spec("vae", {**shared, "beta": 0.2}), train),
        "vqvae": ModelConfig(Spec("vqvae", {**shared, "tokens": [2, 2], "layer": layer}), train),
    }
    residual = Spec("residual", {"n_codes": 16, "n_levels": 2})
    arms = (
        ArmConfig("residual", "vae", (1, 1), residual, tune=tune, aware=AwareConfig()),
        ArmConfig("ema", "vqvae", tune=replace(tune, learning_rate=1e-3)),
    )
    return RunConfig("joint", DataConfig("digits"), 8, models, arms, None, (0,))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_recipe(config(), tmp_path_factory.mktemp("joint") / "run")


def tokenizer_of(run: Path, arm: str) -> LatentTokenizer:
    return LatentTokenizer.from_pretrained(run / "tokenizers" / arm / "8" / "0")


@pytest.mark.parametrize("arm", CODED)
def test_recorded_errors_are_those_of_the_stored_tokenizers(run, arm):
    images = load(DataConfig("digits")).test.images(slice(None))
    found = np.square(tokenizer_of(run, arm).reconstruct(images).astype(np.float64) - images).mean()
    recorded = {r.arm: r.values["mse"] for r in read_metrics(run / "metrics.json") if r.split == "test"}
    # Batches cut elsewhere round differently; a code on a border may flip.
    assert found == pytest.approx(recorded[arm], rel=1e-3)


@pytest.mark.parametrize("arm", TUNED)
def test_a_tuned_arm_has_codes_of_its_own_latents(run, arm):
    images = load(DataConfig("digits")).validation.images(slice(None))
    stored, plain = (load_codes(run / "codes" / a / "8" / "0").splits for a in (arm, arm.split("+")[0]))
    assert set(stored) == {"train", "validation", "test"}
    assert np.mean(stored["validation"] == tokenizer_of(run, arm).encode(images)) > 0.99
    assert np.mean(stored["validation"] == plain["validation"]) < 0.99


@pytest.mark.parametrize("arm", TUNED)
def test_the_error_falls_and_the_epochs_are_counted(run, arm):
    mse = {r.arm: r.values["mse"] for r in read_metrics(run / "metrics.json") if r.split == "validation"}
    assert mse[arm] < mse[arm.split("+")[0]]
    assert read_json(run / "tokenizers" / arm / "8" / "0" / "training.json")["epochs"] == 2
