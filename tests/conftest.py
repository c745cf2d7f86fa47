"""Threads for the tests, and a small but whole run on real digits, made once a worker."""

import os
from pathlib import Path

# With a test worker a core, one thread each; more would spend their time waiting for each other.
os.environ.setdefault("GEOVQ_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

from geovq.config import RunConfig, with_overrides
from geovq.recipes import recipe

# New random examples at a developer's desk, the same ones in continuous integration.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

SMALL = [
    "models.vae.train.epochs=4",
    "models.vae.spec.params.widths=[8,16]",
    "models.vqvae.train.epochs=4",
    "models.vqvae.spec.params.widths=[8,16]",
    "arms.ema.tune.epochs=2",
    "arms.residual.tune.epochs=2",
    "prior.train.epochs=2",
    "seeds=[0,1]",
]


@pytest.fixture(scope="session")
def small_config() -> RunConfig:
    return with_overrides(recipe("digits"), SMALL)


@pytest.fixture(scope="session")
def small_run(small_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from geovq.pipeline.run import run_recipe

    return run_recipe(small_config, tmp_path_factory.mktemp("runs") / "small", command="geovq run digits")
