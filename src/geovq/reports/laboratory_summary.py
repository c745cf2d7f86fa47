"""The laboratory's results in short: for programs as JSON, for the end of a run as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from geovq.config import LaboratoryConfig
from geovq.config.laboratory import BASELINE, CONVERGED
from geovq.evaluation.statistics import mean_interval
from geovq.reports.laboratory_changes import change, methods_of
from geovq.reports.laboratory_files import CONVERGENCE, LaboratoryRun, LinearTraining, read_laboratory
from geovq.reports.laboratory_tables import by_value, entropy_share
from geovq.reports.laboratory_words import verdict_words
from geovq.reports.run_files import SCHEMA

HEADERS = {
    "sse_per_sample": ("Recon SSE", "data²/sample"),
    "in_subspace_distortion": ("In-Sub Dist", "data²/sample"),
    "usage_entropy_nats": ("Usage Ent", "nats"),
    "dead_fraction": ("Dead Frac", "fraction"),
}
OFTEN_DEFAULT = ("orthonormal", "lrW", "lrE", "alpha", "batch", "n_train")
"""Settings that are told only where they are not those of ``LaboratoryConfig``."""
DECIMALS = {"sse_per_sample": 6, "in_subspace_distortion": 6, "usage_entropy_nats": 4, "dead_fraction": 4}


def summary_json(run: LaboratoryRun) -> dict[str, Any]:
    """``summary.json``: means over seeds of every method, and its changes from both baselines in percent.

    The comprehensive experiment has them at each K of ``codebook-size`` and each beta of ``commitment``.
    """
    content: dict[str, Any] = {"schema": SCHEMA, "experiment": run.config.experiment}
    if run.checks:
        content["gradients"] = {
            name: max(getattr(check, name) for check in run.checks) for name in ("encoder", "codebook")
        }
    for part, trainings in run.parts.items():
        if part in ("comparison", CONVERGENCE):
            content[part] = _methods(trainings)
        else:
            values = by_value(part, trainings).items()
            content[part] = {f"{value:g}": _methods(found) for value, found in values}
    return content


def laboratory_summary(folder: Path) -> str:
    """The table that ends a run, one method a line, and under it the findings in words.

    Raises ``InputError`` if ``folder`` holds no laboratory's run.
    """
    run = read_laboratory(folder)
    main = next((run.parts[part] for part in ("comparison", CONVERGENCE) if part in run.parts), ())
    return "\n".join([*_table(run.config, main), "", *verdict_words(run)])


def settings_words(config: LaboratoryConfig) -> str:
    """The settings of the run on one line; those of ``OFTEN_DEFAULT`` where they differ from the default."""
    seeds = f"seed{'s' if len(config.seeds) > 1 else ''} {', '.join(map(str, config.seeds))}"
    defaults = {field.name: field.default for field in fields(config)}
    others = [
        f", {name} {_setting(value)}"
        for name in OFTEN_DEFAULT
        if (value := getattr(config, name)) != defaults[name]
    ]
    return (
        f"D {config.D}, rank {config.rank}, m {config.m}, K {config.K}, beta {config.beta:g}, "
        f"{config.steps} steps, {seeds}, {config.n_eval:,} evaluation samples{''.join(others)}"
    )


def _setting(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _methods(trainings: Sequence[LinearTraining]) -> dict[str, Any]:
    content = {}
    for method in methods_of(trainings):
        own = [t for t in trainings if t.method == method]
        values: dict[str, Any] = {
            name: mean_interval([t.metrics[name] for t in own]).mean for name in HEADERS
        }
        values["usage_entropy_percent"] = entropy_share(own).mean
        values["orthonormality_error"] = max(t.orthonormality_error for t in own)
        values["change_percent"] = {
            reference: asdict(found)
            for reference in (BASELINE, CONVERGED)
            if method != reference and (found := change(trainings, method, reference)) is not None
        }
        content[method] = values
    return content


def _table(config: LaboratoryConfig, trainings: Sequence[LinearTraining]) -> list[str]:
    names, units = zip(*HEADERS.values(), strict=True)
    rows = [["Method", *names], ["", *units]]
    for method in methods_of(trainings):
        own = [t.metrics for t in trainings if t.method == method]
        means = {name: mean_interval([metrics[name] for metrics in own]).mean for name in HEADERS}
        rows.append([method, *(f"{mean:.{DECIMALS[name]}f}" for name, mean in means.items())])
    label_width = max(len(row[0]) for row in rows) + 2
    lines = ["".join([row[0].ljust(label_width), *(c.ljust(16) for c in row[1:])]).rstrip() for row in rows]
    rule = max(map(len, lines))
    heading = ["=" * rule, "SUMMARY", "=" * rule, "", f"Final metrics: {settings_words(config)}", ""]
    return [*heading, *lines[:2], "-" * rule, *lines[2:]]
