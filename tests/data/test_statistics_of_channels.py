"""Mean and standard deviation of channels: those of all pixels, or of evenly spread images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.config import DataConfig
from geovq.data import ImageSet, image_set, load, statistics
from geovq.data.statistics import channel_statistics
from geovq.errors import DataError
from geovq.seeding import numpy_generator


def pictures(n: int, channels: int, height: int = 5, width: int = 3) -> np.ndarray:
    levels = numpy_generator(0, "test").integers(0, 256, (n, channels, height, width))
    return (levels / 255).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 40), channels=st.integers(1, 4), height=st.integers(1, 6), width=st.integers(1, 6))
def test_they_are_those_of_all_pixels(n, channels, height, width):
    images = pictures(n, channels, height, width)
    mean, deviation = channel_statistics(image_set(images))
    pixels = images.astype(np.float64)
    assert mean == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-6)
    assert deviation == pytest.approx(pixels.std((0, 2, 3)), abs=1e-6)


def test_they_are_those_of_the_training_digits_alone():
    splits = load(DataConfig("digits"))
    mean, deviation = channel_statistics(splits.train)
    pixels = splits.train.images(slice(None)).astype(np.float64)
    assert mean == pytest.approx([pixels.mean()], abs=1e-6)
    assert deviation == pytest.approx([pixels.std()], abs=1e-6)
    assert mean != channel_statistics(splits.test)[0]


def test_they_have_six_digits():
    for row in channel_statistics(image_set(pictures(7, 3))):
        assert all(value == round(value, 6) for value in row)


def test_chunks_do_not_change_them(monkeypatch):
    images = image_set(pictures(30, 2))
    whole = channel_statistics(images)
    monkeypatch.setattr(
        statistics, "chunks_of", lambda read: [slice(i, i + 7) for i in range(0, len(read), 7)]
    )
    assert channel_statistics(images) == whole


def test_of_too_many_images_those_evenly_spread_are_read(monkeypatch):
    images = pictures(30, 2)
    monkeypatch.setattr(statistics, "MOST_NUMBERS", 30 * 2 * 5 * 3 // 3)
    assert channel_statistics(image_set(images)) == channel_statistics(image_set(images[::3].copy()))


def test_rows_of_a_split_are_its_own():
    images = image_set(pictures(30, 2))
    part = ImageSet(images.store, images.rows[4:9], None)
    pixels = part.images(slice(None)).astype(np.float64)
    assert channel_statistics(part)[0] == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.25, 0.1, 1.0])
def test_a_constant_channel_is_refused_with_its_number(value):
    images = pictures(12, 3)
    images[:, 1] = value
    with pytest.raises(
        DataError, match=r"channel 1 has one intensity in every pixel of 12 training images; .*leave out norm"
    ):
        channel_statistics(image_set(images))
