"""A measurement's file: how it was made, and one row of figures a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geovq import __version__
from geovq.pipeline.stages import machine
from geovq.storage.atomic import write_text

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "faiss-cpu")
THREADS = 1


def write_measurement(path: Path, rows: Iterable[Mapping[str, Any]], **head: Any) -> None:
    """Write ``rows`` under ``head``, the machine and the versions; figures keep six digits."""
    content = {
        "schema": 1,
        **head,
        "machine": machine(),
        "threads": THREADS,
        "versions": {"geovq": __version__, **{name: version(name) for name in LIBRARIES}},
    }
    parts = [f'  "{key}": {json.dumps(value, allow_nan=False)}' for key, value in content.items()]
    lines = ",\n".join(f"    {json.dumps(_rounded(row), allow_nan=False)}" for row in rows)
    parts.append(f'  "rows": [\n{lines}\n  ]')
    write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in row.items()}
