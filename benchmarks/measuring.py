"""What the benchmarks share: timing both sides in turn, rows of figures, the JSON file they end in."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from geovq.pipeline.stages import machine
from geovq.storage.artifact import load_artifact
from geovq.storage.atomic import write_json


def timed(call: Callable[[], Any], n_runs: int) -> tuple[float, Any]:
    """Median seconds of several calls, and what the last returned."""
    (seconds,), (result,) = timed_in_turn([call], n_runs)
    return seconds, result


def timed_in_turn(calls: Sequence[Callable[[], Any]], n_runs: int) -> tuple[list[float], list[Any]]:
    """Median seconds of each call, and what each returned last; the calls take turns, so that they share
    whatever else the machine is doing.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    results: list[Any] = [None] * len(calls)
    for _ in range(n_runs):
        for i, call in enumerate(calls):
            began = time.perf_counter()
            results[i] = call()
            seconds[i].append(time.perf_counter() - began)
    return [statistics.median(values) for values in seconds], results


def timed_command(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a command that must succeed."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1e3


def row(name: str, value: float, unit: str, target: str | float | None = None) -> dict[str, Any]:
    """One figure: a count as it is, anything else to four digits."""
    figure = {"name": name, "value": value if isinstance(value, int) else float(f"{value:.4g}"), "unit": unit}
    return figure if target is None else {**figure, "target": target}


def write_figures(
    out: Path,
    *,
    title: str,
    about: str,
    command: str,
    threads: int,
    rows: list[dict[str, Any]],
    **parts: Any,
) -> None:
    """Print the rows and write them beside the script, with ``parts`` that a later run may go on from."""
    for figure in rows:
        print(f"{figure['name']:84} {figure['value']:>10} {figure['unit']}")
    names = ("numpy", "scipy", "scikit-learn", "faiss-cpu", "torch")
    content = {
        "schema": 1,
        "title": title,
        "about": about,
        "machine": machine(),
        "threads": threads,
        "versions": {name: version(name) for name in names},
        "command": command,
        "rows": rows,
        **parts,
    }
    write_json(out, content)


def posterior_means(folder: Path) -> np.ndarray:
    """Means (N, D) of the training and validation images in a run's stored latents."""
    if not folder.is_dir():
        sys.exit(
            f"{folder} not found; run `geovq run mnist-first --stop-after latents` and give its latents/vae/0"
        )
    _, latents = load_artifact(folder)
    return np.concatenate([latents["train.mean"], latents["validation.mean"]])
