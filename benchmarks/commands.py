"""What a user waits for: `geovq --help`, `geovq demo`, and the size of the demo's report.

    python benchmarks/commands.py

Writes benchmarks/commands.json.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from geovq.pipeline.stages import machine
from geovq.storage.atomic import write_json

OUT = Path(__file__).with_suffix(".json")
N_HELP = 5


def main() -> None:
    """Measure, print and write."""
    geovq = [sys.executable, "-m", "geovq"]
    help_seconds = statistics.median(timed([*geovq, "--help"])[0] for _ in range(N_HELP))
    with tempfile.TemporaryDirectory() as folder:
        seconds, peak_mb = timed([*geovq, "demo", "--out", f"{folder}/demo"])
        report_mb = (Path(folder) / "demo" / "report.html").stat().st_size / 1e6
    rows = [
        {
            "name": f"geovq --help, median of {N_HELP}",
            "value": round(help_seconds, 3),
            "unit": "s",
            "target": 0.5,
        },
        {"name": "geovq demo, once", "value": round(seconds, 1), "unit": "s", "target": 150},
        {"name": "geovq demo, peak memory", "value": round(peak_mb), "unit": "MB"},
        {"name": "report of geovq demo", "value": round(report_mb, 2), "unit": "MB", "target": 3},
    ]
    for row in rows:
        print(f"{row['name']:32} {row['value']:8} {row['unit']}")
    content = {
        "schema": 1,
        "title": "Commands",
        "about": "Wall-clock time of whole commands, start of Python included.",
        "machine": machine(),
        "command": "python benchmarks/commands.py",
        "rows": rows,
    }
    write_json(OUT, content)


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a command that must succeed."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1e3


if __name__ == "__main__":
    main()
