"""Landmark codes: the same graph engine, fewer nodes, all pairs."""

import numpy as np
import pytest
from quantizer_contract import MEANS, TEST, TRAIN
from scipy.sparse.csgraph import floyd_warshall

from geovq.errors import InputError
from geovq.geometry import Latents, faster_pam, neighbor_graph
from geovq.quantizers import GeodesicQuantizer, LandmarkGeodesicQuantizer


def test_medoids_are_those_of_faster_pam_on_all_pairs():
    quantizer = LandmarkGeodesicQuantizer(10, n_neighbors=8, random_state=0).fit(MEANS[TRAIN])
    paths = floyd_warshall(neighbor_graph(Latents(quantizer.nodes_), 8).lengths)
    medoids = [int(np.flatnonzero((quantizer.nodes_ == row).all(1))[0]) for row in quantizer.codebook_]
    assert quantizer.objective_ == pytest.approx(paths[medoids].min(0).mean())
    assert len(quantizer.nodes_) * quantizer.objective_ <= 1.05 * faster_pam(paths, 10, seed=5).cost
    np.testing.assert_array_equal(quantizer.node_codes_, paths[medoids].argmin(0))


def test_landmarks_are_a_sample_of_the_points():
    quantizer = LandmarkGeodesicQuantizer(10, n_landmarks=100, random_state=0).fit(MEANS[TRAIN])
    assert len(quantizer.nodes_) == quantizer.graph_report_["n_nodes"] == 100
    rows = {tuple(row) for row in MEANS[TRAIN]}
    assert {tuple(row) for row in quantizer.nodes_} < rows
    assert {tuple(row) for row in quantizer.codebook_} < rows
    # Points that are no landmarks are coded by the rule that codes new points.
    codes = quantizer.predict(MEANS[TRAIN])
    assert set(codes) == set(range(10))
    np.testing.assert_array_equal(quantizer.predict(quantizer.nodes_), quantizer.node_codes_)


def test_codes_to_decode_and_codes_to_model_are_the_same():
    quantizer = LandmarkGeodesicQuantizer(10, n_landmarks=100, random_state=0).fit(MEANS[TRAIN])
    codes = quantizer.predict(MEANS[TEST])
    np.testing.assert_array_equal(quantizer.transform(MEANS[TEST]), quantizer.codebook_[codes])


def test_swaps_on_all_pairs_go_beyond_lloyd_on_the_full_graph():
    for seed in range(3):
        landmark = LandmarkGeodesicQuantizer(12, n_neighbors=8, power=2, random_state=seed)
        full = GeodesicQuantizer(12, n_neighbors=8, power=2, random_state=seed)
        assert landmark.fit(MEANS[TRAIN]).objective_ < full.fit(MEANS[TRAIN]).objectives_[-1]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_landmarks": 0}, "n_landmarks is 0; expected a whole number of at least 1"),
        ({"n_landmarks": 7}, "n_landmarks is 7 for n_codes 8; .* raise n_landmarks"),
        ({"power": 0}, "power is 0"),
        ({"edges": "geodesic"}, "unknown edges 'geodesic'"),
    ],
)
def test_impossible_parameters_are_refused(params, message):
    with pytest.raises(InputError, match=message):
        LandmarkGeodesicQuantizer(**params).fit(MEANS)


def test_landmarks_among_copies_are_counted_as_landmarks():
    points = np.concatenate([np.zeros((900, 4)), MEANS[:100]])
    with pytest.warns(UserWarning, match="landmarks are distinct") as caught:
        LandmarkGeodesicQuantizer(15, n_landmarks=20, random_state=0).fit(points)
    assert caught[0].filename == __file__
