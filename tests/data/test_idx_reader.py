"""The IDX reader: what it reads back, and what it refuses before it allocates anything."""

import gzip
import io
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geovq.data.idx import read_idx
from geovq.errors import DataError

shapes = st.tuples(st.integers(0, 40)) | hnp.array_shapes(min_dims=3, max_dims=3)
arrays = hnp.arrays(np.uint8, shapes)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "file"


@settings(deadline=None)
@given(arrays, st.booleans())
def test_round_trip(scratch, idx_bytes, array, compressed):
    data = idx_bytes(array)
    scratch.write_bytes(gzip.compress(data) if compressed else data)
    read = read_idx(scratch, n_dims=array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@settings(deadline=None)
@given(st.data(), st.booleans())
def test_damage_is_refused_or_harmless(scratch, idx_bytes, digit_pixels, data, compressed):
    content = idx_bytes(digit_pixels[:12])
    content = gzip.compress(content, mtime=0) if compressed else content
    damage = data.draw(st.sampled_from(["truncate", "flip", "append", "splice"]))
    position = data.draw(st.integers(0, 40) | st.integers(0, len(content) - 1))
    if damage == "truncate":
        content = content[:position]
    elif damage == "append":
        content += data.draw(st.binary(min_size=1, max_size=20))
    else:
        new = data.draw(st.binary(min_size=1, max_size=1 if damage == "flip" else 8))
        content = content[:position] + new + content[position + len(new) :]
    scratch.write_bytes(content)
    try:
        read = read_idx(scratch, n_dims=3)
    except DataError as error:
        assert str(scratch) in str(error)
        assert "\n" not in str(error)
    else:
        assert read.shape == (12, 8, 8)
        if compressed:  # its checksum lets no change of the pixels pass
            np.testing.assert_array_equal(read, digit_pixels[:12])


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_refused(scratch, content):
    scratch.write_bytes(b"\x01" + content)
    with pytest.raises(DataError, match="expected an IDX file with magic number 0x00000803"):
        read_idx(scratch, n_dims=3)


@settings(deadline=None)
@given(st.data())
def test_every_truncation_is_refused(scratch, idx_bytes, digit_pixels, data):
    content = idx_bytes(digit_pixels[:3])
    if data.draw(st.booleans()):
        content = gzip.compress(content)
    scratch.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError):
        read_idx(scratch, n_dims=3)


def refused_without_allocating(path, match):
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(DataError, match=match):
            read_idx(path, n_dims=3)
        assert tracemalloc.get_traced_memory()[1] < 2e6
        assert time.perf_counter() - start < 1
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(2**31, 28, 28), (2**32 - 1,) * 3, (10, 2**16, 2**16)])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_that_claims_too_much_is_refused(tmp_path, shape, compressed):
    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape) + bytes(1000)
    (tmp_path / "file").write_bytes(gzip.compress(content) if compressed else content)
    refused_without_allocating(tmp_path / "file", "header claims")


def test_a_gzip_bomb_behind_a_modest_header_is_not_unpacked(tmp_path, idx_bytes):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        file.write(idx_bytes(np.zeros((10, 8, 8), dtype=np.uint8)))
        for _ in range(100):
            file.write(bytes(10**6))
    (tmp_path / "bomb.gz").write_bytes(buffer.getvalue())
    refused_without_allocating(tmp_path / "bomb.gz", "more bytes follow")


def test_a_gzip_bomb_with_an_honest_header_is_not_unpacked(tmp_path):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        file.write(bytes([0, 0, 8, 3]) + struct.pack(">3I", 100, 1000, 1000))
        for _ in range(100):
            file.write(bytes(10**6))
    (tmp_path / "bomb.gz").write_bytes(buffer.getvalue())
    refused_without_allocating(tmp_path / "bomb.gz", "times the file's compressed size")


CUBE = struct.pack(">3I", 2, 2, 2)


@pytest.mark.parametrize(
    "content, match",
    [
        (b"", "only 0 bytes; expected an IDX file"),
        (b"\x00\x00\x08", "only 3 bytes"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x02ab", "0x00000801; expected .* magic number 0x00000803"),
        (b"\x00\x00\x0d\x03" + bytes(12), "0x00000d03"),
        (b"\x00\x00\x08\x03" + bytes(11), "ends inside its header"),
        (b"\x00\x00\x08\x03" + CUBE + bytes(7), "claims 2x2x2 = 8 bytes, but 7 follow"),
        (b"\x00\x00\x08\x03" + CUBE + bytes(9), "more bytes follow"),
        (b"\x1f\x8b garbage", "damaged gzip file"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, match):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=match) as caught:
        read_idx(path, n_dims=3)
    assert str(path) in str(caught.value)


def test_a_damaged_checksum_is_refused(tmp_path, idx_bytes, digit_pixels):
    content = bytearray(gzip.compress(idx_bytes(digit_pixels[:5])))
    content[-6] ^= 1
    (tmp_path / "file.gz").write_bytes(content)
    with pytest.raises(DataError, match="damaged gzip file: CRC check failed"):
        read_idx(tmp_path / "file.gz", n_dims=3)
