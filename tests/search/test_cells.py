"""Rows that are equal, found by their hashes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.search import cells, distinct_rows
from geovq.search.cells import EqualRows, row_hashes

VALUES = st.lists(st.tuples(st.integers(-2, 2), st.integers(-1, 1)), max_size=40)


def array(rows, dtype=np.float64):
    """With zeros of both signs, which are equal."""
    points = np.array(rows, dtype=dtype).reshape(-1, 2)
    points[::2][points[::2] == 0] = -0.0
    return points


def by_dictionary(points):
    first, group = {}, []
    for row, point in enumerate(points + 0.0):
        group.append(first.setdefault(point.tobytes(), row))
    kept = sorted(first.values())
    return kept, [kept.index(row) for row in group]


@pytest.fixture(params=["hashes", "collisions"])
def collisions(request, monkeypatch):
    """Once as it is, and once with hashes of which most are shared by different rows."""
    if request.param == "collisions":
        monkeypatch.setattr(cells, "row_hashes", lambda points: row_hashes(points) % np.uint64(3))


@settings(max_examples=60, deadline=None)
@given(rows=VALUES, dtype=st.sampled_from([np.float32, np.float64]))
def test_distinct_rows_are_those_of_a_dictionary(rows, dtype):
    points = array(rows, dtype)
    first, group = distinct_rows(points)
    assert (first.tolist(), group.tolist()) == by_dictionary(points)


def test_distinct_rows_survive_collisions(collisions):
    points = array(np.random.default_rng(0).integers(-3, 3, size=(500, 2)))
    first, group = distinct_rows(points)
    assert (first.tolist(), group.tolist()) == by_dictionary(points)


def test_the_first_equal_row_is_found_or_none(collisions):
    rng = np.random.default_rng(1)
    points, queries = array(rng.integers(-2, 2, size=(60, 2))), array(rng.integers(-3, 3, size=(80, 2)))
    found = EqualRows(points).find(queries)
    for query, row in zip(queries, found, strict=True):
        equal = np.flatnonzero((points == query).all(1))
        assert row == (equal[0] if len(equal) else -1)


def test_equal_rows_of_two_precisions_have_one_hash():
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert np.array_equal(row_hashes(points), row_hashes(points.astype(np.float64)))
    assert EqualRows(points).find(points[::-1].astype(np.float64)).tolist() == list(range(50))[::-1]
    assert EqualRows(points).find(np.empty((0, 3))).tolist() == []


def test_no_two_rows_of_a_lattice_share_a_hash():
    lattice = np.stack(np.meshgrid(*[np.arange(-20.0, 20)] * 3), axis=-1).reshape(-1, 3)
    assert len(np.unique(row_hashes(lattice))) == len(lattice)
    assert len(np.unique(row_hashes(lattice / 1024))) == len(lattice)
