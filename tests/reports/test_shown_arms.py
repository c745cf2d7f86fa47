"""A page of 39 arms: what its pictures show, what it says that they leave out, and how it fits a screen."""

import re
from pathlib import Path

import numpy as np
import pytest

from geovq.evaluation.records import Record
from geovq.reports import write_report
from geovq.reports.run_files import read_run
from geovq.reports.shown_arms import MOST_ARMS, choice_words, shown_arms
from geovq.storage.artifact import save_artifact

CHROMIUM = Path("/usr/bin/chromium")
POST_HOC, TRAINED = ("kmeans", "residual"), ("ema", "residual-ema")
SUFFIXES = ("+metric", "+tuned", "+aware", "+metric+tuned", "+metric+aware", "+tuned+aware")
TUNED = ("+tuned", "+aware", "+tuned+aware")


def many_arms():
    """A floor, 16 arms without remedies, and every remedy for two of them and two trained ones: 39."""
    plain = [f"quantizer-{place}" for place in range(14)]
    remedied = [base + suffix for base in POST_HOC for suffix in ("", *SUFFIXES, "+metric+tuned+aware")]
    trained = [base + suffix for base in TRAINED for suffix in ("", *TUNED)]
    kinds = dict.fromkeys([*plain, *remedied], "post-hoc") | dict.fromkeys(trained, "end-to-end")
    errors = {arm: 0.02 - 0.003 * arm.count("+") + 0.0001 * place for place, arm in enumerate(kinds)}
    return {"continuous": "floor", **kinds}, {"continuous": 0.005, **errors}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return tmp_path_factory.mktemp("many")


@pytest.fixture
def run_of_many(many, build):
    """A finished run of 39 arms with 16 images and 16 worst cases of MNIST's size each, written once."""
    folder = many / "run"
    if not folder.exists():
        kinds, errors = many_arms()
        records = build["records"](errors, noise=1e-6)
        build["run"](folder, records=records, info=build["info"](kinds), images=False)
        draw = np.random.default_rng(0)
        for arm in kinds:
            names = ("originals", "reconstructions", "worst_originals", "worst_reconstructions")
            tensors = {name: draw.integers(0, 256, (16, 1, 28, 28), dtype=np.uint8) for name in names}
            if arm != "continuous":
                tensors["usage_counts"] = draw.integers(0, 90, (8, 256))
            rate = "continuous" if arm == "continuous" else "24"
            save_artifact(folder / "evaluation" / arm / rate / "0", {}, tensors)
        write_report(folder)
    return folder


def test_few_arms_are_all_shown(build):
    records = build["records"]()
    shown = [arm for arm, _ in shown_arms(records, {})]
    assert shown == ["continuous", "residual+tuned", "ema", "residual", "kmeans"]
    assert choice_words(records, 5) == ""


def test_of_many_the_floor_the_best_of_each_side_and_the_plain_ones(run_of_many):
    run = read_run(run_of_many)
    shown = [arm for arm, _ in shown_arms(run.records, run.arms)]
    assert len(run.arms) == 39 and len(shown) == MOST_ARMS
    best = [arm for arm in shown if "+" in arm]
    assert sorted(best) == ["ema+tuned+aware", "kmeans+metric+tuned+aware"]
    assert {"continuous", *POST_HOC, *TRAINED} <= set(shown)
    others = [arm for arm in shown if arm.startswith("quantizer")]
    assert others[0] == "quantizer-0" and others[-1] == "quantizer-13" and len(others) == 5


def test_one_side_alone_still_shows_its_best():
    records = [Record(f"a{place:02}", 8, 0, "test", 9, {"mse": 0.1 + place}) for place in range(30)]
    shown = [arm for arm, _ in shown_arms(records, {})]
    assert len(shown) == MOST_ARMS and shown[0] == "a00" and shown[-1] == "a29"


def test_the_page_of_many_arms_is_small_and_says_what_it_leaves_out(run_of_many):
    page = run_of_many / "report.html"
    assert page.stat().st_size < 3_000_000
    text = page.read_text(encoding="utf-8")
    assert f"{MOST_ARMS} of 39 arms: the floor, the best of each side" in text
    assert len(re.findall(r'<figure class="strip">', text)) == 2 * MOST_ARMS + 1
    table = text.split('<section id="results">')[1].split("</table>")[0]
    assert table.count('<th scope="row">') == 39
    assert "<summary>Codebooks, latents and losses of every arm</summary>" in text


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
@pytest.mark.parametrize("width", [1280, 390])
def test_many_arms_fit_a_screen(run_of_many, width):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((run_of_many / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = page.locator(".scroll").evaluate_all("boxes => boxes.map(box => box.clientWidth)")
        assert boxes and all(inner <= width for inner in boxes)
        # No label of a row may run into the numbers beside it.
        overrun = "labels => labels.map(label => label.scrollWidth - label.clientWidth)"
        labels = page.locator("#results tbody th").evaluate_all(overrun)
        assert len(labels) > 39 and max(labels) <= 0
        browser.close()
