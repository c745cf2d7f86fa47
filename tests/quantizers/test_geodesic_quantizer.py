"""Geodesic codes against all-pairs shortest paths."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_contract import MEANS, SIGMAS, TEST, TRAIN
from scipy.sparse.csgraph import floyd_warshall
from sklearn.datasets import make_swiss_roll
from sklearn.exceptions import NotFittedError

from geovq.errors import InputError
from geovq.geometry import DATA_EDGES, Latents, neighbor_graph
from geovq.quantizers import GeodesicQuantizer, KMeansQuantizer

EDGE_NAMES = sorted(DATA_EDGES)


def all_pairs(means, sigmas, edges, k):
    latents = Latents(means, sigmas if DATA_EDGES[edges].takes_sigma else None)
    return floyd_warshall(neighbor_graph(latents, k, DATA_EDGES[edges]).lengths)


@pytest.mark.parametrize("edges", EDGE_NAMES)
def test_codes_are_the_nearest_medoids_by_all_pairs(edges):
    means, sigmas = MEANS[TRAIN], SIGMAS[TRAIN]
    quantizer = GeodesicQuantizer(12, n_neighbors=6, edges=edges, random_state=0).fit(means, sigma=sigmas)
    medoids = [int(np.flatnonzero((means == row).all(1))[0]) for row in quantizer.codebook_]
    table = all_pairs(means, sigmas, edges, 6)[medoids]
    np.testing.assert_array_equal(quantizer.predict(means, sigma=sigmas), table.argmin(0))
    rows = [int(np.flatnonzero((means == node).all(1))[0]) for node in quantizer.nodes_]
    np.testing.assert_allclose(quantizer.node_distances_, table.min(0)[rows], rtol=1e-12)
    assert quantizer.objectives_[-1] == pytest.approx(np.square(table.min(0)).mean())


@pytest.mark.parametrize("edges", EDGE_NAMES)
def test_new_points_attach_through_their_neighbours(edges):
    means, sigmas = MEANS[TRAIN], SIGMAS[TRAIN]
    quantizer = GeodesicQuantizer(12, n_neighbors=6, edges=edges, random_state=0).fit(means, sigma=sigmas)
    measure = DATA_EDGES[edges]
    nodes = Latents(quantizer.nodes_, getattr(quantizer, "node_sigmas_", None))
    coordinates = measure.coordinates(nodes)
    expected = []
    for mean, sigma in zip(MEANS[TEST], SIGMAS[TEST], strict=True):
        here = Latents(mean[None], sigma[None])
        near = np.argsort(np.square(coordinates - measure.coordinates(here)).sum(1))[:7]
        lengths = [measure.between(here, nodes.take(np.array([v])))[0] for v in near]
        expected.append(quantizer.node_codes_[near[np.argmin(lengths + quantizer.node_distances_[near])]])
    np.testing.assert_array_equal(quantizer.predict(MEANS[TEST], sigma=SIGMAS[TEST]), expected)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(3, 60),
    d=st.sampled_from([1, 2, 10]),
    whole=st.booleans(),
    data=st.data(),
)
def test_fitted_points_have_their_own_codes(seed, n, d, whole, data):
    rng = np.random.default_rng(seed)
    points = rng.integers(-2, 3, size=(n, d)).astype(float) if whole else rng.normal(size=(n, d))
    nodes = np.unique(points, axis=0)
    n_codes = data.draw(st.integers(1, len(nodes)))
    k = data.draw(st.integers(1, 8))
    quantizer = GeodesicQuantizer(n_codes, n_neighbors=k, random_state=0).fit(points)
    np.testing.assert_array_equal(quantizer.predict(quantizer.nodes_), quantizer.node_codes_)
    assert quantizer.predict(quantizer.codebook_).tolist() == list(range(n_codes))


@pytest.mark.parametrize("edges", EDGE_NAMES)
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("init", ["kmeans", "random", "farthest"])
def test_the_objective_never_rises(edges, power, init):
    settings_ = {"n_neighbors": 5, "edges": edges, "power": power, "init": init, "random_state": 1}
    plain = GeodesicQuantizer(8, **settings_).fit(MEANS, sigma=SIGMAS)
    polished = GeodesicQuantizer(8, **settings_, polish=True).fit(MEANS, sigma=SIGMAS)
    assert (np.diff(polished.objectives_) <= 0).all()
    np.testing.assert_array_equal(polished.objectives_[:-1], plain.objectives_)
    assert polished.objectives_[-1] < polished.objectives_[0]
    distances = polished.node_distances_  # of distinct points, none of which repeats here
    assert polished.objectives_[-1] == pytest.approx((distances**power).mean(), rel=1e-12)


def test_starts_differ_and_all_have_distinct_medoids():
    found = {
        init: GeodesicQuantizer(40, init=init, n_iterations=1, random_state=0).fit(MEANS[TRAIN])
        for init in ("kmeans", "random", "farthest")
    }
    for quantizer in found.values():
        assert len({tuple(row) for row in quantizer.codebook_}) == 40
    first = {init: quantizer.objectives_[0] for init, quantizer in found.items()}
    assert first["kmeans"] < min(first["random"], first["farthest"])
    covered = {init: quantizer.node_distances_.max() for init, quantizer in found.items()}
    assert covered["farthest"] < covered["random"]


@pytest.mark.parametrize("power", [1, 2])
def test_never_worse_than_euclidean_codes_snapped_to_points(power):
    means = KMeansQuantizer(24, random_state=3).fit(MEANS[TRAIN]).codebook_
    snapped = [int(np.square(MEANS[TRAIN] - mean).sum(1).argmin()) for mean in means]
    table = all_pairs(MEANS[TRAIN], None, "euclidean", 8)[snapped]
    quantizer = GeodesicQuantizer(24, n_neighbors=8, power=power, random_state=3).fit(MEANS[TRAIN])
    assert quantizer.objectives_[-1] <= (table.min(0) ** power).mean()


def test_improves_on_its_start_where_the_data_are_folded():
    points, _ = make_swiss_roll(1500, random_state=0)
    quantizer = GeodesicQuantizer(6, n_neighbors=10, random_state=0).fit(points)
    assert quantizer.objectives_[-1] < 0.6 * quantizer.objectives_[0]


def test_cells_follow_the_sheet_and_not_the_gap():
    """Codes of a folded strip: neighbours across the fold are far along it."""
    turn = np.linspace(0, 6 * np.pi, 1500)
    spiral = (4 + 0.25 * turn)[:, None] * np.c_[np.cos(turn), np.sin(turn)]
    codes = GeodesicQuantizer(5, n_neighbors=4, random_state=0).fit_predict(spiral)
    assert np.count_nonzero(np.diff(codes)) == 4  # every cell is one piece of the strip
    euclidean = KMeansQuantizer(5, random_state=0).fit_predict(spiral)
    assert np.count_nonzero(np.diff(euclidean)) > 4


def test_means_of_cells_lie_nearer_than_medoids():
    settings_ = {"n_codes": 12, "n_neighbors": 8, "random_state": 0}
    medoid = GeodesicQuantizer(**settings_, centers="medoid").fit(MEANS[TRAIN])
    mean = GeodesicQuantizer(**settings_, centers="mean").fit(MEANS[TRAIN])
    codes = medoid.predict(MEANS[TRAIN])
    np.testing.assert_array_equal(mean.predict(MEANS[TRAIN]), codes)
    for code in range(12):
        np.testing.assert_allclose(mean.codebook_[code], MEANS[TRAIN][codes == code].mean(0), rtol=1e-12)
    assert {tuple(row) for row in medoid.codebook_} <= {tuple(row) for row in MEANS[TRAIN]}
    assert mean.score(MEANS[TRAIN]) > medoid.score(MEANS[TRAIN])


def test_precision_means_are_weighted():
    quantizer = GeodesicQuantizer(6, edges="precision", centers="mean", random_state=0)
    codes = quantizer.fit_predict(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
    weights = SIGMAS[TRAIN][codes == 2] ** -2.0
    expected = (MEANS[TRAIN][codes == 2] * weights).sum(0) / weights.sum(0)
    np.testing.assert_allclose(quantizer.codebook_[2], expected, rtol=1e-10)


def test_nearest_assignment_keeps_the_codebook_alone():
    settings_ = {"n_codes": 12, "random_state": 0}
    graph = GeodesicQuantizer(**settings_).fit(MEANS[TRAIN])
    nearest = GeodesicQuantizer(**settings_, assignment="nearest").fit(MEANS[TRAIN])
    np.testing.assert_array_equal(nearest.codebook_, graph.codebook_)
    assert set(nearest.fitted_state()[0]) == {"codebook_", "objectives_"}
    differ = nearest.predict(MEANS[TRAIN]) != graph.predict(MEANS[TRAIN])
    assert nearest.nearest_disagreement_ == graph.nearest_disagreement_ == differ.mean() > 0
    table = np.square(MEANS[TEST][:, None] - nearest.codebook_).sum(2)
    np.testing.assert_array_equal(nearest.predict(MEANS[TEST]), table.argmin(1))


def test_nearest_assignment_uses_the_metric_of_the_edges():
    for edges in ("wasserstein", "precision"):
        quantizer = GeodesicQuantizer(12, edges=edges, assignment="nearest", random_state=0)
        quantizer.fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
        squares = np.square(MEANS[TEST][:, None] - quantizer.codebook_)
        if edges == "wasserstein":
            table = squares + np.square(SIGMAS[TEST][:, None] - quantizer.codebook_sigma_)
        else:
            table = squares / np.square(SIGMAS[TEST][:, None])
        codes = quantizer.predict(MEANS[TEST], sigma=SIGMAS[TEST])
        np.testing.assert_array_equal(codes, table.sum(2).argmin(1))


def test_clusters_far_apart_are_bridged_and_counted():
    rng = np.random.default_rng(0)
    clusters = [rng.normal(size=(40, 3)) + np.array([1000.0 * i, 0, 0]) for i in range(3)]
    quantizer = GeodesicQuantizer(3, n_neighbors=4, random_state=0)
    codes = quantizer.fit_predict(np.concatenate(clusters))
    assert quantizer.graph_report_["n_bridges"] == quantizer.graph_report_["n_components"] - 1 >= 2
    assert quantizer.graph_report_["bridge_length"] > 1980
    assert [len(set(codes[i * 40 : i * 40 + 40])) for i in range(3)] == [1, 1, 1]
    assert len(set(codes)) == 3


def test_bridges_are_refused_on_request():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + 1000.0])
    with pytest.raises(InputError, match=r"components.*n_neighbors"):
        GeodesicQuantizer(3, n_neighbors=10, allow_bridges=False).fit(points)
    whole = GeodesicQuantizer(3, n_neighbors=79, allow_bridges=False, random_state=0).fit(points)
    assert whole.graph_report_["n_bridges"] == 0


def test_copies_of_points_weigh_but_do_not_cut_the_graph():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 2))
    once = GeodesicQuantizer(5, n_neighbors=6, random_state=0).fit(points)
    copied = np.concatenate([points, np.repeat(points[:1], 40, axis=0)])
    quantizer = GeodesicQuantizer(5, n_neighbors=6, random_state=0).fit(copied)
    assert quantizer.graph_report_ == once.graph_report_
    assert len(quantizer.nodes_) == 60
    assert tuple(points[0]) in {tuple(row) for row in quantizer.codebook_}  # 41 points stand there


def test_more_neighbours_than_points_are_cut_down():
    many = GeodesicQuantizer(3, n_neighbors=500, random_state=0).fit(MEANS[:20])
    all_of_them = GeodesicQuantizer(3, n_neighbors=19, random_state=0).fit(MEANS[:20])
    np.testing.assert_array_equal(many.codebook_, all_of_them.codebook_)


def test_equal_points_are_one_code():
    with pytest.warns(UserWarning, match="only 1 points are distinct"):
        quantizer = GeodesicQuantizer(4).fit(np.ones((9, 3)))
    assert (quantizer.predict(np.random.default_rng(0).normal(size=(20, 3))) == 0).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"edges": "euclid"}, "unknown edges 'euclid'; did you mean 'euclidean'"),
        ({"centers": "means"}, "unknown centers 'means'; did you mean 'mean'"),
        ({"assignment": "path"}, "unknown assignment 'path'"),
        ({"n_neighbors": 0}, "n_neighbors is 0"),
        ({"n_iterations": 0}, "n_iterations is 0"),
        ({"power": 3}, r"power is 3; expected 1 .* or 2"),
        ({"power": True}, "power is True"),
        ({"init": "k-means"}, "unknown init 'k-means'; did you mean 'kmeans'"),
        ({"polish": "yes"}, "polish is 'yes'; expected True or False"),
        ({"allow_bridges": 1}, "allow_bridges is 1; expected True or False"),
        ({"edges": None}, "edges"),
    ],
)
def test_impossible_parameters_are_refused(params, message):
    with pytest.raises(InputError, match=message):
        GeodesicQuantizer(**params).fit(MEANS)


@pytest.mark.parametrize("edges", ["euclidean", "wasserstein"])
def test_compact_files_hold_the_codebook_and_no_nodes(edges: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points, sigma = rng.normal(size=(2000, 4)), rng.uniform(0.5, 1.5, size=(2000, 4))
    given = {} if edges == "euclidean" else {"sigma": sigma}
    whole = GeodesicQuantizer(n_codes=16, edges=edges, random_state=0).fit(points, **given)
    whole.save(tmp_path / "whole")
    whole.save(tmp_path / "compact", compact=True)
    sizes = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "compact")}
    assert sizes["compact"] < sizes["whole"] / 20
    compact = GeodesicQuantizer.load(tmp_path / "compact")
    nearest = GeodesicQuantizer(n_codes=16, edges=edges, assignment="nearest", random_state=0)
    expected = nearest.fit(points, **given).predict(points, **given)
    np.testing.assert_array_equal(compact.predict(points, **given), expected)
    np.testing.assert_array_equal(compact.codebook_, whole.codebook_)


def test_points_that_differ_in_sigma_alone_keep_their_own_codes():
    rng = np.random.default_rng(0)
    means, sigmas = rng.integers(-2, 3, (1000, 2)).astype(float), rng.uniform(0.1, 2, (1000, 2))
    quantizer = GeodesicQuantizer(64, edges="precision", random_state=0).fit(means, sigma=sigmas)
    codes = quantizer.predict(quantizer.nodes_, sigma=quantizer.node_sigmas_)
    np.testing.assert_array_equal(codes, quantizer.node_codes_)
    codes = quantizer.predict(quantizer.codebook_, sigma=quantizer.codebook_sigma_)
    assert codes.tolist() == list(range(64))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide):RuntimeWarning")
def test_points_that_no_path_reaches_are_refused():
    quantizer = GeodesicQuantizer(8, edges="precision", random_state=0).fit(MEANS, sigma=SIGMAS)
    with pytest.raises(InputError, match="no finite length leads from 600 of 600 points"):
        quantizer.predict(MEANS, sigma=np.full_like(MEANS, 1e-200))


def test_a_refused_fit_leaves_no_fitted_quantizer(tmp_path: Path):
    rng = np.random.default_rng(0)
    apart = np.concatenate([rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + 1000.0])
    quantizer = GeodesicQuantizer(3, n_neighbors=5, random_state=0).fit(MEANS)
    with pytest.raises(InputError):
        quantizer.set_params(allow_bridges=False).fit(apart)
    for call in (lambda: quantizer.predict(apart), lambda: quantizer.save(tmp_path / "q")):
        with pytest.raises(NotFittedError):
            call()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_swaps_work_in_any_unit(scale):
    settings_ = {"n_codes": 12, "n_neighbors": 8, "polish": True, "random_state": 0}
    plain = GeodesicQuantizer(**settings_).fit(MEANS[TRAIN])
    scaled = GeodesicQuantizer(**settings_).fit(scale * MEANS[TRAIN])
    assert scaled.objectives_[-1] / scale**2 == pytest.approx(plain.objectives_[-1], rel=1e-2)
    assert len(scaled.objectives_) > 1
    assert scaled.objectives_[-1] < 0.99 * scaled.objectives_[0]


def test_another_metric_or_assignment_after_the_fit_needs_a_new_one(tmp_path: Path):
    quantizer = GeodesicQuantizer(8, random_state=0).fit(MEANS[TRAIN])
    quantizer.save(tmp_path / "q", compact=True)
    compact = GeodesicQuantizer.load(tmp_path / "q").set_params(assignment="graph")
    with pytest.raises(InputError, match=r"assignment is 'graph', but .* was fitted with 'nearest'"):
        compact.predict(MEANS[TEST])
    quantizer.set_params(edges="precision")
    with pytest.raises(InputError, match=r"edges is 'precision', but .* was fitted with 'euclidean'"):
        quantizer.predict(MEANS[TEST], sigma=SIGMAS[TEST])
