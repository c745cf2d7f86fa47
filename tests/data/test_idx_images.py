"""Data sets in IDX files of the user's own: a folder of four, or one."""

import gzip

import numpy as np
import pytest

from geovq.config import DataConfig
from geovq.data import load
from geovq.errors import DataError


@pytest.mark.parametrize("compressed", [True, False])
def test_a_folder_of_four_files(tmp_path, write_mnist_layout, digit_pixels, digit_labels, compressed):
    folder = write_mnist_layout(tmp_path / "mnist", compressed)
    splits = load(DataConfig(f"idx:{folder}"))
    assert splits.name == "idx:mnist"  # never plain "mnist": nobody checked a hash
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [90, 10, 40]
    assert splits.n_classes == 10
    np.testing.assert_array_equal(
        splits.test.images(slice(None))[:, 0], digit_pixels[100:140] / np.float32(255)
    )
    np.testing.assert_array_equal(splits.test.labels, digit_labels[100:140])
    np.testing.assert_array_equal(splits.train.labels, digit_labels[splits.train.rows])


def test_compression_and_place_do_not_change_the_fingerprint(tmp_path, write_mnist_layout):
    one = load(DataConfig(f"idx:{write_mnist_layout(tmp_path / 'a', True)}"))
    other = load(DataConfig(f"idx:{write_mnist_layout(tmp_path / 'b', False)}"))
    assert one.fingerprint == other.fingerprint


def test_one_file_has_no_labels(tmp_path, idx_bytes, digit_pixels):
    path = tmp_path / "digits.idx"
    path.write_bytes(idx_bytes(digit_pixels[:60]))
    splits = load(DataConfig(f"idx:{path}"))
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [49, 5, 6]
    assert splits.n_classes == 0
    assert splits.train.labels is None
    np.testing.assert_array_equal(
        splits.test.images(slice(None))[:, 0], digit_pixels[splits.test.rows] / np.float32(255)
    )


def test_a_missing_file_is_named(tmp_path, write_mnist_layout):
    folder = write_mnist_layout(tmp_path)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"no t10k-labels-idx1-ubyte .*; expected the four files"):
        load(DataConfig(f"idx:{folder}"))


def test_labels_must_go_with_images(tmp_path, write_mnist_layout, idx_bytes, digit_labels):
    folder = write_mnist_layout(tmp_path)
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(digit_labels[:99])))
    with pytest.raises(DataError, match=f"{path}: 99 labels; expected 100"):
        load(DataConfig(f"idx:{folder}"))


def test_training_and_test_images_must_be_of_one_size(tmp_path, write_mnist_layout, idx_bytes, digit_pixels):
    folder = write_mnist_layout(tmp_path)
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(digit_pixels[100:140, :7])))
    with pytest.raises(DataError, match=f"{path}: images are 7x8; expected 8x8"):
        load(DataConfig(f"idx:{folder}"))


def test_labels_in_the_place_of_images_are_refused(tmp_path, write_mnist_layout):
    folder = write_mnist_layout(tmp_path)
    labels = folder / "train-labels-idx1-ubyte.gz"
    (folder / "train-images-idx3-ubyte.gz").write_bytes(labels.read_bytes())
    with pytest.raises(DataError, match="0x00000801; expected an IDX file with magic number 0x00000803"):
        load(DataConfig(f"idx:{folder}"))


@pytest.mark.parametrize(
    "shape, match",
    [
        ((9, 8, 8), "9 training images; expected at least 10"),
        ((0, 8, 8), "0 training images"),
        ((20, 0, 8), "images are 0x8; expected at least 1x1"),
    ],
)
def test_too_little_is_refused(tmp_path, idx_bytes, shape, match):
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(np.zeros(shape, dtype=np.uint8)))
    with pytest.raises(DataError, match=match):
        load(DataConfig(f"idx:{path}"))


def test_an_unreadable_file_is_named(tmp_path, write_mnist_layout):
    folder = write_mnist_layout(tmp_path)
    path = folder / "train-images-idx3-ubyte.gz"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="no train-images-idx3-ubyte"):
        load(DataConfig(f"idx:{folder}"))
