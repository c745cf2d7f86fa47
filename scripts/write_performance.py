"""Write docs/performance.md from benchmarks/*.json.

Each file holds ``title``, ``about``, ``command``, ``machine`` (text, or cpu, cores, memory_gb) and ``rows``:
``{"name": ..., "value": ..., "unit": ..., "target": ...}``, the target optional and in the row's unit.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geovq.errors import CorruptArtifactError, GeovqError
from geovq.reports.costs import machine_words
from geovq.reports.numbers import rounded
from geovq.reports.tables import Cell, Column, Row, Table, markdown
from geovq.storage.artifact import read_json
from geovq.storage.atomic import write_text

ROOT = Path(__file__).resolve().parents[1]
HEADER = """# Performance

Written by `make bench` from the JSON files in `benchmarks/`, which the commands below write.
"""
COLUMNS = (Column("measured"), Column("target"))


def write_performance(root: Path) -> Path:
    """Write ``root/docs/performance.md`` from ``root/benchmarks/*.json``, in order of file name."""
    sections = [_section(read_json(path), path) for path in sorted((root / "benchmarks").glob("*.json"))]
    page = root / "docs" / "performance.md"
    write_text(page, "\n".join([HEADER, *(f"{section}\n" for section in sections)]))
    return page


def _section(content: Mapping[str, Any], path: Path) -> str:
    for key in ("title", "about", "machine", "command", "rows"):
        if key not in content:
            raise CorruptArtifactError(f"{path}: has no '{key}'; measure again")
    if not isinstance(content["rows"], list):
        raise CorruptArtifactError(f"{path}: 'rows' is {content['rows']!r}; expected a list")
    machine = content["machine"]
    parts = [
        f"## {content['title']}",
        str(content["about"]),
        markdown(Table("figure", COLUMNS, tuple(_row(row, path) for row in content["rows"]))),
        f"Machine: {machine_words(machine) if isinstance(machine, Mapping) else machine}.",
        f"```\n{content['command']}\n```",
        f"Figures: [benchmarks/{path.name}](../benchmarks/{path.name})",
    ]
    return "\n\n".join(parts)


def _row(row: Any, path: Path) -> Row:
    if not isinstance(row, Mapping) or not {"name", "value", "unit"} <= row.keys():
        raise CorruptArtifactError(f"{path}: row {row!r} lacks a name, value or unit; measure again")
    cells = [Cell(_quantity(row.get(key), row["unit"])) for key in ("value", "target")]
    return Row(row["name"], "", tuple(cells))


def _quantity(value: Any, unit: str) -> str:
    if value is None:
        return "–"
    return f"{rounded(value) if isinstance(value, int | float) else value} {unit}".rstrip()


def main(root: Path = ROOT) -> int:
    """Write the page and return the exit code."""
    try:
        print(write_performance(root))
    except GeovqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
