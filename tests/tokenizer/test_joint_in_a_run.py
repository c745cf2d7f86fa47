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
from geovq.pipeline.codebook_atlas import code_tables, nearest_images, tokens_of_latents
from geovq.pipeline.run import run_recipe
from geovq.storage.artifact import load_artifact, read_json
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


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("arm", CODED)
def test_the_recorded_distortion_is_of_the_latents_that_the_arm_codes(run, arm, split):
    tokenizer, plain = tokenizer_of(run, arm), tokenizer_of(run, arm.split("+")[0])
    images = getattr(load(DataConfig("digits")), split).images(slice(None))
    quantized = tokenizer.lookup(tokenizer.encode(images)).astype(np.float64)
    own, before = (
        np.square(quantized - each.posterior(images)[0]).sum() / len(images) for each in (tokenizer, plain)
    )
    (found,) = [r.values for r in read_metrics(run / "metrics.json") if (r.arm, r.split) == (arm, split)]
    assert found["latent_distortion"] == pytest.approx(own, rel=1e-3)
    if arm != arm.split("+")[0]:
        assert found["latent_distortion"] != pytest.approx(before, rel=1e-2)
    assert ("commitment" in found) == (arm == "ema")  # the tuned quantizer is no layer any more


@pytest.mark.parametrize("arm", TUNED)
def test_examples_of_the_atlas_are_the_nearest_to_their_codes_by_the_tuned_encoder(run, arm):
    assert arm in read_json(run / "run.json")["best_arms"]
    tokenizer, plain = tokenizer_of(run, arm), tokenizer_of(run, arm.split("+")[0])
    images = load(DataConfig("digits")).test.images(slice(None))
    stored = load_codes(run / "codes" / arm / "8" / "0").splits
    tables = code_tables(tokenizer, stored["train"])
    (grid,) = tokenizer.layout.grids
    codes = stored["test"].reshape(len(images), -1, len(grid.n_codes))
    own, before = (tokens_of_latents(tokenizer, each.posterior(images)[0]) for each in (tokenizer, plain))
    _, atlas = load_artifact(run / "atlas" / arm / "8" / "0")
    others = []
    for level in range(len(grid.n_codes)):
        wanted = atlas[f"{level}.codes"][atlas[f"{level}.featured"]]
        found = atlas[f"{level}.examples"]
        # Batches cut elsewhere round differently; two images may be as near as each other.
        assert (found == nearest_images(tables, own, codes, level, wanted)).mean() > 0.9
        others.append((found == nearest_images(tables, before, codes, level, wanted)).mean())
    assert min(others) < 0.9


@pytest.mark.parametrize(
    ("arm", "epochs"), [("residual", 3), ("residual+tuned", 5), ("residual+tuned+aware", 5), ("ema+tuned", 5)]
)
def test_every_epoch_of_joint_tuning_is_a_pass_of_all_training_images(run, arm, epochs):
    facts = read_json(run / "run.json")["arms"][arm]
    assert facts["image_passes"] == epochs * len(load(DataConfig("digits")).train)
    told = "; then encoder, codebook and decoder tuned jointly" in facts["about"]
    assert told == ("+tuned" in arm)
