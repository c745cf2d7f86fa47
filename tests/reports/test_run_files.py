"""Folders that are not runs are refused; runs that stopped early get the sections they have."""

import json
import shutil

import numpy as np
import pytest

from geovq.errors import CorruptArtifactError, InputError
from geovq.evaluation.records import Record
from geovq.reports import write_report
from geovq.reports.run_files import read_run
from geovq.storage.artifact import save_artifact

SENTENCES = {
    "run.json": ["nothing to check", "has not stored its command"],
    "cost.json": ["No times are stored"],
    "train_log.csv": ["No training log"],
    "evaluation": ["No reconstructed images", "No worst cases", "No code use"],
    "samples": ["No samples are stored"],
    "paths": ["No paths between images"],
    "clusters": ["No clusters are stored"],
}


@pytest.fixture
def copy(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "copy")


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_a_folder_without_config_or_metrics_is_refused(copy, name):
    (copy / name).unlink()
    expected = rf"has no {name}(; expected a run folder| yet; let the run)"
    with pytest.raises(InputError, match=expected) as refusal:
        write_report(copy)
    assert "\n" not in str(refusal.value)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize("name", SENTENCES)
def test_a_missing_piece_leaves_its_section_out_with_a_sentence(copy, name):
    path = copy / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = write_report(copy).read_text()
    for sentence in SENTENCES[name]:
        assert sentence in text
    assert text.count('class="absent"') == len(SENTENCES[name])


def test_a_run_that_just_began_has_a_page_too(copy):
    for path in copy.iterdir():
        if path.name not in ("config.json", "metrics.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (copy / "metrics.json").write_text('{"schema": 1, "metrics": {}, "records": []}')
    text = write_report(copy).read_text()
    assert "No verdict" in text and text.count('class="absent"') == 12


def test_a_run_without_floor_prior_or_validation_has_a_page(tmp_path, build):
    records = [
        Record("kmeans", 24, 0, "test", 9, {"mse": 0.02}),
        Record("ema", 24, 0, "test", 9, {"ssim": 0.5}),
    ]
    text = write_report(build["run"](tmp_path / "run", records=records, images=False)).read_text()
    assert "No verdict" in text and "No prior has been measured" in text


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{}", "key 'recipe' is missing"),
        ("metrics.json", "{}", "schema is None"),
        ("run.json", "[]", "holds a JSON list"),
        ("run.json", '{"schema": 2}', "schema is 2"),
        ("run.json", '{"schema": 1, "command": "x"}', "versions' is missing"),
        ("cost.json", '{"schema": 1, "stages": [{"stage": "train"}]}', "seconds' is missing"),
        ("cost.json", '{"schema": 1, "stages": 3}', "expected a list"),
        ("cost.json", '{"schema": 1, "stages": [{"stage": "a", "seconds": NaN}]}', "holds NaN"),
        ("cost.json", '{"schema": 1, "stages": [{"stage": "a", "seconds": -1}]}', "finite number, 0 or more"),
        ("train_log.csv", "model,seed\nvae,0\n", "line 2 is not model,seed,epoch"),
        ("train_log.csv", "model,seed,epoch,split,name,value\nvae,0,1,train,total,low\n", "line 2 is not"),
    ],
)
def test_a_damaged_file_is_named(copy, name, text, message):
    (copy / name).write_text(text)
    with pytest.raises(InputError, match=message):
        write_report(copy)


def test_an_unknown_kind_of_arm_is_refused(copy):
    info = json.loads((copy / "run.json").read_text())
    info["arms"]["ema"]["kind"] = "trained"
    (copy / "run.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"arms\.ema\.kind is 'trained'; expected one of floor, post-hoc"):
        write_report(copy)


def test_keys_that_reports_do_not_use_are_passed_over(copy):
    for name in ("run.json", "cost.json"):
        content = json.loads((copy / name).read_text())
        content["later"] = {"x": 1}
        for stage in content.get("stages", []):
            stage["images_per_second"] = 3.0
        for arm in content.get("arms", {}).values():
            arm["later"] = None
        (copy / name).write_text(json.dumps(content))
    before = (copy / "report.html").read_bytes()
    assert write_report(copy).read_bytes() == before


def test_damaged_images_are_refused(copy):
    path = copy / "evaluation" / "ema" / "24" / "0" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptArtifactError, match="SHA-256"):
        write_report(copy)


@pytest.mark.parametrize(
    "tensors",
    [{}, {"prior": np.zeros((0, 1, 8, 8), np.uint8)}, {"prior": np.zeros((2, 8, 8), np.uint8)},
     {"prior": np.zeros((2, 1, 8, 8), np.float32)}],
)  # fmt: skip
def test_samples_that_are_no_images_are_refused(copy, tensors):
    shape = np.zeros((2, 1, 8, 8), np.uint8)
    save_artifact(copy / "samples" / "ema" / "24" / "0", {}, {"uniform": shape} | tensors)
    with pytest.raises(CorruptArtifactError, match=r"'prior' is .*; expected uint8 images"):
        write_report(copy)


@pytest.mark.parametrize("arm", ["../../outside", "..", "a/b", ""])
def test_an_arm_name_cannot_lead_out_of_the_folder(finished_run, arm):
    with pytest.raises(InputError, match="is not a folder name"):
        read_run(finished_run).evaluation(arm, 24)


def test_an_arm_at_two_rates_is_refused(tmp_path, build):
    records = [Record("ema", bits, 0, "test", 9, {"mse": 0.02}) for bits in (24, 32)]
    folder = build["run"](tmp_path / "run", records=records, images=False)
    with pytest.raises(InputError, match="arm 'ema' is at 24 and 32 bits; expected one rate an arm"):
        write_report(folder)
