"""RESULTS.md and docs/performance.md say what their JSON files say."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from geovq.reports import write_report
from geovq.reports.numbers import duration
from geovq.reports.results import collect
from geovq.reports.run_files import read_run
from geovq.reports.verdict import verdict

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results():
    return script("write_results")


@pytest.fixture
def performance():
    return script("write_performance")


def add(results, root, run, name="digits-first"):
    described = ["--title", "Digits at 24 bits", "--about", "A | first look."]
    return results.main(["--add", str(run), "--name", name, *described], root)


def test_a_run_becomes_a_section_with_its_verdict_and_table(results, finished_run, tmp_path):
    assert add(results, tmp_path, finished_run) == 0
    page = (tmp_path / "RESULTS.md").read_text()
    run = read_run(finished_run)
    assert "## Digits at 24 bits" in page and f"**{verdict(run.records, run.arms).text}**" in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert table[0].startswith("| arm | mse<br>intensity² ↓ | psnr<br>dB ↑ |")
    assert table[3].startswith("| `residual+tuned` (after the fact) | **0.0103** [")
    assert len({line.count("|") for line in table[:7]}) == 1
    assert "Seeds: 3. Test images: 300 of digits." in page and "Example CPU, 2 cores, 8 GB" in page
    assert "```\ngeovq run digits --out runs/digits\n```" in page and "(results/digits-first.json)" in page


def test_the_stored_records_are_those_of_the_run(results, finished_run, finished_metrics, tmp_path):
    add(results, tmp_path, finished_run)
    stored = json.loads((tmp_path / "results" / "digits-first.json").read_text())
    assert {key: stored[key] for key in ("schema", "metrics", "records")} == finished_metrics
    assert stored == json.loads(json.dumps(collect(finished_run, "Digits at 24 bits", "A | first look.")))
    assert stored["machine"]["cores"] == 2 and len(stored["cost"]["stages"]) == 12


def test_sections_are_in_order_of_name_and_the_page_repeats_exactly(results, finished_run, tmp_path):
    for name in ("b", "a"):
        add(results, tmp_path, finished_run, name)
    page = (tmp_path / "RESULTS.md").read_bytes()
    assert re.findall(rb"\(results/(\w)\.json\)", page) == [b"a", b"b"]
    assert results.main([], tmp_path) == 0
    assert (tmp_path / "RESULTS.md").read_bytes() == page


def test_no_results_make_a_page_with_a_heading_alone(results, tmp_path):
    assert results.main([], tmp_path) == 0
    assert (tmp_path / "RESULTS.md").read_text().startswith("# Results")


def test_a_run_without_costs_has_a_section_without_them(results, build, tmp_path):
    folder = build["run"](tmp_path / "run", images=False)
    (folder / "cost.json").unlink()
    assert add(results, tmp_path, folder) == 0
    assert "Cost:" not in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize("n_reused", [0, 1, 12])
def test_stages_of_earlier_runs_are_said_not_to_be_in_the_sum(results, build, tmp_path, n_reused):
    folder = build["run"](tmp_path / "run", images=False)
    cost = json.loads((folder / "cost.json").read_text())
    for stage in cost["stages"][:n_reused]:
        stage |= {"reused": True, "seconds": 0.5}
    (folder / "cost.json").write_text(json.dumps(cost))
    assert add(results, tmp_path, folder) == 0
    total = duration(sum(stage["seconds"] for stage in cost["stages"]))
    expected = f"{total} in all on Example CPU, 2 cores, 8 GB of memory."
    if n_reused:
        expected += f" Stages taken from earlier runs: {n_reused} of 12; "
        expected += "the sum holds their copying, not their cost."
    assert f"\nCost: {expected}\n" in (tmp_path / "RESULTS.md").read_text()
    assert f"<p>{expected}</p>" in write_report(folder).read_text()


def test_unequal_arms_carry_their_caution(results, build, tmp_path):
    info = build["info"]()
    info["arms"]["ema"]["configurations_tried"] = 1
    add(results, tmp_path, build["run"](tmp_path / "run", info=info, images=False))
    page = (tmp_path / "RESULTS.md").read_text()
    assert "Caution, the two differ in configurations tried" in page


@pytest.mark.parametrize("name", ["../x", "A", ".hidden"])
def test_a_name_that_is_no_file_name_is_refused(results, finished_run, tmp_path, name, capsys):
    assert add(results, tmp_path, finished_run, name) == 2
    assert capsys.readouterr().err.startswith(f"error: --name is '{name}'; expected")
    assert not (tmp_path / "RESULTS.md").exists()


def test_an_unfinished_run_is_refused(results, finished_run, tmp_path, capsys, build):
    folder = build["run"](tmp_path / "run", images=False)
    (folder / "run.json").unlink()
    assert add(results, tmp_path, folder) == 2
    assert "finish the run first" in capsys.readouterr().err


def test_add_needs_a_name(results, finished_run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        results.main(["--add", str(finished_run)], tmp_path)
    assert "--add and --name go together" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["title", "about", "cost", "machine", "records", "arms", "data"])
def test_a_results_file_that_lacks_something_is_named(results, finished_run, tmp_path, capsys, key):
    add(results, tmp_path, finished_run)
    path = tmp_path / "results" / "digits-first.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    capsys.readouterr()
    assert results.main([], tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and key in error and error.count("\n") == 1


BENCHMARK = {
    "title": "Geodesic fit",
    "about": "480,000 points in 4 dimensions.",
    "machine": {"cpu": "Example CPU", "cores": 2},
    "command": "python benchmarks/geodesic_fit.py",
    "rows": [
        {"name": "fit", "value": 12.3456, "unit": "s", "target": 30},
        {"name": "peak memory", "value": 1234.0, "unit": "MB"},
    ],
}


def test_benchmarks_become_tables_with_their_targets(performance, tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "geodesic_fit.json").write_text(json.dumps(BENCHMARK))
    assert performance.main(tmp_path) == 0
    page = (tmp_path / "docs" / "performance.md").read_text()
    assert "| `fit` | 12.3 s | 30 s |" in page and "| `peak memory` | 1,234 MB | – |" in page
    assert "## Geodesic fit" in page and "Machine: Example CPU, 2 cores." in page
    assert "(../benchmarks/geodesic_fit.json)" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"name": "fit"}]}, "lacks a name, value or unit"),
        ({"rows": None}, "'rows'"),
        ({"title": ...}, "title"),
    ],
)
def test_a_benchmark_that_lacks_something_is_named(performance, tmp_path, capsys, change, message):
    content = {key: value for key, value in (BENCHMARK | change).items() if value is not ...}
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "bad.json").write_text(json.dumps(content))
    assert performance.main(tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "bad.json" in error and message in error
