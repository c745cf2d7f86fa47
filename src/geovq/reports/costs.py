"""What the stages of a run took: seconds and memory, averaged over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geovq.reports.numbers import duration, rounded
from geovq.reports.run_files import StageCost
from geovq.reports.tables import Cell, Column, Row, Table

COLUMNS = (
    Column("times run", about="How often the stage ran in this run: once a seed, or once in all."),
    Column("time", about="Wall-clock time of one run of the stage, mean over seeds."),
    Column("time in all", about="Wall-clock time of the stage, summed over seeds."),
    Column("peak memory", "MB", about="Largest resident memory of the process up to the end of the stage."),
)


def cost_table(stages: Sequence[StageCost]) -> Table:
    """One row a stage and arm, in the order in which the stages first ran."""
    groups: dict[tuple[str, str], list[StageCost]] = {}
    for cost in stages:
        groups.setdefault((cost.stage, cost.arm or ""), []).append(cost)
    return Table("stage", COLUMNS, tuple(_row(*name, costs) for name, costs in groups.items()))


def total_seconds(stages: Sequence[StageCost]) -> float:
    """Wall-clock seconds of all stages together."""
    return sum(cost.seconds for cost in stages)


def cost_words(stages: Sequence[StageCost]) -> str:
    """What the sum of the times leaves out, empty if every stage was run.

    >>> cost_words([StageCost("train", 8.0), StageCost("latents", 0.1, reused=True)])
    'Stages taken from earlier runs: 1 of 2; the sum holds their copying, not their cost.'
    """
    reused = sum(stage.reused for stage in stages)
    if not reused:
        return ""
    return (
        f"Stages taken from earlier runs: {reused} of {len(stages)}; "
        "the sum holds their copying, not their cost."
    )


def machine_words(machine: Mapping[str, Any]) -> str:
    """The machine on one line.

    >>> machine_words({"cores": 2, "cpu": "Example CPU", "memory_gb": 8})
    'Example CPU, 2 cores, 8 GB of memory'
    """
    known = {"cpu": "{}", "cores": "{} cores", "memory_gb": "{} GB of memory"}
    words = [words.format(machine[key]) for key, words in known.items() if key in machine]
    return ", ".join([*words, *(f"{key} {value}" for key, value in machine.items() if key not in known)])


def _row(stage: str, arm: str, costs: Sequence[StageCost]) -> Row:
    ran = [cost for cost in costs if not cost.reused]
    if not ran:
        return Row(stage, arm, (Cell("0"), Cell("taken from an earlier run"), Cell("–"), Cell("–")))
    seconds = total_seconds(ran)
    memory = [cost.peak_memory_mb for cost in ran if cost.peak_memory_mb is not None]
    return Row(
        stage,
        arm,
        (
            Cell(str(len(ran))),
            Cell(duration(seconds / len(ran))),
            Cell(duration(seconds)),
            Cell(rounded(max(memory)) if memory else "–"),
        ),
    )
