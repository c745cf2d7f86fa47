"""The stage that diagnoses a run's models: of the first seed, with the run's tokens and bits, once."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from geovq.config import RunConfig
from geovq.data import load
from geovq.evaluation import diagnose
from geovq.pipeline.autoencoders import load_latents, trained_model
from geovq.pipeline.context import Context
from geovq.pipeline.diagnoses import diagnose_model
from geovq.pipeline.latent_paths import models_with_paths
from geovq.pipeline.stages import Stages
from geovq.reports.diagnosis import read_diagnosis
from geovq.reports.run_files import read_run
from geovq.storage.artifact import load_artifact, save_artifact


def context(config: RunConfig, folder: Path, told: list[str]) -> Context:
    return Context(config, load(config.data), Stages(folder, [], told.append), {})


def test_a_run_stores_what_diagnose_says_of_its_training_latents(
    small_run: Path, small_config: RunConfig
) -> None:
    run = context(small_config, small_run, [])
    stored = read_diagnosis(read_run(small_run), "vae")
    latents = load_latents(run, "vae", 0)
    decoder = trained_model(run, "vae", 0).decoder
    (kmeans,) = (arm for arm in small_config.arms if arm.name == "kmeans")
    found = diagnose(
        decoder, latents["train.mean"], latents["train.sigma"], tokens=kmeans.tokens, bits=small_config.bits
    )
    assert stored is not None
    assert stored.tokens == kmeans.tokens and stored.bits == small_config.bits
    np.testing.assert_allclose(stored.eigenvalues, found.eigenvalues, rtol=1e-4)
    assert stored.total_bits == pytest.approx(found.total_bits)
    assert load_artifact(small_run / "diagnoses/vae/0")[0]["recommendation"] == stored.recommendation


def test_only_the_first_seed_of_models_with_frozen_latents_is_diagnosed(
    small_run: Path, small_config: RunConfig
) -> None:
    found = [path.relative_to(small_run).as_posix() for path in (small_run / "diagnoses").glob("*/*")]
    assert found == ["diagnoses/vae/0"]
    assert models_with_paths(context(small_config, small_run, [])) == ["vae"]


def test_a_stored_diagnosis_is_found_again_unless_the_bits_are_others(
    small_run: Path, small_config: RunConfig, tmp_path: Path
) -> None:
    told: list[str] = []
    assert diagnose_model(context(small_config, small_run, told), "vae", 0) == small_run / "diagnoses/vae/0"
    assert told == []
    for room in ("checkpoints/vae/0", "latents/vae/0"):
        save_artifact(tmp_path / room, *load_artifact(small_run / room))
    for config in (small_config, dataclasses.replace(small_config, bits=2 * small_config.bits)):
        folder = diagnose_model(context(config, tmp_path, told), "vae", 0)
        assert load_artifact(folder)[0]["bits"] == config.bits
    assert told == ["diagnosis: vae, seed 0"] * 2


def test_collapsed_latents_do_not_end_the_run(
    small_run: Path, small_config: RunConfig, tmp_path: Path
) -> None:
    save_artifact(tmp_path / "checkpoints/vae/0", *load_artifact(small_run / "checkpoints/vae/0"))
    config, latents = load_artifact(small_run / "latents/vae/0")
    flat = {name: np.zeros_like(array) + name.endswith("sigma") for name, array in latents.items()}
    save_artifact(tmp_path / "latents/vae/0", config, flat)
    found, _ = load_artifact(diagnose_model(context(small_config, tmp_path, []), "vae", 0))
    assert found["recommendation"].startswith("Do not quantize these latents: together they carry 0 bits")
    assert found["paths"] is None
