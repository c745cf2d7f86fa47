"""The page and the pictures of a laboratory's run, from its files alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from geovq.config import to_json
from geovq.reports.costs import cost_table, cost_words, machine_words, total_seconds
from geovq.reports.laboratory_changes import methods_of
from geovq.reports.laboratory_figures import (
    comparison_figure,
    convergence_figure,
    curves_figure,
    sweep_figure,
)
from geovq.reports.laboratory_files import (
    CODEBOOK_SIZE,
    COMMITMENT,
    CONVERGENCE,
    LaboratoryRun,
    read_laboratory,
)
from geovq.reports.laboratory_summary import settings_words, summary_json
from geovq.reports.laboratory_tables import error_table, gradient_table, sweep_table
from geovq.reports.laboratory_words import verdict_words
from geovq.reports.numbers import duration
from geovq.reports.page import script_json, template
from geovq.reports.pictures import Picture
from geovq.reports.tables import Table
from geovq.storage.artifact import file_hash, fingerprint
from geovq.storage.atomic import write_bytes, write_json, write_text

INTERVALS = (
    "Changes are paired: both methods on the same data at each seed, in percent of the other's error. "
    "Intervals are 95 % Student-t intervals over seeds; where one holds zero, no difference is established."
)
PUBLISHED_NOTE = (
    "Published: one seed, other data of the same distribution, against one start of Lloyd's algorithm; its "
    "training of 500 steps took lrW 0.05, a W made orthonormal after a Euclidean step, and a start of its "
    "own. Two methods differ from those published under their names: that rotation is a projection, and that "
    "gradient by hand divides each code's part by its own samples and not by the batch."
)


@dataclass(frozen=True)
class Section:
    """A part of the experiment: a table, a note on its published figures, and a plot if it has one."""

    slug: str
    heading: str
    table: Table
    caption: str
    note: str = ""
    plot: Picture | None = None


def write_laboratory_report(folder: Path) -> Path:
    """Write ``summary.json``, ``report.html`` and the plots into a laboratory's run folder; the page's path.

    The same files give the same bytes. Raises ``InputError`` if one of them is missing or damaged.
    """
    run = read_laboratory(folder)
    sections = laboratory_sections(run)
    curves = _curves(run)
    pictures = {section.slug: section.plot for section in sections} | dict(curves)
    for name, picture in pictures.items():
        if picture is not None:
            write_bytes(folder / f"{name}.png", picture.png)
    write_json(folder / "summary.json", summary_json(run))
    config = to_json(run.config)
    page = folder / "report.html"
    text = template("laboratory.html.j2").render(
        config=run.config,
        settings=settings_words(run.config),
        verdict=verdict_words(run),
        intervals=INTERVALS,
        sections=sections,
        curves=curves,
        costs=cost_table(run.cost.stages),
        total_time=duration(total_seconds(run.cost.stages)),
        machine=machine_words(run.cost.machine),
        cost_words=cost_words(run.cost.stages),
        info=run.info,
        config_text=json.dumps(config, indent=2),
        fingerprints={
            "configuration": fingerprint(config),
            "metrics.json": file_hash(folder / "metrics.json"),
        },
        metrics_script=script_json(folder / "metrics.json"),
    )
    write_text(page, text)
    return page


def laboratory_sections(run: LaboratoryRun) -> list[Section]:
    """The parts that a run has ended, in the order of the page."""
    sections = []
    if run.checks:
        caption = "Largest differences, the same samples and weights for both"
        table = gradient_table(run.checks)
        sections.append(Section("gradients", "Gradients by hand and by autograd", table, caption))
    for part, heading in (("comparison", "Every method"), (CONVERGENCE, "Where the trainings end")):
        if part in run.parts:
            found = run.parts[part]
            plot = comparison_figure(found) if part == "comparison" else convergence_figure(found)
            table = error_table(run.config, found)
            caption = f"On evaluation samples, {_seeds(run)}"
            sections.append(Section(part, heading, table, caption, _note(table), plot))
    for part, heading in ((CODEBOOK_SIZE, "Codebook sizes"), (COMMITMENT, "Weights of the commitment loss")):
        if part in run.parts:
            found = run.parts[part]
            plot = sweep_figure(run.config, part, found)
            table = sweep_table(run.config, part, found)
            caption = f"{run.config.sweep_steps} steps, {_seeds(run)}"
            sections.append(Section(part, heading, table, caption, _note(table), plot))
    return sections


def _curves(run: LaboratoryRun) -> list[tuple[str, Picture]]:
    found = run.parts.get("comparison", ())
    return [(method, curves_figure(method, found)) for method in methods_of(found)]


def _note(table: Table) -> str:
    return PUBLISHED_NOTE if any(column.name == "published" for column in table.columns) else ""


def _seeds(run: LaboratoryRun) -> str:
    n = len(run.config.seeds)
    return "one seed, no interval" if n == 1 else f"means over {n} seeds with their 95 % intervals"
