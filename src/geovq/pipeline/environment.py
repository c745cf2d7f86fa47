"""What the bytes of a run depend on beside its configuration: versions and thread counts.

Recorded when the folder is made. A run that goes on uses as many threads as it began with, because sums in
another order give other bytes.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geovq import __version__
from geovq.errors import ConfigError
from geovq.seeding import set_threads
from geovq.storage.artifact import read_json
from geovq.storage.atomic import write_json

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "faiss-cpu", "lightning-fabric")


def set_up(root: Path) -> dict[str, Any]:
    """Set the threads that the run in ``root`` began with, or begin with those of ``GEOVQ_THREADS`` (default:
    every core), and return the recorded environment.
    """
    path = root / "environment.json"
    if path.exists():
        environment = read_json(path)
        set_threads(environment["threads"])
        return environment
    versions = {"geovq": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in LIBRARIES}
    environment = {"schema": 1, "threads": set_threads(_wanted_threads()), "versions": versions}
    write_json(path, environment)
    return environment


def _wanted_threads() -> int | None:
    text = os.environ.get("GEOVQ_THREADS", "")
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"GEOVQ_THREADS is '{text}'; expected a whole number of threads, at least 1")
    return int(text)
