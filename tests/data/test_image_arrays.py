"""Images in memory."""

import numpy as np
import pytest

from geovq.data import chunks_of, image_set
from geovq.errors import DataError


@pytest.mark.parametrize("dtype", ["uint8", "<f2", ">f4", "<f8"])
def test_every_image_is_there_in_its_order_as_float32(digit_pixels, dtype):
    pixels = digit_pixels[:40, None]
    given = pixels if dtype == "uint8" else (pixels / 256).astype(dtype)
    expected = pixels / np.float32(255) if dtype == "uint8" else given.astype(np.float32)
    images = image_set(given)
    assert (len(images), images.shape, images.labels) == (40, (1, 8, 8), None)
    read = images.images(slice(None))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_array_equal(images.images(np.array([7, 3, 7])), expected[[7, 3, 7]])


def test_the_array_is_not_copied_and_may_be_read_only():
    pixels = np.zeros((4, 3, 2, 2), np.float32)
    images = image_set(pixels)
    pixels[2] = 1
    pixels.flags.writeable = False
    assert images.images(slice(None)).mean(axis=(1, 2, 3)).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    "array, match",
    [
        (np.zeros((4, 1, 8, 8), np.int64), "images are int64; expected uint8, or floats"),
        (np.zeros((4, 1, 8, 8), bool), "images are bool"),
        (np.zeros((4, 8, 8)), r"images have shape \(4, 8, 8\); expected \(N, C, H, W\)"),
        (np.zeros((0, 1, 8, 8)), r"images have shape \(0, 1, 8, 8\)"),
        (np.full((4, 1, 8, 8), 200.0), "image 0 has values from 200 to 200; .* as uint8, or rescale"),
    ],
)
def test_other_arrays_are_refused(array, match):
    with pytest.raises(DataError, match=match):
        image_set(array)


@pytest.mark.parametrize(
    "value, match", [(np.nan, "NaN or infinity"), (-0.25, "from -0.25 to 0.5"), (1.5, "from 0.5 to 1.5")]
)
def test_the_first_bad_image_is_named_whatever_chunk_it_is_in(value, match):
    images = np.full((1200, 1, 32, 32), 0.5, np.float16)
    assert len(chunks_of(image_set(images))) > 1
    images[1100:, 0, 3, 4] = value
    with pytest.raises(DataError, match=f"image 1100 .*{match}"):
        image_set(images)
