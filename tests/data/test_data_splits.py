"""Splits: exact counts, every class in its share, fixed for good."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.data.images import ArrayStore
from geovq.data.splits import content_hash, make_splits, set_aside
from geovq.errors import DataError


@st.composite
def labelled_rows(draw):
    labels = np.asarray(draw(st.lists(st.integers(0, 4), min_size=2, max_size=120)))
    rows = np.flatnonzero(draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels))))
    if len(rows) < 2:
        rows = np.arange(len(labels))
    return rows, labels, draw(st.integers(1, len(rows) - 1))


@settings(deadline=None)
@given(labelled_rows(), st.booleans())
def test_set_aside_parts_the_rows(case, stratified):
    rows, labels, count = case
    kept, aside = set_aside(rows, labels if stratified else None, count, "test")
    assert len(aside) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, aside])), rows)
    assert (np.diff(kept) > 0).all()
    assert (np.diff(aside) > 0).all()


@settings(deadline=None)
@given(labelled_rows())
def test_every_class_gives_its_share(case):
    rows, labels, count = case
    _, aside = set_aside(rows, labels, count, "test")
    for label in np.unique(labels[rows]):
        share = (labels[rows] == label).sum() * count / len(rows)
        assert abs((labels[aside] == label).sum() - share) < 1


def splits_of(pixels, labels=None, **parts):
    parts = {"train": np.arange(len(pixels)), **parts}
    return make_splits("toy", ArrayStore(pixels), labels, parts, content_hash(pixels, labels))


def test_missing_parts_are_a_tenth(digit_pixels):
    splits = splits_of(digit_pixels[:100, None])
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (81, 9, 10)
    rows = np.concatenate([splits.train.rows, splits.validation.rows, splits.test.rows])
    np.testing.assert_array_equal(np.sort(rows), np.arange(100))


def test_validation_comes_from_training_when_test_is_given(digit_pixels):
    splits = splits_of(digit_pixels[:50, None], train=np.arange(20), test=np.arange(20, 50))
    assert len(splits.train) == 18
    assert splits.validation.rows.max() < 20
    np.testing.assert_array_equal(splits.test.rows, np.arange(20, 50))


def test_the_fingerprint_follows_content_labels_and_split(digit_pixels, digit_labels):
    pixels, labels = digit_pixels[:50, None], digit_labels[:50].astype(np.int64)
    changed = pixels.copy()
    changed[7, 0, 3, 3] ^= 1
    prints = [
        splits_of(pixels).fingerprint,
        splits_of(changed).fingerprint,
        splits_of(pixels, labels).fingerprint,
        splits_of(pixels, labels, train=np.arange(40), test=np.arange(40, 50)).fingerprint,
        splits_of(pixels, labels, train=np.arange(39), test=np.arange(39, 50)).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert splits_of(pixels.copy()).fingerprint == prints[0]
    assert all(len(p) == 64 and set(p) <= set("0123456789abcdef") for p in prints)


def test_content_does_not_depend_on_byte_order_or_layout_in_memory():
    values = np.arange(24, dtype="<i8").reshape(2, 3, 4)
    assert content_hash(values, None) == content_hash(values.astype(">i8"), None)
    assert content_hash(values, None) == content_hash(np.asfortranarray(values), None)
    assert content_hash(values, None) != content_hash(values.reshape(2, 4, 3), None)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_images_are_refused(count):
    with pytest.raises(DataError, match=f"toy: {count} training images; expected at least 10"):
        splits_of(np.zeros((count, 1, 2, 2), dtype=np.uint8))


def test_an_empty_test_part_is_refused(digit_pixels):
    with pytest.raises(DataError, match="no test images"):
        splits_of(digit_pixels[:20, None], test=np.arange(0))


def test_images_are_read_by_array_and_by_slice(digit_pixels):
    test = splits_of(digit_pixels[:50, None], train=np.arange(20), test=np.arange(20, 50)).test
    by_slice = test.images(slice(2, 5))
    assert by_slice.shape == (3, *test.shape)
    assert by_slice.dtype == np.float32
    np.testing.assert_array_equal(by_slice, test.images(np.array([2, 3, 4])))
    np.testing.assert_array_equal(by_slice[:, 0], digit_pixels[22:25] / np.float32(255))
    assert test.images(np.array([], dtype=np.int64)).shape == (0, 1, 8, 8)
    with pytest.raises(IndexError):
        test.images(np.array([30]))


def test_bytes_become_exactly_zero_to_one():
    store = ArrayStore(np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1))
    values = store.read(np.arange(256)).ravel()
    np.testing.assert_array_equal(values, (np.arange(256) / 255).astype(np.float32))
    assert values[0] == 0
    assert values[-1] == 1


def test_splits_are_frozen(digit_pixels):
    splits = splits_of(digit_pixels[:20, None])
    with pytest.raises(dataclasses.FrozenInstanceError):
        splits.name = "other"
