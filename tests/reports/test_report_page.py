"""The page says what metrics.json says, is one safe file, and is the same bytes every time."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from geovq.evaluation.records import METRICS, Record, by_seed, read_metrics
from geovq.evaluation.statistics import mean_interval, paired_difference
from geovq.reports import write_report
from geovq.storage.artifact import load_artifact, save_artifact


class Page(HTMLParser):
    """Tables as lists of rows of (text, is bold); images; script blocks; all attribute values."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.images, self.scripts, self.attributes, self.tags = {}, [], [], [], []
        self._cell = self._script = self._caption = None
        self._rows = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs.items()]
        if tag == "img":
            self.images.append(attrs)
        elif tag == "script":
            self._script = attrs
        elif tag == "caption":
            self._caption = ""
        elif tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._cell = ["", False]
        elif tag == "strong" and self._cell is not None:
            self._cell[1] = True
        elif tag == "span" and self._cell is not None:
            self._cell[0] += " "

    def handle_data(self, data):
        if self._script is not None:
            self.scripts.append((self._script, data))
        elif self._caption is not None:
            self._caption += data
        elif self._cell is not None:
            self._cell[0] += data

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None
        elif tag == "caption":
            self.tables[self._caption] = self._rows
            self._caption = None
        elif tag in ("th", "td"):
            self._rows[-1].append((" ".join(self._cell[0].split()), self._cell[1]))
            self._cell = None


DETAILS = "Codebooks, latents and losses"
RESULTS = "Mean over seeds with its 95 % interval"
PRIORS = "Prior bits beside the uniform and unigram floors"
NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?"


def page_of(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def numbers_in(text):
    return [float(found.replace(",", "")) for found in re.findall(NUMBER, text)]


def close(shown, exact, like):
    """Whether ``shown`` is ``exact`` rounded at the third significant digit of ``like``."""
    return abs(shown - exact) <= 0.51 * 10 ** (np.floor(np.log10(abs(like))) - 2)


@pytest.mark.parametrize("caption", [RESULTS, PRIORS])
def test_every_number_of_the_tables_is_in_metrics_json(finished_run, caption):
    records = read_metrics(finished_run / "metrics.json")
    header, *rows = page_of(finished_run).tables[caption]
    names = [text.split()[0] for text, _ in header[1:]]
    assert names == [m for m in names if m in METRICS] and len(rows) == (5 if caption == RESULTS else 2)
    checked = 0
    for (label, _), *cells in rows:
        arm = label.split()[0]
        for name, (text, _) in zip(names, cells, strict=True):
            found = by_seed(records, arm, name, "test")
            if not found:
                assert text == "–"
                continue
            exact = mean_interval(list(found.values()))
            mean, *bounds = numbers_in(text)
            assert close(mean, exact.mean, exact.mean)
            if exact.low != exact.high:
                low, high = bounds
                assert close(low, exact.low, exact.mean) and close(high, exact.high, exact.mean)
            checked += 1
    assert checked >= 10


def test_every_recorded_test_metric_has_its_column(finished_run, finished_metrics):
    page = page_of(finished_run)
    shown = {text.split()[0] for name in (RESULTS, DETAILS, PRIORS) for text, _ in page.tables[name][0][1:]}
    assert shown == set(finished_metrics["metrics"])


def test_headers_give_unit_direction_and_meaning(finished_run):
    page = page_of(finished_run)
    assert [text for text, _ in page.tables[RESULTS][0][:5]] == [
        "arm", "mse intensity² ↓", "psnr dB ↑", "ssim ↑", "bits_nominal bits/image",
    ]  # fmt: skip
    titles = [value for tag, name, value in page.attributes if (tag, name) == ("th", "title")]
    assert METRICS["mse"]["about"] in titles


def test_floor_first_then_by_error(finished_run):
    labels = [row[0][0].split()[0] for row in page_of(finished_run).tables[RESULTS][1:]]
    assert labels == ["continuous", "residual+tuned", "ema", "residual", "kmeans"]


def test_best_is_bold_only_beyond_doubt_and_never_the_floor(finished_run):
    records = read_metrics(finished_run / "metrics.json")
    header, *rows = page_of(finished_run).tables[RESULTS]
    column = [text.split()[0] for text, _ in header].index("mse")
    assert [row[column][1] for row in rows] == [False, True, False, False, False]
    best, second = (by_seed(records, arm, "mse", "test").values() for arm in ("residual+tuned", "ema"))
    assert paired_difference(list(best), list(second)).excludes_zero


def test_no_bold_where_the_paired_interval_holds_zero(tmp_path, build):
    mse = build["mse"] | {"ema": build["mse"]["residual+tuned"]}
    folder = build["run"](tmp_path / "run", records=build["records"](mse, noise=0.001), images=False)
    write_report(folder)
    header, *rows = page_of(folder).tables[RESULTS]
    for name in ("mse", "psnr"):
        column = [text.split()[0] for text, _ in header].index(name)
        assert not any(row[column][1] for row in rows)


def test_the_embedded_json_is_metrics_json(finished_run, finished_metrics):
    ((attributes, text),) = page_of(finished_run).scripts
    assert attributes == {"type": "application/json", "id": "metrics"}
    assert json.loads(text) == finished_metrics


def test_one_file_without_any_address_or_program(finished_run):
    text = (finished_run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    page = Page(text)
    loads = [v for _, name, v in page.attributes if name in ("src", "href", "action", "srcset", "data")]
    assert loads and all(value.startswith("data:") for value in loads)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not {"iframe", "object", "embed", "form"} & set(page.tags)
    assert len(text.encode()) < 3_000_000


def test_every_image_has_words_and_a_size(finished_run):
    images = page_of(finished_run).images
    # errors, originals and arms, paths, clusters, worst, use, samples, training
    assert len(images) == 1 + 6 + 6 + 2 + 5 + 1 + 4 + 2
    assert all(len(image["alt"]) > 20 and int(image["width"]) > 0 for image in images)


def test_every_section_is_there_in_order(finished_run):
    text = (finished_run / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', text) == [
        "verdict", "comparability", "results", "reconstructions", "geometry", "worst", "usage", "samples",
        "training", "cost", "reproduce",
    ]  # fmt: skip
    assert 'class="absent"' not in text
    assert "geovq run digits --out runs/digits" in text and "comparable only at a stated" in text


def test_the_same_files_give_the_same_bytes(finished_run, tmp_path):
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    shutil.rmtree(copy / "figures")
    (copy / "report.html").unlink()
    write_report(copy)
    produced = sorted(p.relative_to(copy) for p in [copy / "report.html", *(copy / "figures").iterdir()])
    assert len(produced) == 24
    for path in produced:
        assert (copy / path).read_bytes() == (finished_run / path).read_bytes(), path


def test_a_second_report_leaves_no_figure_of_the_first(finished_run, tmp_path):
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    (copy / "figures" / "worst-9-gone.png").write_bytes(b"old")
    write_report(copy)
    assert {p.name for p in (copy / "figures").iterdir()} == {
        p.name for p in (finished_run / "figures").iterdir()
    }


def test_a_hostile_arm_name_stays_text(tmp_path, build):
    name = "<img src=x onerror=alert(1)>$\\frac{\"'&{{7*7}}"
    name = name.replace("\\", "")
    kinds = {name: "post-hoc", "ema": "end-to-end"}
    info = build["info"](kinds)
    info["arms"][name]["about"] = "</script><script>alert(1)</script>"
    info["command"] = "geovq run '</pre><script>alert(2)</script>'"
    records = build["records"]({name: 0.01, "ema": 0.02})
    folder = build["run"](tmp_path / "run", records=records, info=info)
    write_report(folder)
    page = page_of(folder)
    ((attributes, text),) = page.scripts
    assert attributes["id"] == "metrics" and "<" not in text
    assert {record["arm"] for record in json.loads(text)["records"]} == set(kinds)
    assert all(image["src"].startswith("data:image/png") for image in page.images)
    assert page.tables[RESULTS][1][0][0].startswith(name)
    assert all(path.parent == folder / "figures" for path in (folder / "figures").rglob("*.png"))


def test_names_in_any_script_are_shown(tmp_path, build):
    kinds = {"量子化 κ-означає": "post-hoc", "ема": "end-to-end"}
    records = build["records"]({arm: 0.01 * (1 + place) for place, arm in enumerate(kinds)})
    folder = build["run"](tmp_path / "run", records=records, info=build["info"](kinds))
    assert all(arm in write_report(folder).read_text(encoding="utf-8") for arm in kinds)


@pytest.mark.parametrize("channels", [1, 3])
def test_many_arms_of_large_noisy_images_stay_below_three_megabytes(tmp_path, build, channels):
    arms = {f"arm-{i}": 0.01 + 0.001 * i for i in range(11)} | {"ema": 0.02}
    info = build["info"]({arm: "end-to-end" if arm == "ema" else "post-hoc" for arm in arms})
    folder = build["run"](tmp_path / "run", records=build["records"](arms), info=info, images=False)
    noise = np.random.default_rng(0).integers(0, 256, (25, channels, 64, 64), dtype=np.uint8)
    for arm in arms:
        names = ("originals", "reconstructions", "worst_originals", "worst_reconstructions")
        save_artifact(folder / "evaluation" / arm / "24" / "0", {}, dict.fromkeys(names, noise))
    for arm in ("arm-0", "ema"):
        save_artifact(folder / "samples" / arm / "24" / "0", {}, {"prior": noise, "uniform": noise})
    build["geometry"](folder, "arm-0")
    config, _ = load_artifact(folder / "paths" / "vae" / "0")
    along = np.random.default_rng(1).integers(0, 256, (4, 9, channels, 64, 64), dtype=np.uint8)
    kinds = dict.fromkeys(("graph", "line", "blend"), along)
    save_artifact(folder / "paths" / "vae" / "0", {**config, "pairs": 2 * config["pairs"]}, kinds)
    assert 500_000 < write_report(folder).stat().st_size < 3_000_000


def test_reports_import_no_torch(finished_run, tmp_path):
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    code = (
        "import sys; from pathlib import Path; from geovq.reports import write_report; "
        "import geovq.reports.results; write_report(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code, copy], check=False).returncode == 0


def test_a_record_of_one_image_and_metric_is_enough_for_a_table(tmp_path, build):
    records = [Record("kmeans", 24, 0, "test", 1, {"mse": 0.01})]
    folder = build["run"](tmp_path / "run", records=records, images=False)
    write_report(folder)
    row = page_of(folder).tables["One seed, no interval"][1]
    assert row == [("kmeans after the fact", False), ("0.0100", False)]
