"""MNIST, Fashion-MNIST and CIFAR-10, byte for byte: only files of the right hash are used under these names.

Files are taken from the folder that the environment variable GEOVQ_DATA names, where they are there, and
downloaded otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from geovq.data.cifar import ARCHIVE, load_cifar_archive
from geovq.data.download import download
from geovq.data.mnist_layout import find_file, load_mnist_layout
from geovq.data.reading import read_errors, require_folder
from geovq.data.splits import ImageSplits
from geovq.errors import DataError
from geovq.storage.artifact import file_hash

DATA_FOLDER = "GEOVQ_DATA"


@dataclass(frozen=True)
class CanonicalDataset:
    """A published data set, by default in MNIST's layout.

    ``compressed`` and ``plain`` map file names to the SHA-256 of the .gz file as published and of its
    content (empty where the latter is not published); ``mirrors`` are base URLs, tried in turn. ``read``
    makes the splits of the name, the files and ``n_validation``; ``own`` is the source that reads files of
    this layout unchecked.
    """

    name: str
    mirrors: tuple[str, ...]
    compressed: Mapping[str, str]
    plain: Mapping[str, str]
    n_validation: int
    read: Callable[[str, Mapping[str, Path], int], ImageSplits] = load_mnist_layout
    own: str = "idx:{folder}"


# Y. LeCun, C. Cortes, C. Burges, 1998: 60,000 + 10,000 digits, 28x28.
MNIST = CanonicalDataset(
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    compressed={
        "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    plain={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    n_validation=5_000,
)

# H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747: 60,000 + 10,000 pieces of clothing, 28x28.
FASHION_MNIST = CanonicalDataset(
    name="fashion-mnist",
    mirrors=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    compressed={
        "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    plain={},
    n_validation=5_000,
)

# A. Krizhevsky, 2009: 50,000 + 10,000 photographs, 32x32 in colour.
CIFAR10 = CanonicalDataset(
    name="cifar10",
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    compressed={ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
    plain={},
    n_validation=5_000,
    read=load_cifar_archive,
    own="cifar-bin:PATH once unpacked",
)


def load_canonical(dataset: CanonicalDataset) -> ImageSplits:
    """The published training and test images; 5,000 of the training images, by class, for validation.

    Raises ``DataError`` if a file under GEOVQ_DATA is not the published one, or none can be downloaded.
    """
    paths = {file: _local_file(dataset, file) or _download(dataset, file) for file in dataset.compressed}
    return dataset.read(dataset.name, paths, dataset.n_validation)


def _local_file(dataset: CanonicalDataset, file: str) -> Path | None:
    """The file under GEOVQ_DATA, in the data set's own folder or in that folder itself."""
    named = os.environ.get(DATA_FOLDER)
    if not named:
        return None
    root = Path(named)
    require_folder(root)
    for folder in (root / dataset.name, root):
        if path := find_file(folder, file):
            _check_hash(dataset, file, path)
            return path
    return None


def _check_hash(dataset: CanonicalDataset, file: str, path: Path) -> None:
    own = dataset.own.format(folder=path.parent)
    hashes = dataset.compressed if path.suffix == ".gz" else dataset.plain
    if file not in hashes:
        raise DataError(
            f"{path}: {dataset.name} has no published hash for unpacked files; expected {file}.gz; "
            f"read it under its own name with {own}"
        )
    with read_errors(path):
        found = file_hash(path)
    if found != hashes[file]:
        raise DataError(
            f"{path}: SHA-256 is {found[:12]}…, expected {hashes[file][:12]}… of the published "
            f"{dataset.name}; replace it, unset {DATA_FOLDER} to download it, or read it as {own}"
        )


def _download(dataset: CanonicalDataset, file: str) -> Path:
    return download(dataset.name, f"{file}.gz", dataset.compressed[file], dataset.mirrors)
