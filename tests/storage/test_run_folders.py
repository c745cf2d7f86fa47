"""One folder, one run."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from geovq.errors import CorruptArtifactError, StorageError
from geovq.storage.artifact import MANIFEST, read_json, save_artifact, seal
from geovq.storage.run_folder import run_folder, stages_in


def opened(path, config):
    with run_folder(path, config):
        pass


CONFIG = {"bits": 24, "data": {"source": "digits"}, "arms": [{"name": "a"}, {"name": "b"}]}


def test_a_new_folder_gets_the_configuration(tmp_path):
    opened(tmp_path / "runs" / "one", CONFIG)
    assert read_json(tmp_path / "runs" / "one" / "config.json") == CONFIG


def test_an_empty_folder_will_do(tmp_path):
    opened(tmp_path, CONFIG)
    assert read_json(tmp_path / "config.json") == CONFIG


def test_the_same_configuration_goes_on(tmp_path):
    opened(tmp_path, CONFIG)
    (tmp_path / "kept.txt").write_text("kept")
    (tmp_path / ".half.12.tmp").write_text("half")
    opened(tmp_path, CONFIG)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "config.json", "kept.txt"]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({**CONFIG, "bits": 32}, "bits is 24 there, 32 here"),
        ({**CONFIG, "data": {"source": "mnist"}}, "data.source is 'digits' there, 'mnist' here"),
        ({**CONFIG, "arms": [{"name": "a"}, {"name": "c"}]}, "arms.1.name is 'b' there, 'c' here"),
        ({**CONFIG, "arms": []}, r"arms is \[\{'name': 'a'\}, \{'name': 'b'\}\] there, \[\] here"),
        ({**CONFIG, "new": 1}, "new is None there, 1 here"),
    ],
)
def test_another_configuration_is_refused_with_the_first_difference(tmp_path, other, difference):
    opened(tmp_path, CONFIG)
    with pytest.raises(StorageError, match=rf"holds another run \({difference}\); choose another --out"):
        opened(tmp_path, other)
    assert read_json(tmp_path / "config.json") == CONFIG


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / ".hidden").write_text("1")
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StorageError, match=r"holds other files \(thesis\.tex, \.\.\.\)"):
        opened(tmp_path, CONFIG)
    assert not (tmp_path / "config.json").exists()


def test_a_file_is_refused(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(StorageError, match="x: is a file; expected a folder"):
        opened(tmp_path / "x", CONFIG)


def test_a_damaged_configuration_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CorruptArtifactError, match=r"config\.json: not readable as JSON"):
        opened(tmp_path, CONFIG)


def make_stage(folder, stage):
    save_artifact(folder, {}, {"x": np.zeros(1)})
    seal(folder, stage)


def test_stages_are_found_by_the_fingerprint_of_their_inputs(tmp_path):
    for stage in ("one", "two", ""):
        make_stage(tmp_path / "deep" / (stage or "none"), stage)
    assert stages_in(tmp_path) == {"one": tmp_path / "deep" / "one", "two": tmp_path / "deep" / "two"}


def test_a_damaged_stage_is_not_found(tmp_path):
    make_stage(tmp_path / "one", "one")
    make_stage(tmp_path / "two", "two")
    manifest = tmp_path / "two" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"two"', '"six"'))
    assert list(stages_in(tmp_path)) == ["one"]


def test_a_reused_folder_must_exist(tmp_path):
    with pytest.raises(StorageError, match=r"nowhere: no such folder; --reuse expects"):
        stages_in(tmp_path / "nowhere")


def test_another_process_is_refused_until_this_one_is_done(tmp_path):
    code = (
        "import sys; from geovq.storage.run_folder import run_folder\n"
        "from geovq.errors import StorageError\n"
        "try:\n    with run_folder(__import__('pathlib').Path(sys.argv[1]), {}): print('in')\n"
        "except StorageError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with run_folder(tmp_path, {}):
        busy = subprocess.run(command, capture_output=True, text=True, check=True)
    free = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "another process is at work there" in busy.stdout
    assert free.stdout == "in\n"
