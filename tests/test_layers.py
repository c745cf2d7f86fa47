"""The house stands: rooms import downwards only, and light rooms stay light."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import geovq

SOURCES = Path(geovq.__file__).parents[1]
ROOT = Path(__file__).parents[1]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_import_points_down():
    result = run(
        "-c", "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    "room", ["geovq", "geovq.cli", "geovq.reports", "geovq.recipes", "geovq.storage.run_folder"]
)
def test_a_light_room_is_imported_without_torch(room):
    heavy = "{'torch', 'faiss', 'lightning_fabric', 'sklearn'}"
    result = run("-c", f"import sys, {room}; print(sorted({heavy} & sys.modules.keys()))")
    assert result.stdout == "[]\n", result.stdout + result.stderr
