"""Paths and clusters on the page: the stored pixels, the stored numbers, words for those who do not see."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from geovq.errors import CorruptArtifactError, InputError
from geovq.reports import write_report
from geovq.reports.geometry_figures import (
    COLOURS,
    MARKERS,
    cluster_figure,
    pair_words,
    path_sheets,
    path_table,
)
from geovq.reports.geometry_files import PathPair, Paths, read_clusters, read_paths
from geovq.reports.pictures import GAP, SIDE
from geovq.reports.run_files import read_run
from geovq.storage.artifact import load_artifact, save_artifact


@pytest.fixture
def copy(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "copy")


def section(folder):
    """The page's section on geometry, its white space as single blanks."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    return " ".join(text.split('<section id="geometry">')[1].split("</section>")[0].split())


def test_every_row_shows_the_stored_images_of_its_path(finished_run):
    paths = read_paths(read_run(finished_run), "vae")
    sheets = path_sheets(paths, 1)
    assert len(sheets) == 2
    for place, rows in enumerate(sheets):
        for (_, picture), kind in zip(rows, ("graph", "line", "blend"), strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(picture.png)))
            assert pixels.shape == (SIDE, 9 * (SIDE + GAP) - GAP)
            for step in (0, 4, 8):
                tile = pixels[:, step * (SIDE + GAP) : step * (SIDE + GAP) + SIDE]
                shown = paths.images[kind][place, step, 0]
                np.testing.assert_array_equal(tile, np.kron(shown, np.ones((7, 7), np.uint8)))


def test_rows_say_where_they_lead_and_how_long_they_are(finished_run):
    (graph, line, blend), _ = path_sheets(read_paths(read_run(finished_run), "vae"), 1)
    assert graph[0] == "length 2.50 × direct, through 4 other images"
    assert line[0] == "length 1.50 × direct" and blend[0] == "no model"
    assert "9 images" in graph[1].alt and "class 0 to class 5, over the graph" in graph[1].alt


def test_the_table_holds_means_over_pairs(finished_run):
    table = path_table(read_paths(read_run(finished_run), "vae").facts.pairs)
    cells = {row.label: [cell.text for cell in row.cells] for row in table.rows}
    assert cells == {
        "over the graph": ["2.75", "0.00100"],
        "straight line": ["1.50", "0.00200"],
        "pixel blend": ["1", "0.0150"],
    }


def test_without_classes_pairs_are_numbered_and_equal_ends_have_no_ratio():
    zeros = {"graph": 0.0, "line": 0.0}
    pair = PathPair((), 2, 0.0, zeros, {**zeros, "blend": 0.0})
    assert pair_words(pair, 3) == "pair 3"
    assert [row.cells[0].text for row in path_table([pair]).rows] == ["–", "–", "1"]


def test_large_images_are_shown_for_fewer_pairs_and_reduced_at_last(finished_run):
    paths = read_paths(read_run(finished_run), "vae")

    def shown(channels, side, n_models):
        images = np.zeros((2, 9, channels, side, side), np.uint8)
        sheets = path_sheets(Paths("vae", paths.facts, dict.fromkeys(paths.images, images)), n_models)
        return len(sheets), sheets[0][0][1].height

    assert shown(1, 28, 1) == (2, SIDE)
    assert shown(3, 32, 1) == (2, 2 * 32) and shown(3, 32, 3) == (1, 2 * 32)
    heights = [shown(3, 64, n_models) for n_models in (1, 2, 5)]
    assert [n_pairs for n_pairs, _ in heights] == [1, 1, 1]
    assert SIDE > heights[0][1] > heights[1][1] > heights[2][1] > 20


def test_ten_clusters_differ_in_colour_and_in_marker(finished_run):
    assert len(set(COLOURS)) == len(set(MARKERS)) == 10
    clusters = read_clusters(read_run(finished_run), "kmeans", 24)
    picture = cluster_figure(clusters, "geodesic")
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB")).reshape(-1, 3)
    wanted = np.array([list(bytes.fromhex(colour[1:])) for colour in COLOURS])
    away = np.abs(np.unique(pixels, axis=0)[:, None].astype(int) - wanted).max(2)
    assert away.min(0).max() <= 3
    assert "t-SNE" in picture.alt and "1000 tokens of kmeans" in picture.alt


def test_the_section_says_what_a_path_is_and_what_is_only_for_the_eye(finished_run):
    text = section(finished_run)
    assert "A path over the graph is the shortest chain of edges" in text
    assert "drawn by chance, each from two classes." in text and "bridge" not in text
    assert "Each of 1,000 training images is joined to the 15" in text
    assert "t-SNE is not used for any number" in text and "a graph whose edges are euclidean" in text
    assert "1 is equal, 0 as by chance): 0.654." in text
    assert "0.123 over the graph, 0.111 Euclidean" in text


def test_bridges_and_pairs_without_classes_are_told(copy, build):
    build["geometry"](copy, "kmeans", n_bridges=3)
    folder = copy / "paths" / "vae" / "0"
    config, tensors = load_artifact(folder)
    for classes in ([], [3, 3]):
        pairs = [{**pair, "classes": classes} for pair in config["pairs"]]
        save_artifact(folder, {**config, "pairs": pairs}, tensors)
        write_report(copy)
        assert "in pieces; 3 bridges join them over gaps" in section(copy)
        assert "drawn by chance among those far apart." in section(copy) and "Pair 2" in section(copy)


def test_data_without_labels_has_no_agreement_with_classes(copy):
    folder = copy / "clusters" / "kmeans" / "24" / "0"
    config, tensors = load_artifact(folder)
    save_artifact(folder, {key: config[key] for key in ("n_clusters", "edges", "agreement_ari")}, tensors)
    write_report(copy)
    assert "0.654" in section(copy) and "classes of the images" not in section(copy)


def test_too_few_tokens_leave_the_clusters_out(copy):
    save_artifact(copy / "clusters" / "kmeans" / "24" / "0", {"n_clusters": 10, "edges": "chord"}, {})
    write_report(copy)
    assert "No clusters are stored" in section(copy)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("line", np.zeros((2, 9, 1, 8, 8), np.float32), "'line' is float32 .*; expected uint8 images"),
        ("blend", np.zeros((2, 8, 1, 8, 8), np.uint8), "as all kinds"),
        ("graph", np.zeros((3, 9, 1, 8, 8), np.uint8), r"expected uint8 images \(2, steps"),
    ],
)
def test_paths_that_are_no_images_are_refused(copy, name, array, message):
    folder = copy / "paths" / "vae" / "0"
    config, tensors = load_artifact(folder)
    save_artifact(folder, config, {**tensors, name: array})
    with pytest.raises(CorruptArtifactError, match=message):
        write_report(copy)


def test_paths_that_were_not_measured_are_refused(copy):
    folder = copy / "paths" / "vae" / "0"
    config, tensors = load_artifact(folder)
    config["pairs"][0]["lengths"] = {"graph": 1.0}
    save_artifact(folder, config, tensors)
    with pytest.raises(InputError, match=r"lengths has \['graph'\]; expected graph, line"):
        write_report(copy)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("coordinates", np.zeros((1000, 3), np.float32)),
        ("geodesic", np.full(1000, 10)),
        ("geodesic", np.full(1000, -1)),
        ("euclidean", np.zeros(999, np.int64)),
        ("euclidean", np.zeros(1000, np.float32)),
    ],
)
def test_clusters_that_do_not_fit_their_tokens_are_refused(copy, name, array):
    folder = copy / "clusters" / "kmeans" / "24" / "0"
    config, tensors = load_artifact(folder)
    save_artifact(folder, config, {**tensors, name: array})
    with pytest.raises(CorruptArtifactError, match=rf"'{name}' is .*; expected .*; run the stage again"):
        write_report(copy)


@pytest.mark.parametrize("name", ["..", "a/b"])
def test_a_model_name_cannot_lead_out_of_the_folder(finished_run, name):
    with pytest.raises(InputError, match=r"model name '.*' is not a folder name"):
        read_paths(read_run(finished_run), name)
