"""The files of a laboratory's run folder, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geovq.config import LaboratoryConfig, from_json
from geovq.errors import CorruptArtifactError, InputError
from geovq.reports.run_files import SCHEMA, RunCost, known_fields, read_cost
from geovq.storage.artifact import read_json

VERIFICATION, CONVERGENCE, CODEBOOK_SIZE, COMMITMENT = PARTS = (
    "verification", "convergence", "codebook-size", "commitment",
)  # fmt: skip
"""The parts of the comprehensive experiment, in order: each is a file ``PART.json``."""


@dataclass(frozen=True)
class LinearTraining:
    """One training of a linear VQ-VAE and what it measured on the evaluation samples.

    ``beta`` and ``steps`` are None for a method that takes no gradient steps; ``metrics`` and every row of
    ``logs`` map names in ``METRICS`` to numbers, a row its ``step`` and perhaps the training ``loss`` too.
    """

    method: str
    K: int
    beta: float | None
    steps: int | None
    seed: int
    metrics: Mapping[str, float]
    orthonormality_error: float
    logs: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class GradientCheck:
    """The gradients by hand beside autograd's at one pair of weights, on all training samples of a seed.

    ``encoder`` and ``codebook`` are the largest differences on W and on E, relative to the largest entry of
    autograd's gradient on either.
    """

    seed: int
    weights: str
    encoder: float
    codebook: float


@dataclass(frozen=True)
class LaboratoryInfo:
    """``run.json``: how the run was started, and with which versions."""

    command: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class LaboratoryRun:
    """What a laboratory's run has measured so far.

    ``parts`` maps ``comparison``, or the parts of the comprehensive experiment that have ended, to their
    trainings; ``checks`` are those of the part ``verification``.
    """

    config: LaboratoryConfig
    parts: Mapping[str, tuple[LinearTraining, ...]]
    checks: tuple[GradientCheck, ...]
    info: LaboratoryInfo
    cost: RunCost


def read_laboratory(folder: Path) -> LaboratoryRun:
    """Read a laboratory's run folder. Raises ``InputError`` naming a file that is missing or damaged."""
    config = from_json(LaboratoryConfig, read_json(folder / "config.json"))
    names = [f"{method}.json" for method in config.methods]
    if config.experiment == "comprehensive":
        names = [f"{part}.json" for part in PARTS]
    files = [(str(folder / name), read_json(folder / name)) for name in names if (folder / name).is_file()]
    if not files:
        raise InputError(f"{folder}: nothing is measured yet; give its run again to go on with it")
    content = {**read_json(folder / "run.json"), "parts": [value for _, value in files]}
    cost = folder / "cost.json"
    if cost.is_file():
        content["cost"] = read_json(cost)
    return laboratory_from_json(config, content, str(folder))


def laboratory_from_json(config: LaboratoryConfig, content: Mapping[str, Any], where: str) -> LaboratoryRun:
    """A run from parsed JSON: ``command``, ``versions``, ``parts`` as in their files, perhaps ``cost``.

    Raises ``CorruptArtifactError`` or ``ConfigError`` naming ``where`` if something is missing or of the
    wrong kind.
    """
    trainings: dict[str, tuple[LinearTraining, ...]] = {}
    checks: tuple[GradientCheck, ...] = ()
    parts = content.get("parts")
    for part in parts if isinstance(parts, list) else [None]:
        if not isinstance(part, Mapping) or part.get("schema") != SCHEMA or "part" not in part:
            raise CorruptArtifactError(
                f"{where}: a part is not one of schema {SCHEMA}; run the laboratory again"
            )
        name = str(part["part"])
        if name == VERIFICATION:
            checks = from_json(tuple[GradientCheck, ...], part.get("checks"), f"{where}: {name}")
        else:
            found = from_json(tuple[LinearTraining, ...], part.get("trainings"), f"{where}: {name}")
            trainings[name] = (*trainings.get(name, ()), *found)
    return LaboratoryRun(
        config,
        trainings,
        checks,
        from_json(LaboratoryInfo, known_fields(LaboratoryInfo, content), where),
        read_cost(content["cost"], where) if "cost" in content else RunCost(),
    )
