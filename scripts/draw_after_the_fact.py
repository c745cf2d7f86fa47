"""Draw the figure of docs/after-the-fact.md and write its tables, from two files of results/choices.

python scripts/draw_after_the_fact.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from concepts.tables import replaced
from matplotlib.figure import Figure

from geovq.errors import GeovqError
from geovq.reports.figures import COLOURS
from geovq.reports.numbers import rounded
from geovq.reports.plotting import as_picture, new_axes
from geovq.storage.artifact import read_json
from geovq.storage.atomic import write_bytes, write_text

ROOT = Path(__file__).resolve().parents[1]
CURVES = {
    "continuous": ("continuous floor", "#555555", "o", ":"),
    "kmeans": ("k-means, 8 chunks", COLOURS[0], "v", "-"),
    "kmeans+metric": ("the same in the mean pull-back metric", COLOURS[0], "v", "--"),
    "residual+metric": ("residual, 8 levels, in that metric", COLOURS[1], "s", "--"),
    "residual+metric+tuned": ("the same, decoder and codebook tuned", COLOURS[1], "D", "-."),
}
Rows = Sequence[Mapping[str, Any]]


def answers(content: Mapping[str, Any], question: str) -> Rows:
    """The rows of one question."""
    return [row for row in content["rows"] if row["question"] == question]


def beta_figure(content: Mapping[str, Any]) -> Figure:
    """Validation error of some arms by the VAE's beta."""
    rows = sorted(answers(content, "beta"), key=lambda row: float(row["value"]))
    with new_axes(3.6) as (figure, axes):
        for arm, (words, colour, marker, line) in CURVES.items():
            points = [(float(row["value"]), row["validation_mse"][arm]) for row in rows]
            axes.plot(
                *zip(*points, strict=True), line, color=colour, marker=marker, markersize=5, label=words
            )
        axes.set_xscale("log")
        axes.set_xticks([float(row["value"]) for row in rows], [row["value"] for row in rows])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("beta of the VAE")
        axes.set_ylabel("validation MSE")
        axes.legend(fontsize=8)
        axes.grid(axis="y")
    return figure


def tables(content: Mapping[str, Any], joint: Mapping[str, Any]) -> dict[str, str]:
    """The tables by the name of their place in the page; ``joint`` is what joint tuning gave."""
    beta = sorted(answers(content, "beta"), key=lambda row: float(row["value"]))
    return {
        "beta": _by_value("beta", beta, list(CURVES)),
        "tuning": _by_value("tuned for 2 epochs", answers(content, "tuning"), ["residual+metric+tuned"]),
        "warm-start": _warm_starts(answers(joint, "warm start")),
        "joint": _gains(answers(joint, "gain")),
    }


def _warm_starts(rows: Rows) -> str:
    lines = [
        ["trained how", "n", "epochs", "MSE before", "after", "distance before", "after"],
        ["---", *["---:"] * 6],
    ]
    names = ("n", "epochs", "start_validation_mse", "validation_mse", "start_distance", "distance")
    lines += [[row["setting"], *(rounded(row[name]) for name in names)] for row in rows]
    return _markdown(lines)


def _gains(rows: Rows) -> str:
    parts = ("decoder+codebook", "all")
    lines = [
        ["start", "n", "epochs", "MSE before", *(f"`{part}`" for part in parts)],
        ["---", *["---:"] * (3 + len(parts))],
    ]
    starts: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        facts = (f"{row['data']}, {row['start']}", rounded(row["n"]), rounded(row["epochs"]))
        starts.setdefault((*facts, rounded(row["start_validation_mse"])), {})[row["setting"]] = row
    for start, found in starts.items():
        lines.append(
            [*start, *(rounded(found[part]["validation_mse"]) if part in found else "–" for part in parts)]
        )
    return _markdown(lines)


def _by_value(name: str, rows: Rows, arms: Sequence[str]) -> str:
    lines = [[name, *(f"`{arm}`" for arm in arms)], ["---", *["---:"] * len(arms)]]
    lines += [[str(row["value"]), *(rounded(row["validation_mse"][arm]) for arm in arms)] for row in rows]
    return _markdown(lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(root: Path = ROOT) -> int:
    """Draw, write, and return the exit code."""
    try:
        choices = root / "results" / "choices"
        content, joint = (read_json(choices / f"{name}.json") for name in ("mnist-post-hoc", "joint-tuning"))
        image = root / "docs" / "images" / "after-the-fact-beta.png"
        write_bytes(image, as_picture(beta_figure(content), "").png)
        page = root / "docs" / "after-the-fact.md"
        write_text(page, replaced(page.read_text(encoding="utf-8"), tables(content, joint)))
        print(f"{image}\n{page}")
    except GeovqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
