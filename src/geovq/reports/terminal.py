"""The verdict and the main figures as plain text, for the end of a run."""

from __future__ import annotations

from pathlib import Path

from geovq.reports.comparability import caution, comparability
from geovq.reports.run_files import read_run
from geovq.reports.tables import metric_table
from geovq.reports.verdict import verdict

SHOWN = ("mse", "psnr", "bits_nominal", "bits_entropy", "bits_prior", "utilization")


def summary(folder: Path) -> str:
    """A table of test means, one arm a line, and under it the verdict of the report.

    Raises ``InputError`` if ``folder`` is not a run folder.
    """
    run = read_run(folder)
    arms = run.info.arms if run.info else {}
    table = metric_table(run.records, arms, SHOWN)
    lines = [[table.heading, *(f"{c.name} {c.arrow}".strip() for c in table.columns)]]
    lines += [[row.label, *(cell.text for cell in row.cells)] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for label, *cells in lines:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        text.append("  ".join([label.ljust(widths[0]), *aligned]))
    decision = verdict(run.records, arms)
    text += ["", decision.text]
    if run.info and decision.contest:
        text.append(caution(comparability(run.records, run.info, decision.contest), decision.contest))
    return "\n".join(text).rstrip()
