"""The report, the summary and the section of results that belong to each kind of run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geovq.reports import html, results, terminal
from geovq.reports.laboratory_page import write_laboratory_report
from geovq.reports.laboratory_results import KIND, collect_laboratory, laboratory_markdown
from geovq.reports.laboratory_summary import laboratory_summary
from geovq.storage.artifact import read_json


def write_report(folder: Path) -> Path:
    """Write the page and the pictures of a run folder of any kind, from its files alone; the page's path.

    Raises ``InputError`` if ``folder`` is not a run folder or one of its files is damaged.
    """
    return write_laboratory_report(folder) if is_laboratory(folder) else html.write_report(folder)


def summary(folder: Path) -> str:
    """The table and the words that end a run of any kind.

    Raises ``InputError`` if ``folder`` is not a run folder.
    """
    return laboratory_summary(folder) if is_laboratory(folder) else terminal.summary(folder)


def collect(folder: Path, title: str, about: str) -> dict[str, Any]:
    """What is worth keeping of a finished run folder of any kind, as JSON.

    Raises ``InputError`` if ``folder`` is not a run folder or its run has not ended.
    """
    gather = collect_laboratory if is_laboratory(folder) else results.collect
    return gather(folder, title, about)


def results_markdown(content: Mapping[str, Any], where: str) -> str:
    """The section of RESULTS.md that ``content``, what ``collect`` made, is written as.

    Raises ``InputError`` naming ``where`` if ``content`` is not what ``collect`` makes.
    """
    write = laboratory_markdown if content.get("kind") == KIND else results.results_markdown
    return write(content, where)


def is_laboratory(folder: Path) -> bool:
    """Whether ``folder`` holds a run of the linear laboratory."""
    config = Path(folder) / "config.json"
    return config.is_file() and "experiment" in read_json(config)
