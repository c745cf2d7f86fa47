"""Writes that happen entirely or not at all, even when the process is killed or the disk fills up.

A file is written beside its destination, flushed to the disk, then renamed over it; a folder likewise.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geovq.errors import StorageError


@contextmanager
def storage_errors(path: Path, *, full_disk_only: bool = False) -> Iterator[None]:
    """Turn the operating system's refusals to write ``path`` into a one-line ``StorageError``.

    ``full_disk_only`` is for blocks that do other work too, whose other errors are not about ``path``.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(_existing(path)).free
            raise StorageError(
                f"{_final(path)}: the disk is full ({free / 1e6:.1f} MB free) and this was not written; free "
                "some space and give the command again, or choose another --out"
            ) from error
        if full_disk_only:
            raise
        raise StorageError(f"{_final(path)}: cannot be written: {error.strerror or error}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, the same bytes for the same value. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a scratch folder that becomes ``path`` (replacing what is there) if the block succeeds."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(scratch, ignore_errors=True)
    with storage_errors(path):
        scratch.mkdir(parents=True)
    try:
        with storage_errors(path, full_disk_only=True):
            yield scratch
        with storage_errors(path):
            if path.exists():
                path.replace(replaced)
            scratch.replace(path)
            _sync_folder(path.parent)
    finally:
        _put_back(replaced, path)
        shutil.rmtree(scratch, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Undo what processes that were killed while writing into ``folder`` left half done."""
    for replaced in folder.rglob(".*.old"):
        name, _, _ = replaced.name[1:].rsplit(".", 2)
        _put_back(replaced, replaced.with_name(name))
    for scratch in folder.rglob(".*.tmp"):
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)


def _put_back(replaced: Path, path: Path) -> None:
    """Delete the folder that ``path`` replaced, or give it its name again if the new one never arrived."""
    if replaced.exists() and not path.exists():
        replaced.replace(path)
    shutil.rmtree(replaced, ignore_errors=True)


def _final(path: Path) -> Path:
    """The path that something in scratch folders will have when it is done."""
    return Path(re.sub(r"(^|/)\.+([^/]+?)(\.\d+\.tmp)+(?=/|$)", r"\1\2", str(path)))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
