"""Intervals over seeds against scipy's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from geovq.errors import InputError
from geovq.evaluation.statistics import mean_interval, paired_difference

finite = st.floats(-1e6, 1e6, allow_subnormal=False)
samples = st.lists(finite, min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-6)


@given(samples)
def test_mean_interval_is_that_of_the_t_distribution(values):
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    np.testing.assert_allclose((found.low, found.high), (expected.low, expected.high), rtol=1e-9, atol=1e-9)
    assert found.mean == pytest.approx(np.mean(values)) and found.n == len(values)


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=12))
def test_paired_difference_is_that_of_the_paired_t_test(pairs):
    a, b = zip(*pairs, strict=True)
    differences = np.subtract(a, b)
    found = paired_difference(a, b)
    if np.ptp(differences) < 1e-6 * max(1, np.abs(differences).max()):
        assert found.low == pytest.approx(found.high, rel=1e-4, abs=1e-4)
        return
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    scale = np.abs(differences).max()
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-9, atol=1e-9 * scale)
    assert found.excludes_zero == (expected.low > 0 or expected.high < 0)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=8))
def test_exchanging_the_sides_mirrors_the_interval(pairs):
    a, b = zip(*pairs, strict=True)
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert other.mean == pytest.approx(-one.mean)
    if one.low is not None:
        assert (other.low, other.high) == pytest.approx((-one.high, -one.low))


def test_one_value_has_no_interval_and_excludes_nothing():
    estimate = mean_interval([0.5])
    assert (estimate.mean, estimate.low, estimate.high, estimate.n) == (0.5, None, None, 1)
    assert not estimate.excludes_zero


@pytest.mark.parametrize(("value", "excludes"), [(0.1, True), (-0.1, True), (0.0, False)])
def test_equal_values_have_an_interval_without_width(value, excludes):
    estimate = mean_interval([value] * 3)
    assert (estimate.mean, estimate.low, estimate.high) == (value, value, value)
    assert estimate.excludes_zero is excludes


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_nothing_or_nothing_finite_is_refused(values):
    with pytest.raises(InputError, match="at least one, all finite"):
        mean_interval(values)


def test_sides_of_different_length_are_refused():
    with pytest.raises(InputError, match="2 values against 3"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
