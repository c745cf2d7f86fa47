"""Write the measured tables of docs/quantizers.md from results/mnist-{layers,vqvae}*.json and choices/.

python scripts/write_quantizers.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from concepts.tables import replaced

from geovq.errors import GeovqError
from geovq.evaluation.records import Record, records_from_json
from geovq.evaluation.statistics import mean_interval
from geovq.reports import numbers
from geovq.storage.artifact import read_json
from geovq.storage.atomic import write_text

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = {
    "mse": "test MSE",
    "bits_entropy": "entropy bits",
    "utilization": "codes used",
    "perplexity": "perplexity",
}
MAPS = {  # of two runs with an arm of the same name the later counts
    "mnist-vqvae": "K = 256",
    "mnist-vqvae-256": "K = 256",
    "mnist-vqvae-512": "K = 512",
    "mnist-vqvae-1024": "K = 1,024",
    "mnist-vqvae-wide": "K = 256, widths 128-256",
}
Values = Mapping[str, Sequence[float]]


def measured(
    root: Path, name: str, columns: Mapping[str, str] = COLUMNS
) -> dict[str, dict[str, list[float]]]:
    """Test values of every arm of ``results/NAME.json``, by metric, one a seed."""
    path = root / "results" / f"{name}.json"
    records: Sequence[Record] = records_from_json(read_json(path), str(path))
    values: dict[str, dict[str, list[float]]] = {}
    for record in records:
        if record.split == "test":
            of_arm = values.setdefault(record.arm, {})
            for metric in columns:
                if metric in record.values:
                    of_arm.setdefault(metric, []).append(record.values[metric])
    return values


def layer_table(arms: Mapping[str, Values], columns: Mapping[str, str] = COLUMNS) -> str:
    """A row an arm, in order of its error."""
    lines = [["arm", *columns.values(), "seeds"], ["---", *["---:"] * (len(columns) + 1)]]
    for arm, values in sorted(arms.items(), key=lambda item: mean_interval(item[1]["mse"]).mean):
        cells = [_cell(values.get(metric, ())) for metric in columns]
        lines.append([f"`{arm}`", *cells, str(len(values["mse"]))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def remedy_table(content: Mapping[str, Any]) -> str:
    """Validation MSE, a row a remedy and a column an arm."""
    arms = list(dict.fromkeys(row["arm"] for row in content["rows"]))
    errors = {(row["remedy"], row["arm"]): row["validation_mse"] for row in content["rows"]}
    lines = [["after training", *(f"`{arm}`" for arm in arms)], ["---", *["---:"] * len(arms)]]
    for remedy in dict.fromkeys(row["remedy"] for row in content["rows"]):
        found = (errors.get((remedy, arm)) for arm in arms)
        lines.append([remedy, *("–" if error is None else numbers.rounded(error) for error in found)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    estimate = mean_interval(values)
    return f"{numbers.mean(estimate)} {numbers.interval(estimate)}".strip()


def tables(root: Path) -> dict[str, str]:
    """The tables by the name of their place in the page."""
    maps = {
        f"{arm}, {words}": values
        for name, words in MAPS.items()
        for arm, values in measured(root, name).items()
    }
    return {
        "layers": layer_table(measured(root, "mnist-layers")),
        "seeds": layer_table(measured(root, "mnist-layers-seeds")),
        "longer": layer_table(measured(root, "mnist-layers-18")),
        "after": remedy_table(read_json(root / "results" / "choices" / "end-to-end.json")),
        "map": layer_table(maps),
    }


def main(root: Path = ROOT) -> int:
    """Write the page and return the exit code."""
    page = root / "docs" / "quantizers.md"
    try:
        write_text(page, replaced(page.read_text(encoding="utf-8"), tables(root)))
    except GeovqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
