"""Runs of the linear laboratory: what they leave behind, go on with and refuse."""

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from geovq.cli import main
from geovq.config import LaboratoryConfig, config_from_json, with_overrides
from geovq.errors import ConfigError, StorageError, TrainingError
from geovq.evaluation.records import read_metrics
from geovq.linear import LinearVQVAE, evaluate
from geovq.pipeline.carry_out import carry_out
from geovq.pipeline.linear_trainings import points
from geovq.recipes import recipe
from geovq.registry import FAMILIES
from geovq.storage.artifact import file_hash, load_artifact

SMALL = ["D=8", "rank=3", "m=2", "K=4", "n_train=300", "n_eval=200", "steps=20", "batch=32", "seeds=[0,1]"]
SWEEPS = ["sweep_steps=10", "sweep_K=[4,6]", "sweep_beta=[0,0.25]"]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = with_overrides(recipe("lowrank-stiefel"), SMALL)
    return carry_out(
        config, tmp_path_factory.mktemp("laboratory") / "run", command="geovq run lowrank-stiefel"
    )


@pytest.fixture(scope="module")
def comprehensive_config() -> LaboratoryConfig:
    return with_overrides(recipe("lowrank-comprehensive"), [*SMALL, *SWEEPS])


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What the run of ``comprehensive`` said."""
    return []


@pytest.fixture(scope="module")
def comprehensive(
    comprehensive_config: LaboratoryConfig, told: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("laboratory") / "full"
    return carry_out(comprehensive_config, out, command="geovq run x", tell=told.append)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that a run with the same inputs must make again with the same bytes."""
    timed = {"cost.json", "report.html", ".lock"}
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in timed)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_comparison_leaves_every_published_file(comparison: Path) -> None:
    config = config_from_json(read(comparison / "config.json"))
    named = {
        "config.json",
        "environment.json",
        "summary.json",
        "comparison.png",
        "metrics.json",
        "report.html",
    }
    named |= {f"{method}.{ending}" for method in config.methods for ending in ("json", "png")}
    assert named <= {path.name for path in comparison.iterdir()}
    manifest = read(comparison / "manifest.json")["files"]
    assert manifest["summary.json"] == file_hash(comparison / "summary.json")


def test_recorded_metrics_are_those_of_the_stored_models(comparison: Path) -> None:
    config = config_from_json(read(comparison / "config.json"))
    records = read_metrics(comparison / "metrics.json")
    assert {(r.arm, r.seed) for r in records} == {(m, s) for m in config.methods for s in (0, 1)}
    for record in records:
        (folder,) = comparison.glob(f"trainings/{record.arm}/*/{record.seed}")
        tensors = load_artifact(folder)[1]
        model = LinearVQVAE(torch.from_numpy(tensors["W"]), torch.from_numpy(tensors["E"]))
        found = evaluate(model, points(config, record.seed, "evaluation"))
        assert record.values == pytest.approx(found, rel=1e-12)
        assert (record.bits, record.n, record.split) == (math.log2(4), 200, "evaluation")


def test_the_log_of_a_method_ends_with_its_metrics(comparison: Path) -> None:
    for method in ("pca-lloyd", "ste-manual"):
        log = read(comparison / f"{method}.json")
        assert [training["seed"] for training in log["trainings"]] == [0, 1]
        for training in log["trainings"]:
            last = training["logs"][-1]
            assert {name: last[name] for name in training["metrics"]} == training["metrics"]


def test_the_summary_holds_means_and_paired_changes(comparison: Path) -> None:
    summary = read(comparison / "summary.json")["comparison"]
    errors = {
        arm: np.array(
            [r.values["sse_per_sample"] for r in read_metrics(comparison / "metrics.json") if r.arm == arm]
        )
        for arm in ("pca-lloyd", "rotation")
    }
    assert summary["rotation"]["sse_per_sample"] == pytest.approx(errors["rotation"].mean())
    expected = 100 * np.mean(errors["rotation"] / errors["pca-lloyd"] - 1)
    assert summary["rotation"]["change_percent"]["pca-lloyd"]["mean"] == pytest.approx(expected)
    assert set(summary["pca-lloyd"]["change_percent"]) == {"pca-lloyd-converged"}


def test_two_runs_give_the_same_bytes(comparison: Path, tmp_path: Path) -> None:
    config = config_from_json(read(comparison / "config.json"))
    again = carry_out(config, tmp_path / "again", command="geovq run lowrank-stiefel")
    assert contents(again) == contents(comparison)


def test_a_finished_run_is_not_done_again(comparison: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(comparison, copy)
    told: list[str] = []
    config = config_from_json(read(copy / "config.json"))
    carry_out(config, copy, command="geovq run lowrank-stiefel", tell=told.append)
    assert told == [] and contents(copy) == contents(comparison)


def test_a_folder_of_another_configuration_is_refused(comparison: Path) -> None:
    config = config_from_json(read(comparison / "config.json"))
    before = contents(comparison)
    with pytest.raises(StorageError, match=r"holds another run \(K is 4 there, 5 here\)"):
        carry_out(with_overrides(config, ["K=5"]), comparison)
    assert contents(comparison) == before


def test_trainings_of_equal_settings_are_taken_from_an_earlier_run(comparison: Path, tmp_path: Path) -> None:
    """A longer training is another one; a method without steps has nothing to do again."""
    config = with_overrides(config_from_json(read(comparison / "config.json")), ["steps=21", "seeds=[0]"])
    told: list[str] = []
    carry_out(config, tmp_path / "run", reuse=[comparison], tell=told.append)
    assert {line.split(": ")[1] for line in told} == {
        f"{method}, seed 0" for method in ("ste-autograd", "ste-manual", "rotation")
    }


def test_a_method_of_ones_own_takes_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES["linear-method"], "twin", "geovq.linear.rotation:train")
    config = with_overrides(recipe("lowrank-stiefel"), [*SMALL, 'methods=["rotation","twin"]'])
    summary = read(carry_out(config, tmp_path / "run") / "summary.json")["comparison"]
    assert summary["twin"] == summary["rotation"]


def test_a_method_whose_file_was_edited_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own_method.py"
    file.write_text(
        "from geovq.linear import rotation\n\n\ndef train(*X, **s):\n    return rotation.train(*X, **s)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(FAMILIES["linear-method"], "own", "own_method:train")
    config = with_overrides(recipe("lowrank-stiefel"), [*SMALL, 'methods=["pca-lloyd","own"]', "seeds=[0]"])

    def trained(reuse: list[Path], name: str) -> set[str]:
        told: list[str] = []
        carry_out(config, tmp_path / name, reuse=reuse, tell=told.append)
        return {line.split(": ")[1] for line in told}

    try:
        assert trained([], "first") == {"pca-lloyd, seed 0", "own, seed 0"}
        assert trained([tmp_path / "first"], "same") == set()
        file.write_text(file.read_text().replace("rotation", "ste_manual"))
        assert trained([tmp_path / "first"], "edited") == {"own, seed 0"}
    finally:
        sys.modules.pop("own_method", None)


def test_a_training_that_diverges_is_named(tmp_path: Path) -> None:
    changes = ['methods=["pca-lloyd","ste-manual"]', "seeds=[3]", "orthonormal=false", "lrW=1e200"]
    with pytest.raises(TrainingError, match=r"^ste-manual, seed 3: loss is (nan|inf) at step"):
        carry_out(with_overrides(recipe("lowrank-stiefel"), [*SMALL, *changes]), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (['methods=["rotatoin"]'], "unknown method 'rotatoin'; did you mean 'rotation'"),
        (["recipe=../elsewhere"], "cannot be a folder's"),
        (['methods=["pca-lloyd","ste-manual"]', "experiment=comprehensive"], "needs 'ste-autograd'"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_before_a_folder_is_made(
    changes: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        carry_out(with_overrides(recipe("lowrank-stiefel"), [*SMALL, *changes]), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_there_are_no_stages_to_stop_after(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no stages to stop after; leave it out"):
        carry_out(recipe("lowrank-stiefel"), tmp_path / "run", stop_after="train")
    assert list(tmp_path.iterdir()) == []


def test_every_part_of_the_comprehensive_experiment_is_written(comprehensive: Path) -> None:
    sizes = {(t["K"], t["beta"]) for t in read(comprehensive / "codebook-size.json")["trainings"]}
    assert sizes == {(4, 0.25), (6, 0.25), (4, None), (6, None)}
    betas = {t["beta"] for t in read(comprehensive / "commitment.json")["trainings"]}
    assert betas == {0.0, 0.25, None}
    steps = {t["steps"] for t in read(comprehensive / "convergence.json")["trainings"]}
    assert steps == {20, None}
    for name in ("convergence", "codebook-size", "commitment"):
        assert (comprehensive / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_gradients_by_hand_are_those_of_autograd(comprehensive: Path) -> None:
    checks = read(comprehensive / "verification.json")["checks"]
    assert {(c["seed"], c["weights"]) for c in checks} == {
        (s, w) for s in (0, 1) for w in ("start", "trained")
    }
    assert all(max(check["encoder"], check["codebook"]) < 1e-10 for check in checks)


def test_a_training_that_two_parts_need_is_done_once(comprehensive: Path, told: list[str]) -> None:
    gradient_methods, baselines, seeds = 3, 2, 2
    # 20 steps; then 10 steps at K 4 and 6 with beta 0.25, and at K 4 with beta 0
    assert len(told) == len(set(told)) == seeds * (gradient_methods * 4 + baselines * 2)
    arms = {record.arm for record in read_metrics(comprehensive / "metrics.json")}
    assert {"rotation", "rotation (steps 10)", "rotation (beta 0, steps 10)", "pca-lloyd"} <= arms


def test_a_killed_run_goes_on_to_the_same_bytes(
    comprehensive: Path,
    comprehensive_config: LaboratoryConfig,
    tmp_path: Path,
) -> None:
    class Killed(BaseException):
        pass

    def tell(line: str) -> None:
        if "K 6" in line:
            raise Killed

    out = tmp_path / "run"
    with pytest.raises(Killed):
        carry_out(comprehensive_config, out, command="geovq run x", tell=tell)
    assert (out / "convergence.json").exists() and not (out / "codebook-size.json").exists()
    rest: list[str] = []
    carry_out(comprehensive_config, out, command="geovq run x", tell=rest.append)
    assert rest and not any(", 20 steps" in line for line in rest)
    assert contents(out) == contents(comprehensive)


def test_the_command_line_runs_reports_and_takes_its_own_configuration_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SMALL[:-1], 'methods=["pca-lloyd","ste-manual"]']
    changes = [word for setting in settings for word in ("--set", setting)]
    assert main(["run", "lowrank-stiefel", *changes, "--seed", "3", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[1] == "SUMMARY" and printed.strip().endswith("report.html")
    header, units = (line.split() for line in printed.splitlines()[6:8])
    assert header == ["Method", "Recon", "SSE", "In-Sub", "Dist", "Usage", "Ent", "Dead", "Frac"]
    assert units == ["data²/sample", "data²/sample", "nats", "fraction"]
    row = next(line.split() for line in printed.splitlines() if line.startswith("ste-manual "))
    (training,) = read(tmp_path / "run" / "ste-manual.json")["trainings"]
    assert training["seed"] == 3
    assert float(row[1]) == pytest.approx(training["metrics"]["sse_per_sample"], abs=1e-6)
    run = tmp_path / "run"
    found = (run / "summary.json").read_bytes()
    assert main(["run", str(run / "config.json"), "--out", str(run)]) == 0
    assert "train" not in capsys.readouterr().err
    page = (run / "report.html").read_bytes()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").read_bytes() == page and (run / "summary.json").read_bytes() == found


def test_images_have_no_place_in_the_laboratory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "lowrank-stiefel", "--data", "mnist", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("error: --data is 'mnist'; recipe 'lowrank-stiefel'")
    assert list(tmp_path.iterdir()) == []
