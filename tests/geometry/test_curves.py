"""Points along a polyline: its ends exactly, equal lengths between, on the polyline all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.errors import InputError
from geovq.geometry import along

CORNER = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0]])


def test_a_straight_segment_is_cut_evenly():
    found = along(np.array([[0.0, 4.0], [2.0, 0.0]]), 5)
    np.testing.assert_allclose(found, [[0, 4], [0.5, 3], [1, 2], [1.5, 1], [2, 0]], atol=1e-15)


def test_euclidean_length_is_the_default():
    np.testing.assert_allclose(along(CORNER, 5), [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1]], atol=1e-15)


def test_other_lengths_move_the_points():
    found = along(CORNER, 5, lengths=np.array([1.0, 3.0]))
    np.testing.assert_allclose(found, [[0, 0], [3, 0], [3, 1 / 3], [3, 2 / 3], [3, 1]], atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), m=st.integers(2, 12), d=st.integers(1, 5), count=st.integers(2, 40),
    zeros=st.floats(0, 0.9),
)  # fmt: skip
def test_every_point_lies_at_its_length_on_the_polyline(seed, m, d, count, zeros):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(m, d))
    lengths = rng.exponential(size=m - 1) * (rng.random(m - 1) >= zeros)
    lengths[rng.integers(m - 1)] = 1.0
    found = along(points, count, lengths)
    np.testing.assert_array_equal(found[[0, -1]], points[[0, -1]])
    ends = np.cumsum(lengths)
    for place, point in zip(np.linspace(0, ends[-1], count)[1:-1], found[1:-1], strict=True):
        piece = int(np.argmax(ends >= place))
        share = 1 - (ends[piece] - place) / lengths[piece]
        expected = points[piece] + share * (points[piece + 1] - points[piece])
        np.testing.assert_allclose(point, expected, atol=1e-9)


def test_points_that_coincide_are_jumped_over():
    points = np.array([[0.0], [0.0], [1.0], [1.0], [1.0], [2.0]])
    np.testing.assert_allclose(along(points, 5), [[0], [0.5], [1], [1.5], [2]], atol=1e-15)


@pytest.mark.parametrize("points", [np.full((1, 3), 2.0), np.full((4, 3), 2.0)])
def test_a_curve_without_length_stays_where_it_is(points):
    np.testing.assert_array_equal(along(points, 6), np.full((6, 3), 2.0))


def test_a_float32_curve_ends_in_the_same_numbers():
    points = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_array_equal(along(points, 9)[[0, -1]].astype(np.float32), points[[0, -1]])


@pytest.mark.parametrize(
    ("points", "count", "lengths", "message"),
    [
        (np.zeros(3), 5, None, r"points have shape \(3,\)"),
        (np.zeros((0, 2)), 5, None, r"points have shape \(0, 2\)"),
        (np.array([[0.0], [np.nan]]), 5, None, "expected finite numbers"),
        (CORNER, 1, None, "count is 1; expected at least 2"),
        (CORNER, 5, np.ones(3), r"lengths have shape \(3,\) for 3 points; expected \(2,\)"),
        (CORNER, 5, np.array([1.0, -1.0]), "0 or more"),
        (CORNER, 5, np.array([1.0, np.inf]), "finite numbers, 0 or more"),
    ],
)
def test_what_is_no_curve_is_refused(points, count, lengths, message):
    with pytest.raises(InputError, match=message):
        along(points, count, lengths)
