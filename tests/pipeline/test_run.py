"""The whole chain on digits: what a run leaves behind, and that it goes on where it stopped."""

import csv
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from geovq.config import RunConfig, Spec, to_json, with_overrides
from geovq.data import load
from geovq.errors import ConfigError, StorageError
from geovq.evaluation.records import read_metrics
from geovq.pipeline.run import STAGES, run_recipe
from geovq.storage.artifact import file_hash, load_artifact
from geovq.tokenizer.codes import load_codes
from geovq.tokenizer.latent import LatentTokenizer

ARMS = (
    "continuous",
    "ema",
    "ema+tuned",
    "kmeans",
    "kmedoids",
    "wasserstein",
    "geodesic",
    "residual",
    "residual+tuned",
)


def test_every_arm_is_measured_at_the_nominal_rate(small_run: Path) -> None:
    records = read_metrics(small_run / "metrics.json")
    assert {r.arm for r in records} == set(ARMS)
    assert {(r.arm, r.seed, r.split) for r in records} == {
        (arm, seed, split) for arm in ARMS for seed in (0, 1) for split in ("validation", "test")
    }
    for record in records:
        assert record.n == 300
        if record.arm == "continuous":
            assert record.bits is None
            continue
        assert record.values["bits_nominal"] == pytest.approx(24)
        assert 0 < record.values["bits_entropy"] < 30
        assert 0 < record.values["utilization"] <= 1


def test_recorded_errors_are_those_of_the_stored_tokenizers(small_run: Path) -> None:
    test = load(load_config(small_run).data).test
    images = test.images(slice(None))
    for arm in ("ema", "geodesic", "residual+tuned"):
        tokenizer = LatentTokenizer.from_pretrained(small_run / "tokenizers" / arm / "24" / "0")
        found = float(np.mean((tokenizer.reconstruct(images).astype(np.float64) - images) ** 2))
        (record,) = [
            r
            for r in read_metrics(small_run / "metrics.json")
            if (r.arm, r.seed, r.split) == (arm, 0, "test")
        ]
        # Batches cut elsewhere round differently; a code on a border may flip.
        assert found == pytest.approx(record.values["mse"], rel=1e-4)


def test_quantization_costs_error_and_tuning_gives_some_back(small_run: Path) -> None:
    mse = {
        r.arm: r.values["mse"]
        for r in read_metrics(small_run / "metrics.json")
        if (r.seed, r.split) == (0, "validation")
    }
    assert mse["kmeans"] > mse["continuous"]
    assert mse["residual+tuned"] < mse["residual"]
    assert mse["ema+tuned"] <= mse["ema"]


def test_codebooks_are_fitted_on_training_latents_alone(small_run: Path) -> None:
    latents = load_artifact(small_run / "latents/vae/0")[1]
    nodes = load_artifact(small_run / "tokenizers/geodesic/24/0")[1]["quantizer.nodes_"]
    train = {tuple(token) for token in latents["train.mean"].reshape(-1, 4)}
    assert {tuple(node) for node in nodes} == train


def test_tuned_arms_share_the_codes_of_their_arm(small_run: Path) -> None:
    stored = load_codes(small_run / "codes" / "residual" / "24" / "0")
    tuned = LatentTokenizer.from_pretrained(small_run / "tokenizers" / "residual+tuned" / "24" / "0")
    images = load(load_config(small_run).data).validation.images(slice(None))
    assert np.mean(tuned.encode(images) == stored.splits["validation"]) > 0.999
    assert not (small_run / "codes" / "residual+tuned").exists()


def test_priors_are_trained_on_the_best_arm_of_each_kind(small_run: Path) -> None:
    described = json.loads((small_run / "run.json").read_text())
    records = [r for r in read_metrics(small_run / "metrics.json") if r.split == "validation"]
    for kind in ("post-hoc", "end-to-end"):
        errors = {
            arm: np.mean([r.values["mse"] for r in records if r.arm == arm])
            for arm, facts in described["arms"].items()
            if facts["kind"] == kind
        }
        assert min(errors, key=errors.__getitem__) in described["best_arms"]
    with_prior = {r.arm for r in records if "bits_prior" in r.values}
    assert with_prior == set(described["best_arms"])


def test_log_cost_and_report_are_there(small_run: Path) -> None:
    rows = list(csv.DictReader((small_run / "train_log.csv").read_text().splitlines()))
    assert {"vae", "vqvae", "ema+tuned", "residual+tuned"} <= {row["model"] for row in rows}
    assert {row["split"] for row in rows} == {"train", "validation"}
    cost = json.loads((small_run / "cost.json").read_text())
    assert {stage["stage"] for stage in cost["stages"]} == {
        "train", "latents", "tokenizer", "codes", "tune", "evaluate", "diagnosis", "paths", "clusters",
        "atlas", "prior", "sample",
    }  # fmt: skip
    assert cost["machine"]["cores"] >= 1
    assert (small_run / "report.html").stat().st_size < 3e6
    lines = [json.loads(line) for line in (small_run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == len(rows)
    assert all(
        float(row["value"]) == pytest.approx(line["value"]) for row, line in zip(rows, lines, strict=True)
    )
    manifest = json.loads((small_run / "manifest.json").read_text())["files"]
    assert manifest["metrics.json"] == file_hash(small_run / "metrics.json")
    assert len(manifest) == 4 + len(cost["stages"])


def test_parameters_and_passes_are_comparable(small_config: RunConfig, tmp_path: Path) -> None:
    """The recipe itself, not the shrunken networks of these tests."""
    from geovq.models.weights import n_parameters
    from geovq.pipeline.arms import arms_of
    from geovq.recipes import RECIPES, recipe
    from geovq.registry import build

    sources = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
    for name in RECIPES:
        config = recipe(name)
        if not isinstance(config, RunConfig):
            continue  # the linear laboratory has no networks
        shape = sources[config.data.source]
        counts = []
        for model in config.models.values():
            spec = model.spec
            if spec.params.get("normalization") == "train":  # no weights, whatever the numbers
                numbers = [[0.5] * shape[0], [0.25] * shape[0]]
                spec = Spec(spec.kind, {**spec.params, "normalization": numbers})
            built = build("model", spec, image_shape=shape)
            counts.append(n_parameters(built) - n_parameters(*(grid.layer for grid in built.grids)))
        assert max(counts) / min(counts) < 1.05, name
        epochs = {arm.name: arm.model.train.epochs for arm in arms_of(config)}
        assert len(set(epochs.values())) == 1
        remedies = {kind: set() for kind in ("post-hoc", "end-to-end")}
        for arm in arms_of(config):
            if arm.tuned or arm.aware:
                remedies[arm.kind].add((arm.config.tune, arm.config.aware))
        assert len(remedies["post-hoc"]) <= 1, name
        trained = any(arm.kind == "end-to-end" for arm in arms_of(config))
        assert remedies["end-to-end"] == (remedies["post-hoc"] if trained else set()), name


def test_a_finished_run_is_not_done_again(small_run: Path, small_config: RunConfig) -> None:
    before = {p: p.stat().st_mtime_ns for p in small_run.rglob("*.safetensors")}
    metrics = (small_run / "metrics.json").read_bytes()
    told: list[str] = []
    run_recipe(small_config, small_run, command="geovq run digits", tell=told.append)
    assert told == []
    assert {p: p.stat().st_mtime_ns for p in small_run.rglob("*.safetensors")} == before
    assert (small_run / "metrics.json").read_bytes() == metrics


def test_another_run_takes_equal_stages_from_an_earlier_one(
    small_run: Path, small_config: RunConfig, tmp_path: Path
) -> None:
    changed = with_overrides(small_config, ["arms.kmeans.quantizer.params.n_iterations=3"])
    told: list[str] = []
    out = run_recipe(changed, tmp_path / "second", reuse=[small_run], tell=told.append, stop_after="evaluate")
    assert {line.split(", seed")[0] for line in told} == {
        "tokenizer: kmeans",
        "codes: kmeans",
        "evaluate: kmeans",
    }
    reused = (out / "tokenizers/geodesic/24/0/model.safetensors").read_bytes()
    assert reused == (small_run / "tokenizers/geodesic/24/0/model.safetensors").read_bytes()
    with pytest.raises(StorageError, match="no such folder"):
        run_recipe(changed, tmp_path / "third", reuse=[tmp_path / "nowhere"])


def test_stop_after_stops_and_goes_on(small_run: Path, small_config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"
    present = {
        "train": "checkpoints",
        "latents": "latents",
        "tokenizers": "tokenizers",
        "evaluate": "metrics.json",
        "priors": "priors",
        "report": "report.html",
    }
    assert tuple(present) == STAGES
    for index, stage in enumerate(STAGES):
        run_recipe(small_config, out, reuse=[small_run], stop_after=stage, command="geovq run digits")
        for later in STAGES[index + 1 :]:
            assert not (out / present[later]).exists(), (stage, later)
        assert (out / present[stage]).exists()
    assert (out / "metrics.json").read_bytes() == (small_run / "metrics.json").read_bytes()
    with pytest.raises(ConfigError, match="did you mean 'latents'"):
        run_recipe(small_config, tmp_path / "other", stop_after="latent")


def test_stopping_early_takes_nothing_back(small_run: Path, small_config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(small_run, out)
    run_recipe(small_config, out, stop_after="evaluate", command="geovq run digits")
    assert (out / "metrics.json").read_bytes() == (small_run / "metrics.json").read_bytes()


def test_names_are_part_of_a_stage(small_run: Path, small_config: RunConfig, tmp_path: Path) -> None:
    """A model's weights and a codebook's start are drawn under its name: another name is another stage."""
    changed = dataclasses.replace(
        small_config,
        arms=tuple(
            dataclasses.replace(arm, name="euclid") if arm.name == "kmeans" else arm
            for arm in small_config.arms
        ),
    )
    told: list[str] = []
    run_recipe(changed, tmp_path / "run", reuse=[small_run], tell=told.append, stop_after="tokenizers")
    assert {line.split(", seed")[0] for line in told} == {"tokenizer: euclid", "codes: euclid"}


def test_other_versions_on_resume_are_told_and_recorded(
    small_run: Path, small_config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(small_run, out)
    path = out / "environment.json"
    environment = json.loads(path.read_text())
    assert environment["resumed_with"] == []
    environment["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(environment))
    told: list[str] = []
    run_recipe(small_config, out, command="geovq run digits", tell=told.append)
    assert len(told) == 1 and "other versions" in told[0]
    described = json.loads((out / "run.json").read_text())
    assert described["versions"]["torch"] == "1.0"
    assert described["resumed_with"][0]["versions"]["torch"] != "1.0"
    told.clear()
    run_recipe(small_config, out, command="geovq run digits", tell=told.append)
    assert told == []


def test_every_images_error_is_kept(small_run: Path) -> None:
    for record in read_metrics(small_run / "metrics.json"):
        bits = "continuous" if record.bits is None else "24"
        _, tensors = load_artifact(small_run / "evaluation" / record.arm / bits / str(record.seed))
        assert tensors[f"{record.split}.errors"].mean() == pytest.approx(record.values["mse"])


def test_a_damaged_stage_is_made_again(small_run: Path, small_config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(small_run, out)
    damaged = out / "tokenizers/kmeans/24/0/model.safetensors"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-20])
    told: list[str] = []
    run_recipe(small_config, out, command="geovq run digits", tell=told.append)
    assert told == ["tokenizer: kmeans, seed 0"]
    assert damaged.read_bytes() == whole
    assert (out / "metrics.json").read_bytes() == (small_run / "metrics.json").read_bytes()


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(
    small_run: Path, small_config: RunConfig, tmp_path: Path
) -> None:
    """Real SIGKILLs, at random moments of the whole chain; what a reader sees must not tell."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(to_json(small_config)))
    out = tmp_path / "run"
    script = (
        "import sys; from geovq.training import loop; loop.CHECKPOINT_SECONDS = 0.2\n"
        "from geovq.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "run", str(config), "--out", str(out)]
    chance = random.Random(7)
    killed = 0
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ)
        assert process.stderr is not None
        process.stderr.readline()  # imports are over: the first stage begins
        time.sleep(chance.uniform(0.3, 4))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stderr.close()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert killed >= 1
    for path in ("metrics.json", "train_log.csv", "tokenizers/residual+tuned/24/1/model.safetensors"):
        assert (out / path).read_bytes() == (small_run / path).read_bytes(), path
    assert not [p for p in out.rglob(".*") if p.suffix in (".tmp", ".old")]


def test_a_folder_of_another_run_is_refused(small_run: Path, small_config: RunConfig) -> None:
    other = dataclasses.replace(small_config, seeds=(5,))
    with pytest.raises(StorageError, match=r"holds another run .*seeds"):
        run_recipe(other, small_run)


def load_config(folder: Path) -> RunConfig:
    from geovq.config import from_json

    return from_json(RunConfig, json.loads((folder / "config.json").read_text()))
