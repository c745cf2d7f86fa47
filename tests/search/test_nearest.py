"""Nearest codes: exact in any chunks, dtype, units, far from the origin and under any autocast."""

from unittest.mock import patch

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
    relative_precisions,
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
    numbers=st.integers(1, 2000),
)
def test_equals_brute_force_in_any_chunk(seed, n, n_codes, d, numbers):
    points, codebook = draw(seed, n, d), draw(seed + 1, n_codes, d)
    weights = draw(seed + 2, n, d).exp()
    offsets = draw(seed + 3, n_codes, 1)[:, 0]
    with patch("geovq.search.nearest.DISTANCES_A_CHUNK", numbers):
        found = nearest_codes(points, codebook)
        weighted = nearest_codes_weighted(points, weights, codebook)
        lowest = lowest_scores(points, codebook, offsets)
    assert torch.equal(found, brute_force(points, codebook))
    assert torch.equal(weighted, brute_force(points, codebook, weights))
    assert torch.equal(lowest, (offsets - points @ codebook.T).argmin(1))


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
    numbers=st.integers(1, 1000),
)
def test_a_metric_for_each_point_equals_brute_force_in_any_chunk(seed, n, n_codes, d, numbers):
    points, codebook, metrics = draw(seed, n, d), draw(seed + 1, n_codes, d), draw_metrics(seed + 2, n, d)
    with patch("geovq.search.nearest_quadratic.NUMBERS_A_CHUNK", numbers):
        found = nearest_codes_quadratic(points, metrics, codebook)
    assert torch.equal(found, quadratic_forms(points, metrics, codebook).argmin(1))


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-110, -60, 60, 110])
def test_the_unit_of_the_data_does_not_matter(exponent, dtype):
    points, codebook, unit = draw(0, 300, 4, dtype), draw(1, 30, 4, dtype), 2.0**exponent
    weights, metrics = draw(2, 300, 4, dtype).exp(), draw_metrics(3, 300, 4, dtype)
    for search, beside in ((nearest_codes_weighted, weights), (nearest_codes_quadratic, metrics)):
        expected = search(points, beside, codebook)
        assert torch.equal(search(unit * points, beside, unit * codebook), expected)
    expected = nearest_codes(points, codebook)
    assert torch.equal(nearest_codes(unit * points, unit * codebook), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_and_metrics_count_within_a_point_alone(dtype):
    points, codebook = draw(0, 300, 4, dtype), draw(1, 30, 4, dtype)
    weights, metrics = draw(2, 300, 4, dtype).exp(), draw_metrics(3, 300, 4, dtype)
    units = 2.0 ** torch.linspace(-110, 110, 300).round()
    found = nearest_codes_weighted(points, weights * units[:, None], codebook)
    assert torch.equal(found, nearest_codes_weighted(points, weights, codebook))
    found = nearest_codes_quadratic(points, metrics * units[:, None, None], codebook)
    assert torch.equal(found, nearest_codes_quadratic(points, metrics, codebook))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_relative_precisions_are_precisions_up_to_a_number_a_row(dtype):
    largest = 1 if dtype == torch.float16 else 30
    sigma = (10.0 ** torch.linspace(-largest, largest, 50)[:, None] * draw(0, 50, 3).exp()).to(dtype)
    found = relative_precisions(sigma)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert ((found.amax(1) >= 1) & (found.amax(1) <= 4)).all()
    expected = sigma.double() ** -2
    expected *= (found.double() / expected)[:, :1]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
