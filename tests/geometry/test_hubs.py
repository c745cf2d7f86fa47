"""Hubs: points that are neighbours of many others."""

import numpy as np
import pytest
from scipy.stats import skew

from geovq.geometry import NeighborIndex, hub_statistics


def test_a_star_by_hand():
    hubs = hub_statistics(np.array([[1], [0], [0], [0]]))
    assert (hubs.max_in_degree, hubs.antihubs) == (3, 0.5)
    assert hubs.skew == pytest.approx(skew([3, 1, 0, 0]))


def test_a_ring_has_no_hubs():
    hubs = hub_statistics(np.array([[1, 4], [2, 0], [3, 1], [4, 2], [0, 3]], dtype=np.int32))
    assert (hubs.max_in_degree, hubs.skew, hubs.antihubs) == (2, 0.0, 0.0)


def test_in_degrees_are_counted_over_all_columns():
    nearest = NeighborIndex(np.random.default_rng(0).normal(size=(500, 20))).others(7)
    degrees = [(nearest == node).sum() for node in range(500)]
    hubs = hub_statistics(nearest)
    assert hubs.max_in_degree == max(degrees)
    assert hubs.skew == pytest.approx(skew(degrees))
    assert hubs.antihubs == pytest.approx(np.mean(np.array(degrees) == 0))


def test_hubs_grow_with_the_dimension():
    few, many = (
        hub_statistics(NeighborIndex(np.random.default_rng(0).normal(size=(2000, d))).others(10))
        for d in (3, 32)
    )
    assert many.max_in_degree > 3 * few.max_in_degree
    assert many.skew > few.skew + 1
    assert many.antihubs > 5 * few.antihubs
