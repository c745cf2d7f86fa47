"""What the bytes of a run depend on beside its configuration: versions, device and thread counts.

Recorded when the folder is made. A run that goes on uses as many threads as it began with, because sums in
another order give other bytes; other versions or another device are recorded beside the first.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from geovq import __version__
from geovq.errors import CorruptArtifactError
from geovq.pipeline.stages import Tell
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.artifact import read_json
from geovq.storage.atomic import write_json

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "faiss-cpu", "lightning-fabric")


def set_up(root: Path, tell: Tell) -> dict[str, Any]:
    """Set the threads that the run in ``root`` began with and return its recorded environment."""
    path = root / "environment.json"
    now = {"versions": _versions(), "device": _device()}
    environment: dict[str, Any] = {"schema": 1, "threads": threads_wanted(), **now, "resumed_with": []}
    if not path.exists():
        write_json(path, environment)
    else:
        environment = read_json(path)
        for key in ("threads", "resumed_with", *now):
            if key not in environment:
                raise CorruptArtifactError(
                    f"{path}: has no '{key}'; it was altered or made by another version; choose another --out"
                )
        known = [{key: environment[key] for key in now}, *environment["resumed_with"]]
        if now not in known:
            tell("this run began with other versions or on another device; its bytes may differ from here on")
            environment["resumed_with"].append(now)
            write_json(path, environment)
    set_threads(environment["threads"])
    return environment


def _versions() -> dict[str, str]:
    versions = {"geovq": __version__, "python": platform.python_version()}
    return versions | {name: version(name) for name in LIBRARIES}


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
