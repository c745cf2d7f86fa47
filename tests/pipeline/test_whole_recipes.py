"""The recipes as they are, on their real data: minutes, so marked slow."""

import os
from pathlib import Path

import numpy as np
import pytest

from geovq.config import with_overrides
from geovq.evaluation.records import by_seed, read_metrics
from geovq.evaluation.statistics import paired_difference
from geovq.pipeline.run import run_recipe
from geovq.recipes import recipe

needs_mnist = pytest.mark.skipif(
    not os.environ.get("GEOVQ_DATA"), reason="set GEOVQ_DATA to a folder that holds mnist/*.gz"
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_demo_finds_what_it_should(tmp_path: Path) -> None:
    out = run_recipe(recipe("digits"), tmp_path / "demo", command="geovq demo")
    records = read_metrics(out / "metrics.json")

    def errors(arm: str) -> list[float]:
        return list(by_seed(records, arm, "mse", "test").values())

    assert np.mean(errors("continuous")) < min(np.mean(errors(a)) for a in ("kmeans", "ema", "residual"))
    gain = paired_difference(errors("residual+tuned"), errors("residual"))
    assert gain.mean < 0 and gain.excludes_zero
    for arm, floor in (("ema+tuned", "bits_entropy"), ("residual+tuned", "bits_nominal")):
        prior, other = (by_seed(records, arm, name, "test") for name in ("bits_prior", floor))
        # 1,197 images teach nothing about residual codes: early stopping keeps their prior near the uniform.
        assert all(prior[seed] < other[seed] * 1.005 for seed in prior), arm


@needs_mnist
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_mnist_runs_with_fewer_epochs(tmp_path: Path) -> None:
    changes = ["models.vae.train.epochs=1", "models.vqvae.train.epochs=1", "prior.train.epochs=1"]
    changes += ["arms.ema.tune.epochs=1", "arms.residual.tune.epochs=1"]
    out = run_recipe(with_overrides(recipe("mnist-first"), changes), tmp_path / "mnist")
    records = [r for r in read_metrics(out / "metrics.json") if r.split == "test"]
    assert all(record.n == 10_000 for record in records)
    mse = {record.arm: record.values["mse"] for record in records}
    assert mse["residual+tuned"] < mse["residual"] < mse["kmeans"] < 0.03
