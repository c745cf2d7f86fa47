"""Nearest codes: exact, whatever the chunk, the dtype, the offset of the data or the autocast around it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.errors import InputError
from geovq.search import (
    lowest_scores,
    nearest_codes,
    nearest_codes_and_distances,
    nearest_codes_quadratic,
    nearest_codes_weighted,
)


def draw(seed, n, d, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def brute_force(points, codebook, weights=None):
    squares = (points[:, None] - codebook[None]) ** 2
    return (squares if weights is None else squares * weights[:, None]).sum(2).argmin(1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 60),
    n_codes=st.integers(1, 40),
    d=st.integers(1, 9),
    chunk=st.integers(1, 70) | st.none(),
)
def test_equals_brute_force_in_any_chunk(seed, n, n_codes, d, chunk):
    points, codebook = draw(seed, n, d), draw(seed + 1, n_codes, d)
    assert torch.equal(nearest_codes(points, codebook, chunk), brute_force(points, codebook))
    weights = draw(seed + 2, n, d).exp()
    found = nearest_codes_weighted(points, weights, codebook, chunk)
    assert torch.equal(found, brute_force(points, codebook, weights))


def draw_metrics(seed, n, d, dtype=torch.float64):
    factors = draw(seed, n, d * d, dtype).reshape(n, d, d)
    return factors @ factors.transpose(1, 2) + 0.01 * torch.eye(d, dtype=dtype)


def quadratic_forms(points, metrics, codebook):
    errors = (points[:, None] - codebook).double()
    return torch.einsum("nki,nij,nkj->nk", errors, metrics.double(), errors)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 40),
    n_codes=st.integers(1, 30),
    d=st.integers(1, 6),
    chunk=st.integers(1, 50) | st.none(),
)
def test_a_metric_for_each_point_equals_brute_force_in_any_chunk(seed, n, n_codes, d, chunk):
    points, codebook, metrics = draw(seed, n, d), draw(seed + 1, n_codes, d), draw_metrics(seed + 2, n, d)
    expected = quadratic_forms(points, metrics, codebook).argmin(1)
    assert torch.equal(nearest_codes_quadratic(points, metrics, codebook, chunk), expected)
    scores = draw(seed + 3, n_codes, 1)[:, 0] - points @ codebook.T
    found = lowest_scores(points, codebook, draw(seed + 3, n_codes, 1)[:, 0], chunk)
    assert torch.equal(found, scores.argmin(1))


def test_diagonal_metrics_are_weights_and_the_identity_is_euclidean():
    points, codebook, weights = draw(0, 300, 5), draw(1, 40, 5), draw(2, 300, 5).exp()
    expected = nearest_codes_weighted(points, weights, codebook)
    assert torch.equal(nearest_codes_quadratic(points, torch.diag_embed(weights), codebook), expected)
    identity = torch.eye(5).expand(300, 5, 5)
    assert torch.equal(nearest_codes_quadratic(points, identity, codebook), nearest_codes(points, codebook))


def test_metrics_far_from_the_origin_keep_their_digits_and_ignore_autocast():
    codebook = draw(0, 64, 4, torch.float32)
    points = codebook + 0.01 * draw(1, 64, 4, torch.float32)
    metrics = draw_metrics(2, 64, 4, torch.float32)
    far_points, far_codebook = points + 4096, codebook + 4096
    expected = quadratic_forms(far_points, metrics, far_codebook).argmin(1)
    assert torch.equal(nearest_codes_quadratic(far_points, metrics, far_codebook), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_codes_quadratic(far_points, metrics, far_codebook), expected)
        assert torch.equal(lowest_scores(points, codebook), (points.double() @ codebook.T.double()).argmax(1))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n_codes=st.integers(1, 40), d=st.integers(1, 9), copies=st.integers(1, 3))
def test_equal_codes_lose_to_the_first(seed, n_codes, d, copies):
    codebook = draw(seed, n_codes, d, torch.float32).repeat(1 + copies, 1)
    points = draw(seed + 1, 50, d, torch.float32)
    assert nearest_codes(points, codebook).max() < n_codes
    assert nearest_codes_weighted(points, points.exp(), codebook).max() < n_codes
    assert nearest_codes_quadratic(points, draw_metrics(seed, 50, d), codebook).max() < n_codes
    assert lowest_scores(points, codebook).max() < n_codes
    # In float64: in float32 codes closer than its rounding may stand for each other.
    wide = codebook.double()
    assert nearest_codes(wide, wide).tolist() == list(range(n_codes)) * (1 + copies)


def test_equidistant_codes_go_to_the_lowest():
    codebook = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert nearest_codes(torch.zeros(3, 2), codebook).tolist() == [0, 0, 0]
    assert nearest_codes(torch.zeros(3, 2), codebook.flip(0)).tolist() == [0, 0, 0]


def test_data_far_from_the_origin_keep_their_digits():
    codebook = draw(0, 64, 4, torch.float32)
    points = codebook + 0.01 * draw(1, 64, 4, torch.float32)
    expected = nearest_codes(points, codebook)
    assert torch.equal(nearest_codes(points + 4096, codebook + 4096), expected)
    weights = torch.full_like(points, 3.0)
    assert torch.equal(nearest_codes_weighted(points + 4096, weights, codebook + 4096), expected)


def test_autocast_changes_nothing():
    points, codebook = draw(0, 500, 16, torch.float32), draw(1, 200, 16, torch.float32)
    expected = nearest_codes(points, codebook)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_codes(points, codebook), expected)


def test_narrow_floats_are_widened():
    codebook = torch.arange(400.0)[:, None]
    points = torch.tensor([[255.0], [1.0]]).bfloat16()
    assert (
        nearest_codes(points, codebook.bfloat16().float()).tolist()
        == nearest_codes(points.float(), codebook.bfloat16().float()).tolist()
    )
    assert nearest_codes_and_distances(points, codebook)[1].dtype == torch.float32


def test_distances_are_those_of_the_codes():
    points, codebook = draw(0, 300, 5), draw(1, 20, 5)
    codes, squares = nearest_codes_and_distances(points, codebook)
    assert torch.equal(codes, nearest_codes(points, codebook))
    np.testing.assert_allclose(squares, torch.cdist(points, codebook).min(1).values ** 2, rtol=1e-9)


def test_no_points_give_no_codes():
    assert nearest_codes(torch.empty(0, 3), torch.ones(2, 3)).shape == (0,)


@pytest.mark.parametrize(
    ("points", "codebook"), [((3, 2), (4, 3)), ((3,), (4, 3)), ((3, 2), (0, 2)), ((3, 0), (4, 0))]
)
def test_shapes_that_do_not_fit_are_refused(points, codebook):
    with pytest.raises(InputError, match=r"expected \(n, d\) and \(K, d\)"):
        nearest_codes(torch.zeros(points), torch.zeros(codebook))


def test_offsets_tell_codes_of_equal_features_apart():
    features = torch.ones(3, 2)
    assert lowest_scores(torch.ones(2, 2), features, torch.tensor([1.0, 0.0, 0.0])).tolist() == [1, 1]


def test_metrics_must_be_one_matrix_a_point():
    with pytest.raises(InputError, match=r"metrics have shape \(3, 2\); expected \(3, 2, 2\)"):
        nearest_codes_quadratic(torch.zeros(3, 2), torch.ones(3, 2), torch.zeros(4, 2))


def test_weights_must_have_the_shape_of_points():
    with pytest.raises(InputError, match=r"weights have shape \(3, 1\)"):
        nearest_codes_weighted(torch.zeros(3, 2), torch.ones(3, 1), torch.zeros(4, 2))


@pytest.mark.parametrize("far", [1e4, 1e5, 1e6])
def test_one_code_far_away_costs_the_others_no_digits(far):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(500, 3, generator=generator)
    codebook = torch.cat([points[:9], torch.full((1, 3), far)])
    expected = torch.cdist(points.double(), codebook.double()).argmin(1)
    assert torch.equal(nearest_codes(points, codebook), expected)
    weights = torch.rand(500, 3, generator=generator) + 0.5
    squares = (points.double()[:, None] - codebook.double()).square()
    expected = (squares * weights.double()[:, None]).sum(2).argmin(1)
    assert torch.equal(nearest_codes_weighted(points, weights, codebook), expected)
