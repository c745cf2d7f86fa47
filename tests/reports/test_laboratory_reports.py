"""The laboratory's page, words and results say what its files say."""

import importlib.util
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovq.config import LaboratoryConfig, to_json
from geovq.config.laboratory import WITHOUT_STEPS
from geovq.errors import InputError
from geovq.evaluation.records import Record, metrics_json
from geovq.evaluation.statistics import Estimate, mean_interval
from geovq.reports import summary, write_report
from geovq.reports.laboratory_changes import change, change_words
from geovq.reports.laboratory_files import GradientCheck, LinearTraining, read_laboratory
from geovq.reports.laboratory_published import published_change, published_errors
from geovq.reports.laboratory_summary import settings_words
from geovq.reports.laboratory_tables import by_value, error_table, sweep_table
from geovq.reports.laboratory_words import verdict_words
from geovq.seeding import numpy_generator
from geovq.storage.atomic import write_json

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "write_results.py"
CHROMIUM = Path("/usr/bin/chromium")
SEEDS = (0, 1, 2)
CONFIG = LaboratoryConfig("lowrank-comprehensive", "comprehensive", steps=500, seeds=SEEDS)
GAINS = {
    "pca-lloyd": 1.0, "pca-lloyd-converged": 0.99, "ste-autograd": 1.01, "ste-manual": 1.01, "rotation": 1.0
}  # fmt: skip


def training(method, seed, K=32, beta=0.25, steps=500, logs=True):
    """Invented measurements: an error that falls with K, times the method's factor, with a little chance."""
    draw = numpy_generator(seed, f"{method}/{K}/{beta}")
    chance = 0.002 * draw.standard_normal() if method == "rotation" else 0.0001 * draw.standard_normal()
    error = 8 / math.sqrt(K) * (GAINS[method] + chance) * (1 + 0.03 * seed)
    metrics = {
        "sse_per_sample": error,
        "in_subspace_distortion": error - 0.7,
        "usage_entropy_nats": 0.99 * math.log(K),
        "dead_fraction": 0.0,
    }
    without = method in WITHOUT_STEPS
    rows = tuple(
        {**metrics, "step": 10.0 * i, "loss": 5.0 - i, "sse_per_sample": error + 1 - i} for i in (0, 1)
    )
    return LinearTraining(
        method,
        K,
        None if without else beta,
        None if without else steps,
        seed,
        metrics,
        1e-15,
        rows if logs else (),
    )


def trainings(**settings):
    return [training(method, seed, **settings) for seed in SEEDS for method in GAINS]


def write_parts(folder, config, parts, checks=()):
    """A laboratory's run folder with these parts: name of the file -> (part, trainings)."""
    write_json(folder / "config.json", to_json(config))
    write_json(folder / "run.json", {"schema": 1, "command": "geovq run it", "versions": {"torch": "2"}})
    for name, (part, found) in parts.items():
        content = {"schema": 1, "part": part, "trainings": [asdict(t) for t in found]}
        write_json(folder / f"{name}.json", content)
    if checks:
        content = {"schema": 1, "part": "verification", "checks": [asdict(c) for c in checks]}
        write_json(folder / "verification.json", content)
    records = {
        (f"{t.method} {t.beta} {t.steps}", t.K, t.seed): t.metrics
        for _, found in parts.values()
        for t in found
    }
    write_json(
        folder / "metrics.json",
        metrics_json(
            Record(arm, math.log2(K), s, "evaluation", 4000, m) for (arm, K, s), m in records.items()
        ),
    )
    return folder


@pytest.fixture(scope="module")
def comprehensive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comprehensive")
    parts = {
        "convergence": ("convergence", trainings()),
        "codebook-size": ("codebook-size", [t for K in CONFIG.sweep_K for t in trainings(K=K, steps=300)]),
        "commitment": ("commitment", [t for b in CONFIG.sweep_beta for t in trainings(beta=b, steps=300)]),
    }
    checks = [GradientCheck(0, "start", 2e-15, 1e-16), GradientCheck(0, "trained", 3e-15, 1e-16)]
    write_parts(folder, CONFIG, parts, checks)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    config = LaboratoryConfig("lowrank-stiefel", "comparison", seeds=SEEDS)
    found = trainings(steps=200)
    write_parts(folder, config, {m: ("comparison", [t for t in found if t.method == m]) for m in GAINS})
    write_report(folder)
    return folder


@given(
    st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=2, max_size=8),
    st.randoms(use_true_random=False),
)
def test_a_change_pairs_equal_seeds_whatever_the_order(errors, random):
    found = [
        replace(training("rotation", 0), seed=s, metrics={"sse_per_sample": a})
        for s, (a, _) in enumerate(errors)
    ]
    found += [
        replace(training("pca-lloyd", 0), seed=s, metrics={"sse_per_sample": b})
        for s, (_, b) in enumerate(errors)
    ]
    random.shuffle(found)
    expected = mean_interval([100 * (a / b - 1) for a, b in errors])
    assert change(found, "rotation", "pca-lloyd") == expected


def test_methods_without_a_seed_in_common_are_not_compared():
    found = [training("rotation", 0), training("pca-lloyd", 1)]
    assert change(found, "rotation", "pca-lloyd") is None


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (
            Estimate(-1.684, -1.9, -1.5, 5),
            "a has 1.68 % lower error than b ([-1.90, -1.50] %, n = 5 paired seeds).",
        ),
        (
            Estimate(0.5, 0.1, 0.9, 3),
            "a has 0.50 % higher error than b ([+0.10, +0.90] %, n = 3 paired seeds).",
        ),
        (
            Estimate(0.5, -0.1, 1.1, 3),
            "No difference between a and b is established: +0.50 % ([-0.10, +1.10] %, ",
        ),
        (Estimate(-1.27, None, None, 1), "a has 1.27 % lower error than b: one seed, no interval."),
        (Estimate(-1e-9, -2e-9, 1e-9, 3), "a and b have the same error to 0.01 %."),
        (Estimate(0.0, None, None, 1), "a and b have the same error to 0.01 %."),
    ],
)
def test_words_say_what_is_established(estimate, words):
    assert change_words("a", "b", estimate).startswith(words)


def test_published_changes_are_those_that_were_published():
    found = published_errors(CONFIG, "convergence", 32)
    changes = {m: round(published_change(found, m), 2) for m in ("ste-autograd", "ste-manual", "rotation")}
    assert changes == {"ste-autograd": -1.68, "ste-manual": -1.27, "rotation": -1.66}
    assert (
        published_change(found, "pca-lloyd") is None
        and published_change(found, "pca-lloyd-converged") is None
    )


@pytest.mark.parametrize(
    "setting",
    [
        {"D": 32},
        {"n_train": 10_000},
        {"steps": 200},
        {"beta": 0.1},
        {"rank": 8},
        {"batch": 512},
        {"alpha": 0.5},
        {"lrW": 0.05},
        {"lrE": 0.4},
        {"orthonormal": False},
    ],
)
def test_figures_of_other_settings_are_not_published_ones(setting):
    assert published_errors(replace(CONFIG, **setting), "convergence", 32) == {}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({}, ""),
        ({"lrW": 0.05}, ", lrW 0.05"),
        ({"orthonormal": False, "n_train": 10_000}, ", orthonormal false, n_train 10,000"),
        ({"lrE": 1.0, "alpha": 0.5, "batch": 2048}, ", lrE 1, alpha 0.5, batch 2,048"),
    ],
)
def test_the_line_of_settings_ends_with_those_that_are_not_the_default(setting, words):
    assert settings_words(replace(CONFIG, **setting)).endswith(f"4,000 evaluation samples{words}")


def test_a_sweep_of_beta_keeps_the_baselines_at_every_beta():
    found = [t for beta in (0.0, 1.0) for t in trainings(beta=beta)]
    values = by_value("commitment", found)
    assert list(values) == [0.0, 1.0]
    for beta, own in values.items():
        assert {t.beta for t in own} == {None, beta}
        assert sorted((t.method, t.seed) for t in own) == sorted((m, s) for m in GAINS for s in SEEDS)


def test_the_table_of_errors_holds_the_means_of_the_trainings():
    found = trainings()
    table = error_table(CONFIG, found)
    names = [column.name for column in table.columns]
    assert names[:4] == ["sse_per_sample", "in_subspace_distortion", "usage_entropy_nats", "dead_fraction"]
    for row in table.rows:
        cells = dict(zip(names, row.cells, strict=True))
        mean = np.mean([t.metrics["sse_per_sample"] for t in found if t.method == row.label])
        assert cells["sse_per_sample"].text == f"{mean:.4f}" and cells["entropy"].text == "99.0"
    texts = {row.label: [cell.text for cell in row.cells] for row in table.rows}
    assert texts["ste-autograd"][-2:] == ["2.4475", "-1.68"] and texts["pca-lloyd"][-2:] == ["2.4893", "–"]


def test_the_table_of_a_sweep_has_a_row_a_value_and_method():
    rows = sweep_table(
        CONFIG, "commitment", [t for b in (0.0, 0.3) for t in trainings(beta=b, steps=300)]
    ).rows
    assert [(r.label, r.note) for r in rows] == [
        (method, f"beta {beta}")
        for beta in ("0", "0.3")
        for method in ("ste-autograd", "ste-manual", "rotation")
    ]
    assert [r.cells[-1].text for r in rows] == ["–", "-1.65", "-1.59", "–", "–", "–"]


def test_findings_name_both_baselines_and_what_is_not_established(comprehensive):
    words = verdict_words(read_laboratory(comprehensive))
    assert (
        words[0].startswith("On the same samples and weights")
        and "3e-15 of the largest entry of both" in words[0]
    )
    assert any(w.startswith("ste-autograd has 1.0") and "higher error than pca-lloyd (" in w for w in words)
    assert any(w.startswith("ste-autograd has 2.0") and "than pca-lloyd-converged (" in w for w in words)
    assert any(w.startswith("No difference between rotation and pca-lloyd is established") for w in words)
    published = "Published for ste-manual: -1.27 % from pca-lloyd, of one seed; here single seeds are between"
    assert any(w.startswith(published) for w in words)
    assert "Error of ste-manual beside that of pca-lloyd: higher at K 8, 16, 32, 64." in words
    assert words[-1].startswith("Mean entropy of code use is 99.0 to 99.0 % of ln K")


def test_a_part_that_has_not_ended_is_left_out(comprehensive, tmp_path):
    for name in ("config.json", "run.json", "metrics.json", "convergence.json"):
        (tmp_path / name).write_bytes((comprehensive / name).read_bytes())
    page = write_report(tmp_path).read_text()
    assert "Where the trainings end" in page and "Codebook sizes" not in page
    with pytest.raises(InputError, match="not every part has ended"):
        script().add_run(tmp_path, tmp_path, "full", "", "")


def test_a_run_without_a_part_says_so(comprehensive, tmp_path):
    for name in ("config.json", "run.json"):
        (tmp_path / name).write_bytes((comprehensive / name).read_bytes())
    with pytest.raises(InputError, match="nothing is measured yet"):
        summary(tmp_path)


@pytest.mark.parametrize(
    "change", [{"schema": 7}, {"part": ...}, {"trainings": ...}, {"trainings": [{"K": "x"}]}]
)
def test_a_damaged_part_is_named(comprehensive, tmp_path, change):
    for name in ("config.json", "run.json", "convergence.json"):
        (tmp_path / name).write_bytes((comprehensive / name).read_bytes())
    content = json.loads((tmp_path / "convergence.json").read_text()) | change
    write_json(tmp_path / "convergence.json", {k: v for k, v in content.items() if v is not ...})
    with pytest.raises(InputError, match=str(tmp_path)):
        read_laboratory(tmp_path)


def test_the_summary_ends_with_the_findings(comparison):
    text = summary(comparison)
    assert "K 32, beta 0.25, 200 steps, seeds 0, 1, 2, 4,000 evaluation samples" in text
    assert text.endswith("\n".join(verdict_words(read_laboratory(comparison))))


def test_the_page_repeats_exactly(comprehensive):
    before = {path.name: path.read_bytes() for path in comprehensive.iterdir()}
    write_report(comprehensive)
    assert {path.name: path.read_bytes() for path in comprehensive.iterdir()} == before


def script():
    spec = importlib.util.spec_from_file_location("write_results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("which", ["comparison", "comprehensive"])
def test_a_laboratory_s_run_becomes_a_section_with_its_findings(which, request, tmp_path):
    folder = request.getfixturevalue(which)
    given = ["--add", str(folder), "--name", which, "--title", "Linear", "--about", "Five methods."]
    assert script().main(given, tmp_path) == 0
    page = (tmp_path / "RESULTS.md").read_text()
    run = read_laboratory(folder)
    assert "## Linear\n\nFive methods.\n" in page and "```\ngeovq run it\n```" in page
    for line in verdict_words(run):
        assert f"- {line}\n" in page
    rows = [line for line in page.splitlines() if line.startswith("| `ste-autograd`")]
    assert len(rows) == (1 if which == "comparison" else 1 + len(CONFIG.sweep_K) + len(CONFIG.sweep_beta))
    assert ("### Gradients by hand" in page) == (which == "comprehensive")
    assert script().main([], tmp_path) == 0
    assert (tmp_path / "RESULTS.md").read_text() == page


@pytest.mark.parametrize("key", ["title", "config", "parts", "command"])
def test_a_laboratory_s_results_that_lack_something_are_named(comparison, tmp_path, capsys, key):
    script().main(["--add", str(comparison), "--name", "linear"], tmp_path)
    path = tmp_path / "results" / "linear.json"
    content = json.loads(path.read_text())
    del content[key]
    write_json(path, content)
    capsys.readouterr()
    assert script().main([], tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "linear.json" in error and error.count("\n") == 1


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
def test_nothing_overflows_and_nothing_is_fetched(comparison, comprehensive):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for folder, n_images in ((comparison, 1 + len(GAINS)), (comprehensive, 3)):
            for width in (1280, 390):
                page = browser.new_page(viewport={"width": width, "height": 900})
                messages, requests = [], []
                page.on("console", lambda message, seen=messages: seen.append(message.text))
                page.on("request", lambda request, seen=requests: seen.append(request.url))
                page.goto((folder / "report.html").as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                shown = page.evaluate(
                    "[...document.images].map(i => i.naturalWidth > 0 && i.clientWidth > 0)"
                )
                assert shown == [True] * n_images and messages == []
                assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
                page.close()
        browser.close()
