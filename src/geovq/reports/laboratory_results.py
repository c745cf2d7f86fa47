"""A laboratory's run to keep: its parts and circumstances as one JSON file, and that file as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from geovq.config import LaboratoryConfig, from_json, to_json
from geovq.errors import CorruptArtifactError
from geovq.reports.costs import cost_words, machine_words, total_seconds
from geovq.reports.laboratory_files import (
    PARTS,
    LaboratoryRun,
    laboratory_from_json,
    read_laboratory,
)
from geovq.reports.laboratory_page import INTERVALS, laboratory_sections
from geovq.reports.laboratory_summary import settings_words
from geovq.reports.laboratory_words import verdict_words
from geovq.reports.numbers import duration
from geovq.reports.run_files import SCHEMA
from geovq.reports.tables import markdown

KIND = "laboratory"


def collect_laboratory(folder: Path, title: str, about: str) -> dict[str, Any]:
    """What is worth keeping of a laboratory's run folder; of the logs, the ends alone.

    Raises ``InputError`` if the folder holds no laboratory's run or its experiment has not ended.
    """
    run = read_laboratory(folder)
    if run.config.experiment == "comprehensive" and len(run.parts) + bool(run.checks) < len(PARTS):
        raise CorruptArtifactError(f"{folder}: not every part has ended; finish the run first")
    parts: list[dict[str, Any]] = [
        {"part": part, "trainings": [asdict(replace(training, logs=())) for training in trainings]}
        for part, trainings in run.parts.items()
    ]
    if run.checks:
        parts.insert(0, {"part": PARTS[0], "checks": [asdict(check) for check in run.checks]})
    content = {
        "schema": SCHEMA,
        "kind": KIND,
        "title": title,
        "about": about,
        "config": run.config,
        **asdict(run.info),
        "parts": [{"schema": SCHEMA, **part} for part in parts],
        "cost": {"schema": SCHEMA, **asdict(run.cost)},
    }
    return {key: to_json(value) for key, value in content.items()}


def laboratory_markdown(content: Mapping[str, Any], where: str) -> str:
    """One section of RESULTS.md: title, findings, tables with published figures beside, cost and command.

    Raises ``InputError`` naming ``where`` if ``content`` is not what ``collect_laboratory`` makes.
    """
    for key in ("title", "about", "config", "parts"):
        if key not in content:
            raise CorruptArtifactError(f"{where}: has no '{key}'; make it with write_results.py --add")
    config = from_json(LaboratoryConfig, content["config"], where)
    run = laboratory_from_json(config, content, where)
    parts = [
        f"## {content['title']}",
        str(content["about"]),
        "\n".join(f"- {line}" for line in verdict_words(run)),
        f"Settings: {settings_words(config)}. {INTERVALS}",
    ]
    for section in laboratory_sections(run):
        parts += [f"### {section.heading}", f"{section.caption}.", section.note, markdown(section.table)]
    parts += [_cost_words(run), f"```\n{run.info.command}\n```"]
    parts.append("Versions: " + ", ".join(f"{name} {v}" for name, v in run.info.versions.items()) + ".")
    return "\n\n".join(part for part in parts if part)


def _cost_words(run: LaboratoryRun) -> str:
    if not run.cost.stages:
        return ""
    machine = machine_words(run.cost.machine)
    words = f"Cost: {duration(total_seconds(run.cost.stages))} in all{' on ' if machine else ''}{machine}."
    return f"{words} {cost_words(run.cost.stages)}".rstrip()
