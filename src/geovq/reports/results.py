"""Results to keep: a finished run's records and circumstances as one JSON file, and that file as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geovq.config import to_json
from geovq.errors import CorruptArtifactError, InputError
from geovq.evaluation.records import Record, metrics_json, records_from_json
from geovq.reports.comparability import caution, comparability
from geovq.reports.costs import cost_table, cost_words, machine_words, total_seconds
from geovq.reports.numbers import duration, rounded
from geovq.reports.remedies import remedy_table, remedy_words
from geovq.reports.run_files import SCHEMA, RunCost, check_one_rate, read_cost, read_info, read_run
from geovq.reports.tables import RESULT_METRICS, markdown, metric_table
from geovq.reports.verdict import verdict


def collect(folder: Path, title: str, about: str) -> dict[str, Any]:
    """What is worth keeping of a run folder: records, arms, data, command, versions, machine and times.

    Raises ``InputError`` if the folder is not a run folder or has not got as far as test records.
    """
    run = read_run(folder)
    if run.info is None or not any(record.split == "test" for record in run.records):
        raise InputError(f"{folder}: the run has no run.json or no test records; finish the run first")
    return {
        "schema": SCHEMA,
        "title": title,
        "about": about,
        **to_json(run.info),
        **{key: value for key, value in metrics_json(run.records).items() if key != "schema"},
        "machine": to_json(run.cost.machine),
        "cost": {"stages": to_json(run.cost.stages)},
    }


def results_markdown(content: Mapping[str, Any], where: str) -> str:
    """One section of RESULTS.md: title, verdict, tables, cost, machine and command.

    Raises ``InputError`` naming ``where`` if ``content`` is not what ``collect`` makes.
    """
    for key in ("title", "about", "cost", "machine"):
        if key not in content:
            raise CorruptArtifactError(f"{where}: has no '{key}'; make it with write_results.py --add")
    records = records_from_json(content, where)
    check_one_rate(records, where)
    info = read_info(content, where)
    cost = read_cost({**content["cost"], "schema": SCHEMA, "machine": content["machine"]}, where)
    decision = verdict(records, info.arms)
    warning = (
        caution(comparability(records, info, decision.contest), decision.contest) if decision.contest else ""
    )
    test = [record for record in records if record.split == "test"]
    n_images = " or ".join(rounded(n) for n in sorted({record.n for record in test}))
    parts = [
        f"## {content['title']}",
        str(content["about"]),
        f"**{decision.text}**",
        warning,
        markdown(metric_table(records, info.arms, (*RESULT_METRICS, "utilization", "perplexity"))),
        f"Seeds: {len({record.seed for record in test})}. Test images: {n_images} of {info.data.name}. "
        "Means with 95 % Student-t intervals over seeds; bold where the paired interval of the difference "
        "from the runner-up excludes zero. The continuous floor is not ranked.",
        *_remedy_parts(records),
        *_cost_parts(cost),
        f"```\n{info.command}\n```",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in info.versions.items()) + ".",
    ]
    return "\n\n".join(part for part in parts if part)


def _remedy_parts(records: Sequence[Record]) -> list[str]:
    table = remedy_table(records)
    return ["### What each remedy adds", remedy_words(records), markdown(table)] if table else []


def _cost_parts(cost: RunCost) -> list[str]:
    if not cost.stages:
        return []
    machine = machine_words(cost.machine)
    total = f"Cost: {duration(total_seconds(cost.stages))} in all{' on ' if machine else ''}{machine}."
    stages = markdown(cost_table(cost.stages))
    return [
        f"{total} {cost_words(cost.stages)}".rstrip(),
        f"<details>\n<summary>Time and memory by stage</summary>\n\n{stages}\n\n</details>",
    ]
