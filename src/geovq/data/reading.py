"""Refusals to read a path, as one-line errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geovq.errors import DataError


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to read ``path`` into a ``DataError``."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder; check the path") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def require_file(path: Path) -> None:
    """Raise ``DataError`` unless ``path`` is a file."""
    with read_errors(path):
        path.stat()
        if not path.is_file():
            raise DataError(f"{path}: not a file; expected one")


def require_folder(path: Path) -> None:
    """Raise ``DataError`` unless ``path`` is a folder."""
    with read_errors(path):
        path.stat()
        if not path.is_dir():
            raise DataError(f"{path}: not a folder; expected one")
