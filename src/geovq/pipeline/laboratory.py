"""A run of the linear laboratory, from its configuration to its report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from geovq.config import LaboratoryConfig, to_json
from geovq.config.laboratory import BASELINE
from geovq.errors import ConfigError, unknown_name
from geovq.evaluation.records import Record, metrics_json
from geovq.pipeline.checks import check_names
from geovq.pipeline.describe import write_manifest
from geovq.pipeline.environment import set_up
from geovq.pipeline.linear_gradients import check_gradients
from geovq.pipeline.linear_trainings import Laboratory
from geovq.pipeline.stages import Stages, Tell
from geovq.registry import FAMILIES
from geovq.reports.laboratory_files import (
    CODEBOOK_SIZE,
    COMMITMENT,
    CONVERGENCE,
    PARTS,
    VERIFICATION,
    LinearTraining,
)
from geovq.reports.laboratory_page import write_laboratory_report
from geovq.reports.run_files import SCHEMA
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.atomic import write_json
from geovq.storage.run_folder import run_folder


def run_laboratory(
    config: LaboratoryConfig,
    out: Path,
    *,
    reuse: list[Path] | None = None,
    command: str = "",
    tell: Tell = lambda line: None,
) -> Path:
    """Carry out the experiment in the folder ``out``, going on where an earlier call stopped.

    Parameters
    ----------
    config : the complete configuration.
    reuse : folders of earlier runs; trainings of equal settings are copied from them.
    command : the command line that the report prints to reproduce the run.

    Raises ``ConfigError`` or ``StorageError`` before anything is written if the run could not be carried out.
    """
    check_laboratory(config)
    set_threads(threads_wanted())
    stages = Stages(out, reuse or [], tell)
    with run_folder(out, to_json(config)):
        run = Laboratory(config, stages)
        environment = set_up(out, tell)
        described = {name: environment[name] for name in ("versions", "threads", "device", "resumed_with")}
        described["command"] = f"GEOVQ_THREADS={environment['threads']} {command}"
        write_json(out / "run.json", {"schema": SCHEMA, **described})
        files, trainings = _EXPERIMENTS[config.experiment](run)
        write_json(out / "metrics.json", metrics_json(_records(config, trainings)))
        write_laboratory_report(out)
        write_manifest(out, ["config.json", "metrics.json", "summary.json", *files])
    return out


def check_laboratory(config: LaboratoryConfig) -> None:
    """Refuse a run that names methods unknown to the registry, or lacks those that its experiment compares.

    Raises ``ConfigError`` with the nearest name.
    """
    known = FAMILIES["linear-method"]
    for method in config.methods:
        if method not in known:
            raise ConfigError(unknown_name("method", method, known))
    check_names([config.recipe, *config.methods])
    needed = (BASELINE, "ste-autograd", "ste-manual") if config.experiment == "comprehensive" else ()
    for method in needed:
        if method not in config.methods:
            raise ConfigError(
                f"methods is {list(config.methods)}; the comprehensive experiment needs '{method}' among them"
            )


Outcome = tuple[list[str], Sequence[LinearTraining]]
"""The files that an experiment wrote, and all that it trained."""


def _compare(run: Laboratory) -> Outcome:
    trainings = run.trained()
    files = [f"{method}.json" for method in run.config.methods]
    for method, name in zip(run.config.methods, files, strict=True):
        _write_part(run, name, "comparison", trainings=[t for t in trainings if t.method == method])
    return files, trainings


def _compare_comprehensively(run: Laboratory) -> Outcome:
    config = run.config
    _write_part(run, f"{VERIFICATION}.json", VERIFICATION, checks=check_gradients(run))
    trainings = {CONVERGENCE: run.trained()}
    _write_part(run, f"{CONVERGENCE}.json", CONVERGENCE, trainings=trainings[CONVERGENCE])
    settings: dict[str, list[dict[str, Any]]] = {
        CODEBOOK_SIZE: [{"K": K} for K in config.sweep_K],
        COMMITMENT: [{"beta": beta} for beta in config.sweep_beta],
    }
    for part, values in settings.items():
        trainings[part] = [
            training
            for value in values
            for training in run.trained(logs=False, steps=config.sweep_steps, **value)
        ]
        _write_part(run, f"{part}.json", part, trainings=trainings[part])
    return [f"{part}.json" for part in PARTS], [t for found in trainings.values() for t in found]


_EXPERIMENTS: dict[str, Callable[[Laboratory], Outcome]] = {
    "comparison": _compare,
    "comprehensive": _compare_comprehensively,
}


def _write_part(run: Laboratory, name: str, part: str, **content: Any) -> None:
    write_json(run.root / name, {"schema": SCHEMA, "part": part, **to_json(content)})


def _records(config: LaboratoryConfig, trainings: Sequence[LinearTraining]) -> list[Record]:
    """One record a training; two parts may share one. Other settings than the run's are in the arm's name."""
    records = {}
    for training in trainings:
        changed = {"beta": training.beta, "steps": training.steps}
        notes = [f"{n} {v:g}" for n, v in changed.items() if v is not None and v != getattr(config, n)]
        arm = " ".join([training.method, *([f"({', '.join(notes)})"] if notes else [])])
        bits = math.log2(training.K)
        records[arm, bits, training.seed] = Record(
            arm, bits, training.seed, "evaluation", config.n_eval, training.metrics
        )
    return list(records.values())
