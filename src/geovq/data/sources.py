"""Which images a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from geovq.config import DataConfig
from geovq.data.canonical import CIFAR10, FASHION_MNIST, MNIST, load_canonical
from geovq.data.cifar import load_cifar_bin
from geovq.data.digits import load_digits
from geovq.data.folder import load_folder
from geovq.data.mnist_layout import load_idx
from geovq.data.npy import load_npy
from geovq.data.splits import ImageSplits
from geovq.errors import ConfigError, unknown_name

DATASETS = {
    "digits": load_digits,
    "mnist": lambda: load_canonical(MNIST),
    "fashion-mnist": lambda: load_canonical(FASHION_MNIST),
    "cifar10": lambda: load_canonical(CIFAR10),
}
FILE_LOADERS = {"idx": load_idx, "cifar-bin": load_cifar_bin, "npy": load_npy}
PATH_KINDS = (*FILE_LOADERS, "folder")


def load(config: DataConfig) -> ImageSplits:
    """The images that ``config.source`` names: a data set (``digits``), or ``KIND:PATH`` (``npy:faces.npy``).

    Raises ``ConfigError`` for a source that does not exist or a conversion it does not do, ``DataError`` for
    images that cannot be used.
    """
    _check_conversion(config)
    kind, _, location = config.source.partition(":")
    if config.source in DATASETS:
        return _unconverted(config, DATASETS[config.source]())
    if kind not in PATH_KINDS:
        valid = [*DATASETS, *(f"{kind}:PATH" for kind in PATH_KINDS)]
        raise ConfigError(unknown_name("data source", config.source, valid))
    if not location:
        raise ConfigError(f"data source '{config.source}' has no path; expected {kind}:PATH")
    path = Path(location)
    # The kind stays in the name: only files whose hashes were checked are called "mnist".
    name = f"{kind}:{path.absolute().name}"
    if kind == "folder":
        return load_folder(path, name, config.image_size, config.channels)
    return _unconverted(config, FILE_LOADERS[kind](path, name))


def _check_conversion(config: DataConfig) -> None:
    if config.image_size < 0:
        raise ConfigError(f"data.image_size is {config.image_size}; expected 0 (as it is) or pixels above 0")
    if config.channels not in (0, 1, 3):
        raise ConfigError(f"data.channels is {config.channels}; expected 0 (as they are), 1 or 3")


def _unconverted(config: DataConfig, splits: ImageSplits) -> ImageSplits:
    channels, height, width = splits.image_shape
    if config.image_size not in (0, height) or config.image_size not in (0, width):
        raise ConfigError(
            f"data.image_size is {config.image_size}, but images of {splits.name} are {height}x{width}, and "
            "only those of folder:PATH are resized; set it to 0"
        )
    if config.channels not in (0, channels):
        raise ConfigError(
            f"data.channels is {config.channels}, but images of {splits.name} have {channels}, and only "
            "those of folder:PATH are converted; set it to 0"
        )
    return splits
