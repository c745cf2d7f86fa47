"""An artefact: a folder with ``config.json``, ``model.safetensors`` and a ``manifest.json`` of SHA-256s.

Tokenizers, priors, quantizers, codes, latents and checkpoints are all stored so. Hashes are checked before
anything is parsed, because a damaged safetensors file often loads without complaint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as serialize_tensors

from geovq.errors import CorruptArtifactError
from geovq.storage.atomic import new_folder, write_bytes, write_json

SCHEMA = 1
CONFIG, TENSORS, MANIFEST = "config.json", "model.safetensors", "manifest.json"


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_artifact(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Write an artefact atomically."""
    # Not ascontiguousarray: it would give single numbers an axis.
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with new_folder(Path(folder)) as scratch:
        write_json(scratch / CONFIG, {"schema": SCHEMA, **config})
        write_bytes(scratch / TENSORS, serialize_tensors(contiguous))
        seal(scratch)


def seal(folder: Path, stage: str = "") -> None:
    """Write the manifest: the hash of every file in ``folder``, and the fingerprint of a stage's inputs."""
    files = {
        str(path.relative_to(folder)): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    manifest = {"schema": SCHEMA, "stage": stage, "files": files}
    write_json(folder / MANIFEST, {**manifest, "seal": fingerprint(manifest)})


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of ``folder``, after it and every file that it lists were compared with their hashes.

    Raises ``CorruptArtifactError`` naming the first file that is missing or differs.
    """
    folder = Path(folder)
    manifest = read_manifest(folder / MANIFEST)
    for name, expected in manifest["files"].items():
        path = folder / name
        try:
            found = file_hash(path)
        except FileNotFoundError:
            raise CorruptArtifactError(
                f"{path}: missing, though {MANIFEST} lists it; make the artefact again"
            ) from None
        except OSError as error:
            raise CorruptArtifactError(f"{path}: not readable: {error.strerror}") from None
        if found != expected:
            raise CorruptArtifactError(
                f"{path}: SHA-256 is {found[:12]}…, expected {expected[:12]}…; the file was altered or "
                "truncated; make the artefact again"
            )
    return manifest


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file that ``seal`` wrote, its own hash checked, those of the files not."""
    manifest = read_json(path)
    _check_schema(manifest, path)
    expected = manifest.pop("seal", None)
    if fingerprint(manifest) != expected:
        raise CorruptArtifactError(f"{path}: is not what was sealed; it was altered; make the artefact again")
    return manifest


def load_artifact(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Config and tensors of a verified artefact; every floating-point tensor is finite."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CorruptArtifactError(f"{folder}: no such folder; expected one with {CONFIG} and {TENSORS}")
    listed = verify(folder)["files"]
    for name in (CONFIG, TENSORS):
        if name not in listed:
            raise CorruptArtifactError(f"{folder}: {MANIFEST} does not list {name}; expected an artefact")
    config = read_json(folder / CONFIG)
    _check_schema(config, folder / CONFIG)
    path = folder / TENSORS
    try:
        tensors = parse_tensors(path.read_bytes())
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CorruptArtifactError(f"{path}: not a readable safetensors file: {error}") from None
    for name, array in tensors.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise CorruptArtifactError(f"{path}: tensor '{name}' holds NaN or infinity; expected neither")
    return config, tensors


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ``CorruptArtifactError`` if it is missing or is not one."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise CorruptArtifactError(f"{path}: no such file; expected a JSON object") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptArtifactError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(value, dict):
        raise CorruptArtifactError(f"{path}: holds a JSON {type(value).__name__}; expected an object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which JSON does not have")


def _check_schema(config: Mapping[str, Any], path: Path) -> None:
    if config.get("schema") != SCHEMA:
        raise CorruptArtifactError(f"{path}: schema is {config.get('schema')!r}; this version reads {SCHEMA}")
