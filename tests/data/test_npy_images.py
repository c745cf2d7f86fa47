"""Images in a .npy file."""

import io
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.config import DataConfig
from geovq.data import load
from geovq.errors import DataError


@pytest.fixture
def load_array(tmp_path):
    def save_and_load(array, name="images.npy", **options):
        path = tmp_path / name
        np.save(path, array, **options)
        return load(DataConfig(f"npy:{path}"))

    return save_and_load


def all_images(splits):
    """All images in the order of the file."""
    parts = (splits.train, splits.validation, splits.test)
    rows = np.concatenate([part.rows for part in parts])
    return np.concatenate([part.images(slice(None)) for part in parts])[np.argsort(rows)]


@pytest.mark.parametrize("dtype", ["uint8", "<f2", ">f4", "<f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_types_and_byte_orders(load_array, digit_pixels, dtype, order):
    pixels = digit_pixels[:40]
    stored = pixels if dtype == "uint8" else (pixels / 256).astype(dtype)
    expected = pixels / np.float32(255) if dtype == "uint8" else stored.astype(np.float32)
    splits = load_array(np.asarray(stored, order=order))
    assert splits.name == "npy:images.npy"
    assert splits.image_shape == (1, 8, 8)
    assert splits.n_classes == 0
    assert splits.train.labels is None
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [32, 4, 4]
    images = all_images(splits)
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(images[:, 0], expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_first_or_last(load_array, channels):
    images = np.random.default_rng(0).integers(0, 256, (20, channels, 6, 5), dtype=np.uint8)
    first = load_array(images)
    assert first.image_shape == (channels, 6, 5)
    last = load_array(np.moveaxis(images, 1, 3), "last.npy")
    assert last.image_shape == (channels, 6, 5)
    np.testing.assert_array_equal(all_images(first), all_images(last))


def test_where_both_readings_are_possible_channels_come_first(load_array):
    assert load_array(np.zeros((20, 3, 9, 4), dtype=np.uint8)).image_shape == (3, 9, 4)


@pytest.mark.parametrize(
    "array, match",
    [
        (np.zeros((20, 8), dtype=np.uint8), r"shape is \(20, 8\); expected \(N, H, W\)"),
        (np.zeros((20, 2, 8, 8), dtype=np.uint8), r"shape is \(20, 2, 8, 8\)"),
        (np.zeros((20, 1, 8, 8, 1), dtype=np.uint8), "shape is"),
        (np.zeros((0, 8, 8), dtype=np.uint8), "shape is"),
        (np.zeros((20, 0, 8), dtype=np.uint8), "shape is"),
        (np.float32(0.5), "shape is"),
        (np.zeros((9, 8, 8), dtype=np.uint8), "9 training images; expected at least 10"),
        (np.zeros((20, 8, 8), dtype=np.int64), "holds int64; expected uint8, or floats"),
        (np.zeros((20, 8, 8), dtype=bool), "holds bool"),
        (np.zeros((20, 8, 8), dtype=np.complex64), "holds complex64"),
        (np.zeros((20, 8, 8), dtype="U1"), "holds <U1"),
        (np.zeros((20, 8, 8), dtype=[("a", "u1")]), "expected uint8"),
    ],
)
def test_other_arrays_are_refused(load_array, array, match):
    with pytest.raises(DataError, match=match):
        load_array(array)


def test_pickled_objects_are_never_loaded(load_array):
    with pytest.raises(DataError, match=r"holds object; .*pickled objects are never loaded"):
        load_array(np.full((20, 8, 8), None), allow_pickle=True)


@pytest.mark.parametrize(
    "value, match",
    [
        (np.nan, "image 17 holds NaN or infinity"),
        (-np.inf, "image 17 holds NaN or infinity"),
        (1.001, "image 17 has values from 0 to 1.001; expected values in"),
        (-0.5, "image 17 has values from -0.5 to 0"),
        (255.0, "store 0..255 as uint8"),
    ],
)
@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_the_first_image_out_of_range_is_named(load_array, value, match, dtype):
    images = np.zeros((30, 8, 8), dtype=dtype)
    images[[17, 23], 3, 4] = value
    with pytest.raises(DataError, match=match):
        load_array(images)


def test_an_image_out_of_range_is_found_in_a_later_chunk(load_array):
    images = np.zeros((40, 512, 512), dtype=np.float32)
    images[33, 5, 5] = 2
    with pytest.raises(DataError, match="image 33 has values from 0 to 2"):
        load_array(images)


@pytest.mark.parametrize("change", [-1, 1, -600])
def test_a_file_of_another_length_is_refused(tmp_path, digit_pixels, change):
    path = tmp_path / "images.npy"
    np.save(path, digit_pixels[:20])
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(DataError, match=r"header claims .* = 1,280 bytes, but .* follow"):
        load(DataConfig(f"npy:{path}"))


ENTRIES = "{'descr': '|u1', 'fortran_order': False, "


def header(text):
    encoded = text.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded


@pytest.mark.parametrize(
    "content, match",
    [
        (b"", "not a readable .npy file"),
        (b"PK\x03\x04 a zip", "not a readable .npy file"),
        (b"\x93NUMPY\x03\x00" + bytes(100), "format version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100), "not a readable .npy file"),
        (header(ENTRIES + "'shape': (-10, -8, 8)}\n") + bytes(640), "shape is"),
        (header(ENTRIES + "'shape': (2147483648, 99, 99)}\n"), "header claims"),
        (header("__import__('os').getcwd()"), "not a readable .npy file"),
        (header("(" * 5_000), "not a readable .npy file"),
    ],
)
def test_a_damaged_or_hostile_header_is_refused(tmp_path, content, match):
    path = tmp_path / "images.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=match) as caught:
        load(DataConfig(f"npy:{path}"))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.integers(0, 127), st.binary(min_size=1, max_size=6))
def test_any_damage_to_the_header_is_refused_or_harmless(tmp_path_factory, position, new):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((20, 4, 4), dtype=np.uint8))
    content = bytearray(buffer.getvalue())
    content[position : position + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            splits = load(DataConfig(f"npy:{path}"))
        except DataError as error:
            assert "\n" not in str(error)
        else:
            n_images = len(splits.train) + len(splits.validation) + len(splits.test)
            assert n_images * np.prod(splits.image_shape) in (320, 160, 80, 40)


def test_the_file_is_mapped_and_not_read_into_memory(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((64, 1024, 1024), dtype=np.uint8))
    tracemalloc.start()
    try:
        splits = load(DataConfig(f"npy:{path}"))
        batch = splits.train.images(slice(0, 1))
        assert tracemalloc.get_traced_memory()[1] < 3 * batch.nbytes
    finally:
        tracemalloc.stop()


def test_the_fingerprint_follows_the_content(load_array, digit_pixels):
    first = load_array(digit_pixels[:20])
    assert load_array(digit_pixels[:20].copy(), "same.npy").fingerprint == first.fingerprint
    assert load_array(digit_pixels[1:21], "other.npy").fingerprint != first.fingerprint
