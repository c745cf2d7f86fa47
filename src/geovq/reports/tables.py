"""Tables of records: one row an arm, means with intervals over seeds; the same cells in HTML and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geovq.evaluation.records import METRICS, Record, by_seed
from geovq.evaluation.statistics import mean_interval, paired_difference
from geovq.reports import numbers
from geovq.reports.run_files import KIND_WORDS, ArmInfo

ARROWS = {"lower": "↓", "higher": "↑", "none": ""}

# Best is marked only where any two arms may be compared: bits of different tokenizers mean little without
# their errors, losses and latent errors differ in scale from model to model, and counts of codes with the
# size and number of codebooks.
RANKED = ("mse", "psnr", "ssim", "bce_nats", "utilization")
PRIOR_METRICS = ("mse", "bits_nominal", "bits_entropy", "bits_prior", "prior_bits_per_token")
RESULT_METRICS = ("mse", "psnr", "ssim", "bits_nominal", "bits_entropy", "bits_prior")
DETAIL_METRICS = tuple(m for m in METRICS if m not in {*RESULT_METRICS, *PRIOR_METRICS})


@dataclass(frozen=True)
class Column:
    """A header: its name, unit and direction, and a sentence on what it means."""

    name: str
    unit: str = ""
    arrow: str = ""
    about: str = ""


@dataclass(frozen=True)
class Cell:
    """A number as it is shown, its interval, and whether it is the best of its column beyond doubt."""

    text: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A label, a short note on it, and one cell a column."""

    label: str
    note: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """``heading`` names the labels; rows and columns are in reading order."""

    heading: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def ordered_arms(records: Sequence[Record], split: str = "test") -> list[tuple[str, float | None]]:
    """Arms and their nominal bits: the continuous floor first, then by mean squared error, then by name."""

    def place(item: tuple[str, float | None]) -> tuple[bool, float, str]:
        arm, bits = item
        errors = by_seed(records, arm, "mse", split)
        return bits is not None, mean_interval(list(errors.values())).mean if errors else float("inf"), arm

    return sorted({(r.arm, r.bits) for r in records if r.split == split}, key=place)


def metric_table(
    records: Sequence[Record],
    arms: Mapping[str, ArmInfo],
    metrics: Sequence[str] = RESULT_METRICS,
    only: Sequence[str] | None = None,
) -> Table:
    """Test means over seeds of ``metrics`` (those recorded), one row an arm (those in ``only``, if given).

    A cell is the best of its column if its metric is ranked and the paired interval of its difference from
    the runner-up excludes zero. The continuous floor is never ranked; nor is a selection of arms.
    """
    shown = [(a, b) for a, b in ordered_arms(records) if only is None or a in only]
    values = {m: {a: by_seed(records, a, m, "test") for a, _ in shown} for m in metrics}
    present = [m for m in metrics if any(values[m].values())]
    contenders = [a for a, bits in shown if bits is not None and only is None]
    best = {m: _best(m, {a: values[m][a] for a in contenders if values[m][a]}) for m in present}
    rows = []
    for arm, _ in shown:
        note = KIND_WORDS[arms[arm].kind] if arm in arms else ""
        rows.append(Row(arm, note, tuple(_cell(values[m][arm], best[m] == arm) for m in present)))
    return Table("arm", tuple(metric_column(m) for m in present), tuple(rows))


def metric_column(name: str) -> Column:
    """The header of a metric."""
    metric = METRICS[name]
    return Column(name, metric["unit"], ARROWS[metric["direction"]], metric["about"])


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, the best of a column in bold."""
    header = [table.heading, *(_joined(c.name, _joined(c.unit, c.arrow), "<br>") for c in table.columns)]
    lines = [header, ["---", *("---:" for _ in table.columns)]]
    for row in table.rows:
        label = f"`{row.label}`" + (f" ({row.note})" if row.note else "")
        cells = [_joined(f"**{c.text}**" if c.best else c.text, c.interval) for c in row.cells]
        lines.append([label, *cells])
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _best(metric: str, values: Mapping[str, Mapping[int, float]]) -> str | None:
    if metric not in RANKED or len(values) < 2:
        return None
    sign = 1 if METRICS[metric]["direction"] == "lower" else -1
    first, second = sorted(values, key=lambda arm: sign * sum(values[arm].values()) / len(values[arm]))[:2]
    seeds = sorted(values[first].keys() & values[second].keys())
    if not seeds:
        return None
    difference = paired_difference([values[first][s] for s in seeds], [values[second][s] for s in seeds])
    return first if difference.excludes_zero else None


def _cell(values: Mapping[int, float], best: bool) -> Cell:
    if not values:
        return Cell("–")
    estimate = mean_interval(list(values.values()))
    return Cell(numbers.mean(estimate), numbers.interval(estimate), best)


def _joined(first: str, second: str, separator: str = " ") -> str:
    return f"{first}{separator}{second}" if first and second else first or second


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
