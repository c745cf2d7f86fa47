"""Small real data in every format: scikit-learn's digits, written the way a user would have them."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

TRAIN, TEST = slice(0, 100), slice(100, 140)


@pytest.fixture(scope="session")
def digit_pixels():
    """1,797 digits, uint8 (N, 8, 8) in 0..240."""
    return (load_digits().images * 15).astype(np.uint8)


@pytest.fixture(scope="session")
def digit_labels():
    return load_digits().target.astype(np.uint8)


@pytest.fixture(scope="session")
def idx_bytes():
    def encode(array, type_code=0x08):
        header = bytes([0, 0, type_code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        return header + array.tobytes()

    return encode


@pytest.fixture(scope="session")
def write_mnist_layout(digit_pixels, digit_labels, idx_bytes):
    """Write 100 training and 40 test digits as the four files of MNIST."""

    def write(folder, compressed=True):
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {
            "train-images-idx3-ubyte": digit_pixels[TRAIN],
            "train-labels-idx1-ubyte": digit_labels[TRAIN],
            "t10k-images-idx3-ubyte": digit_pixels[TEST],
            "t10k-labels-idx1-ubyte": digit_labels[TEST],
        }
        for name, array in arrays.items():
            data = idx_bytes(array)
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(data, mtime=0) if compressed else data)
        return folder

    return write


@pytest.fixture(scope="session")
def write_png():
    def write(path, pixels):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return write
