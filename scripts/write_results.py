"""Write RESULTS.md from results/*.json; with --add, first put a finished run among them.

python scripts/write_results.py
python scripts/write_results.py --add runs/mnist-first --name mnist-first --title "MNIST at 64 bits"
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from geovq.errors import GeovqError, InputError
from geovq.reports.kinds import collect, results_markdown
from geovq.storage.artifact import read_json
from geovq.storage.atomic import write_json, write_text

ROOT = Path(__file__).resolve().parents[1]
HEADER = """# Results

Written by `make results` from the JSON files in `results/`; every number below is in them, with its seeds.
"""


def write_results(root: Path) -> Path:
    """Write ``root/RESULTS.md`` from ``root/results/*.json``, in order of file name."""
    sections = [
        f"{results_markdown(read_json(path), str(path))}\n\nRecords: [{path.name}](results/{path.name})\n"
        for path in sorted((root / "results").glob("*.json"))
    ]
    page = root / "RESULTS.md"
    write_text(page, "\n".join([HEADER, *sections]))
    return page


def add_run(root: Path, folder: Path, name: str, title: str, about: str) -> Path:
    """Write ``root/results/NAME.json`` from a run folder."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise InputError(f"--name is '{name}'; expected lower-case letters, digits, '.', '_' and '-'")
    path = root / "results" / f"{name}.json"
    write_json(path, collect(folder, title or name, about))
    return path


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Parse the command line, write, and return the exit code."""
    parser = argparse.ArgumentParser(description="Write RESULTS.md from results/*.json.")
    parser.add_argument("--add", type=Path, metavar="RUN_FOLDER", help="first add this run to results/")
    parser.add_argument("--name", help="file name of the added run, without .json")
    parser.add_argument("--title", default="", help="heading of the added run (default: its name)")
    parser.add_argument("--about", default="", help="a sentence on the added run")
    options = parser.parse_args(arguments)
    if (options.add is None) != (options.name is None):
        parser.error("--add and --name go together: which run, and what to call it")
    try:
        if options.add:
            print(add_run(root, options.add, options.name, options.title, options.about))
        print(write_results(root))
    except GeovqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
