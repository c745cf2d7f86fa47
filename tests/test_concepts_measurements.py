"""What the measurements of docs/concepts.md measure, where the answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from geovq.errors import CorruptArtifactError
from geovq.geometry import DATA_EDGES, Latents, PullbackEdges
from geovq.quantizers import GeodesicQuantizer
from geovq.seeding import numpy_generator

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture(autouse=True)
def scripts_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 20)).eval()


@pytest.fixture
def latents():
    return numpy_generator(0, "latents").standard_normal((300, 3)).astype(np.float32)


def test_paths_in_the_plane_rank_as_straight_lines_do(monkeypatch):
    from concepts import flat_space

    points = numpy_generator(0, "plane").uniform(size=(3_000, 2))
    found = flat_space.statistics(points, seed=0)
    assert found["spearman"] > 0.99
    assert 1 < found["median_ratio"] < 1.2
    assert found["bridges"] == found["components"] - 1 == 0


def test_two_far_clouds_have_one_bridge_and_paths_along_a_circle_are_longer_than_lines():
    from concepts import flat_space

    generator = numpy_generator(0, "clouds")
    clouds = np.concatenate([generator.uniform(size=(500, 2)), generator.uniform(size=(500, 2)) + 50])
    found = flat_space.statistics(clouds, seed=0)
    assert (found["components"], found["bridges"]) == (2, 1)
    assert found["longest_bridge_over_median_edge"] > 500
    angles = generator.uniform(0, 2 * np.pi, 2_000)
    circle = flat_space.statistics(np.stack([np.cos(angles), np.sin(angles)], axis=1), seed=0)
    # Arc over chord at the median angle, a quarter of the circle.
    assert circle["median_ratio"] == pytest.approx((np.pi / 2) / np.sqrt(2), rel=0.02)


def test_the_gaussian_null_has_the_mean_and_covariance_of_the_points():
    from concepts import flat_space

    points = numpy_generator(0, "points").standard_normal((500, 3)) @ np.diag([1, 2, 5]) + [1, 2, 3]
    null = flat_space.like(points, 200_000, numpy_generator(0, "null"))
    assert np.allclose(null.mean(0), points.mean(0), atol=0.05)
    assert np.allclose(np.cov(null.T), np.cov(points.T), atol=0.2)


def test_the_roll_is_an_isometric_and_evenly_covered_sheet():
    from concepts import swiss_roll

    points, sheet = swiss_roll.roll(20_000, numpy_generator(0, "roll"))
    near = np.argsort(sheet[:, 0])
    in_space = np.linalg.norm(np.diff(points[near], axis=0), axis=1)
    on_sheet = np.linalg.norm(np.diff(sheet[near], axis=0), axis=1)
    assert np.allclose(in_space, on_sheet, rtol=1e-3)
    counts, _ = np.histogram(sheet[:, 0], bins=10)
    assert counts.min() > 0.9 * counts.max()


def test_cells_on_two_turns_are_torn_and_cells_of_the_sheet_are_not():
    from concepts import swiss_roll

    _, sheet = swiss_roll.roll(4_000, numpy_generator(0, "roll"))
    length = sheet[:, 0].max()
    halves = (sheet[:, 0] > length / 2).astype(int)
    whole = swiss_roll.sheet_errors(sheet, sheet, halves, halves)
    assert whole["torn"] == 0
    spread = sum(np.square(sheet[halves == h] - sheet[halves == h].mean(0)).sum() for h in (0, 1)) / len(
        sheet
    )
    assert whole["sheet_error"] == pytest.approx(spread)
    # The outer thirds share a cell: two thirds of the points are in it.
    thirds = np.where(np.abs(sheet[:, 0] - length / 2) > length / 6, 0, 1)
    assert swiss_roll.sheet_errors(sheet, sheet, thirds, thirds)["torn"] == pytest.approx(2 / 3, abs=0.03)


def test_remembered_lengths_are_those_of_the_edges_and_are_measured_once(decoder, latents):
    from concepts.remembered import RememberedChord, RememberedPullback

    plain, pullback = PullbackEdges(decoder, latents), RememberedPullback(decoder, latents)
    generator = numpy_generator(0, "edges")
    starts, ends = generator.integers(300, size=(2, 500))
    nodes = Latents(latents)
    expected = plain.lengths(nodes, starts, ends)
    assert np.allclose(pullback.lengths(nodes, starts, ends), expected, rtol=1e-5)
    calls = pullback.calls.jvps
    order = generator.permutation(300)
    place = np.argsort(order)
    shuffled = nodes.take(order)
    assert np.allclose(pullback.lengths(shuffled, place[ends], place[starts]), expected, rtol=1e-5)
    assert pullback.calls.jvps == calls
    assert np.allclose(
        RememberedChord(pullback).prepared(shuffled).metrics,
        plain.prepared(shuffled).metrics,
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("edges", ["euclidean", "pullback"])
def test_codes_over_a_graph_are_those_of_the_quantizer_with_these_medoids(edges, decoder, latents):
    from concepts import real_decoders

    lengths = DATA_EDGES["euclidean"] if edges == "euclidean" else PullbackEdges(decoder, latents)
    quantizer = GeodesicQuantizer(6, real_decoders.N_NEIGHBORS, lengths, random_state=0).fit(latents)
    medoids = np.array([int((latents == code).all(1).argmax()) for code in quantizer.codebook_])
    new = numpy_generator(1, "latents").standard_normal((200, 3)).astype(np.float32)
    codes = real_decoders.assigned_over_graph(latents, new, medoids, lengths)
    assert (codes == quantizer.predict(new)).all()


def test_values_are_taken_seed_by_seed_and_a_missing_or_doubled_seed_is_refused():
    from concepts.means import relative_difference, values_by_seed

    rows = [
        {"arm": arm, "seed": seed, "mse": base + seed}
        for arm, base in (("a", 1.0), ("b", 2.0))
        for seed in (1, 0)
    ]
    assert values_by_seed(rows, "mse", arm="b") == [2.0, 3.0]
    difference = relative_difference(rows, "mse", {"arm": "a"}, {"arm": "b"})
    assert difference.mean == pytest.approx((1 / 2 + 2 / 3) / 2 - 1)
    with pytest.raises(CorruptArtifactError, match="0 rows"):
        values_by_seed(rows, "mse", arm="c")
    with pytest.raises(CorruptArtifactError, match="4 rows of 2 seeds"):
        values_by_seed(rows, "mse")


def test_a_measurement_says_how_it_was_made_and_holds_a_row_a_line(tmp_path):
    from concepts.measurement import write_measurement

    path = tmp_path / "figures.json"
    write_measurement(path, [{"d": 2, "seed": 0, "ratio": 1.23456789}], about="Ratios.", seeds=1)
    content = json.loads(path.read_text())
    assert {"schema", "about", "seeds", "machine", "threads", "versions", "rows"} == content.keys()
    assert content["rows"] == [{"d": 2, "seed": 0, "ratio": 1.23457}]
    assert '    {"d": 2, "seed": 0, "ratio": 1.23457}\n' in path.read_text()
