"""The folder of one run: its configuration, its stages, its cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geovq.errors import CorruptArtifactError, StorageError
from geovq.storage.artifact import MANIFEST, read_json, read_manifest
from geovq.storage.atomic import remove_leftovers, storage_errors, write_json
from geovq.storage.lock import locked


@contextmanager
def run_folder(path: Path, config: dict[str, Any]) -> Iterator[None]:
    """Make ``path`` the folder of the run that ``config`` describes, or go on with the one that is there.

    Inside the block no other process can work in it. Raises ``StorageError`` if the folder holds another run,
    naming the first difference, or other files, or if another process is at work there.
    """
    _holds_this_run(path, config)  # before anything is written, so that a folder of others stays as it was
    with locked(path):
        if _holds_this_run(path, config):
            remove_leftovers(path)
        else:
            write_json(path / "config.json", config)
        yield


def _holds_this_run(path: Path, config: dict[str, Any]) -> bool:
    with storage_errors(path):
        if path.exists() and not path.is_dir():
            raise StorageError(f"{path}: is a file; expected a folder, or a path where one can be made")
        entries = list(path.iterdir()) if path.exists() else []
    if (path / "config.json").exists():
        found = read_json(path / "config.json")
        if found != config:
            key, there, wanted = _first_difference(found, config)
            raise StorageError(
                f"{path}: holds another run ({key} is {there!r} there, {wanted!r} here); choose another --out"
            )
        return True
    others = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    if others:
        raise StorageError(f"{path}: holds other files ({others[0]}, ...); choose an empty or new --out")
    return False


def stages_in(folder: Path) -> dict[str, Path]:
    """Finished stages below ``folder``, by the fingerprint of their inputs."""
    if not folder.is_dir():
        raise StorageError(f"{folder}: no such folder; --reuse expects the folder of an earlier run")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob(MANIFEST)):
        try:
            stage = read_manifest(path)["stage"]
        except CorruptArtifactError:
            continue  # a damaged stage is simply not reused
        if stage:
            found[stage] = path.parent
    return found


def _first_difference(a: Any, b: Any, path: str = "") -> tuple[str, Any, Any]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b}):
            if a.get(key) != b.get(key):
                return _first_difference(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            if x != y:
                return _first_difference(x, y, f"{path}.{index}")
    return path, a, b
