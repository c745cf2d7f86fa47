"""What a user waits for: `geovq --help`, `geovq demo`, and the size of the demo's report.

    python benchmarks/commands.py

Writes benchmarks/commands.json.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from geovq.seeding import threads_wanted
from measuring import row, timed_command, write_figures

OUT = Path(__file__).with_suffix(".json")
N_HELP = 5


def main() -> None:
    """Measure, print and write."""
    geovq = [sys.executable, "-m", "geovq"]
    help_seconds = statistics.median(timed_command([*geovq, "--help"])[0] for _ in range(N_HELP))
    with tempfile.TemporaryDirectory() as folder:
        seconds, peak_mb = timed_command([*geovq, "demo", "--out", f"{folder}/demo"])
        report_mb = (Path(folder) / "demo" / "report.html").stat().st_size / 1e6
    write_figures(
        OUT,
        title="Commands",
        about="Wall-clock time of whole commands, start of Python included.",
        command="python benchmarks/commands.py",
        threads=threads_wanted(),
        rows=[
            row(f"geovq --help, median of {N_HELP}", help_seconds, "s", 0.5),
            row("geovq demo, once", seconds, "s", 150),
            row("geovq demo, peak memory", peak_mb, "MB"),
            row("report of geovq demo", report_mb, "MB", 3),
        ],
    )


if __name__ == "__main__":
    main()
