"""The files of a run folder that a report is made from, read and checked.

``config.json`` and ``metrics.json`` must be there. The others appear as a run advances; while one is missing,
what it would say is None or empty.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from geovq.config import RunConfig, from_json
from geovq.errors import ConfigError, CorruptArtifactError, InputError
from geovq.evaluation.records import Record, read_metrics
from geovq.storage.artifact import load_artifact, read_json

T = TypeVar("T")

SCHEMA = 1
EVALUATION_IMAGES = ("originals", "reconstructions", "worst_originals", "worst_reconstructions")
SAMPLE_IMAGES = ("prior", "uniform")
KIND_WORDS = {"floor": "continuous floor", "post-hoc": "after the fact", "end-to-end": "end to end"}


@dataclass(frozen=True)
class ArmInfo:
    """What an arm is and what it was given.

    ``kind`` is a key of ``KIND_WORDS``; ``parameters`` counts encoder and decoder; ``image_passes`` counts
    the images that went through the network in training, each as often as it did; ``structure`` says how
    codes are built.
    """

    kind: str
    parameters: int
    image_passes: float
    configurations_tried: int
    about: str
    structure: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KIND_WORDS:
            raise ConfigError(f"kind is '{self.kind}'; expected one of {', '.join(KIND_WORDS)}")
        _check_amount("image_passes", self.image_passes)


@dataclass(frozen=True)
class DataInfo:
    """The images of a run: name, SHA-256, shape (C, H, W) and number in each split."""

    name: str
    fingerprint: str
    image_shape: tuple[int, ...]
    n: Mapping[str, int]


@dataclass(frozen=True)
class RunInfo:
    """``run.json``: how the run was started, on what, with which arms."""

    command: str
    versions: Mapping[str, str]
    data: DataInfo
    arms: Mapping[str, ArmInfo]


@dataclass(frozen=True)
class StageCost:
    """Time and memory of one stage; ``arm`` and ``seed`` are None where a stage serves all of them.

    ``reused``: taken from an earlier run, so that seconds are those of copying it.
    """

    stage: str
    seconds: float
    arm: str | None = None
    seed: int | None = None
    peak_memory_mb: float | None = None
    reused: bool = False

    def __post_init__(self) -> None:
        _check_amount("seconds", self.seconds)
        _check_amount("peak_memory_mb", self.peak_memory_mb or 0.0)


@dataclass(frozen=True)
class RunCost:
    """``cost.json``: the machine and what each stage took on it."""

    machine: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[StageCost, ...] = ()


@dataclass(frozen=True)
class LogRow:
    """One line of ``train_log.csv``."""

    model: str
    seed: int
    epoch: float
    split: str
    name: str
    value: float


@dataclass(frozen=True)
class RunFiles:
    """A run folder's contents, except the artefacts, which are read on demand."""

    folder: Path
    config: RunConfig
    records: tuple[Record, ...]
    info: RunInfo | None
    cost: RunCost
    log: tuple[LogRow, ...]

    @property
    def arms(self) -> Mapping[str, ArmInfo]:
        """What is known of each arm; empty before ``run.json`` is written."""
        return self.info.arms if self.info else {}

    def evaluation(self, arm: str, bits: float | None) -> dict[str, np.ndarray] | None:
        """Images and code use of one arm at the run's first seed, or None if there are none yet."""
        return self._tensors("evaluation", arm, bits, EVALUATION_IMAGES)

    def samples(self, arm: str, bits: float | None) -> dict[str, np.ndarray] | None:
        """Images sampled from the prior on one arm at the run's first seed, or None."""
        return self._tensors("samples", arm, bits, SAMPLE_IMAGES)

    def levels(self, arm: str, bits: float | None) -> tuple[list[str], dict[str, np.ndarray]] | None:
        """Names of a hierarchical arm's levels and its images decoded from the coarsest ones, or None."""
        folder = self.arm_folder("levels", arm, bits)
        if not folder.is_dir():
            return None
        names = load_artifact(folder)[0].get("levels")
        if not isinstance(names, list) or not names:
            raise CorruptArtifactError(f"{folder}: names no levels; run the stage again")
        images = ("originals", *(str(level) for level in range(len(names))))
        return names, self._tensors("levels", arm, bits, images) or {}

    def arm_folder(self, what: str, arm: str, bits: float | None) -> Path:
        """Where the run's first seed keeps an arm's artefact of one kind, as in ``samples/ema/24/0``."""
        rate = "continuous" if bits is None else f"{bits:g}"
        return self.folder / what / self._named(arm, "arm") / rate / str(self.config.seeds[0])

    def model_folder(self, what: str, model: str) -> Path:
        """Where the run's first seed keeps a model's artefact of one kind, as in ``paths/vae/0``."""
        return self.folder / what / self._named(model, "model") / str(self.config.seeds[0])

    def _named(self, name: str, what: str) -> str:
        if name in {"", ".", ".."} or "/" in name or "\\" in name:
            raise InputError(f"{self.folder}: {what} name '{name}' is not a folder name; rename the {what}")
        return name

    def _tensors(
        self, what: str, arm: str, bits: float | None, images: tuple[str, ...]
    ) -> dict[str, np.ndarray] | None:
        folder = self.arm_folder(what, arm, bits)
        if not folder.is_dir():
            return None
        tensors = load_artifact(folder)[1]
        for name in images:
            array = tensors.get(name, np.empty(0))
            if array.dtype != np.uint8 or array.ndim != 4 or array.size == 0:
                raise CorruptArtifactError(
                    f"{folder}: '{name}' is {array.dtype} of shape {array.shape}; expected uint8 images "
                    "(n, C, H, W); run the stage again"
                )
        return tensors


def read_run(folder: Path) -> RunFiles:
    """Read a run folder. Raises ``InputError`` if it is not one or a file in it is damaged."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: has no config.json; expected a run folder (geovq run ... --out DIR)")
    if not (folder / "metrics.json").is_file():
        raise InputError(f"{folder}: has no metrics.json yet; let the run get as far as its evaluation first")
    info, cost = folder / "run.json", folder / "cost.json"
    records = tuple(read_metrics(folder / "metrics.json"))
    check_one_rate(records, str(folder / "metrics.json"))
    return RunFiles(
        folder=folder,
        config=from_json(RunConfig, read_json(folder / "config.json")),
        records=records,
        info=read_info(read_json(info), str(info)) if info.is_file() else None,
        cost=read_cost(read_json(cost), str(cost)) if cost.is_file() else RunCost(),
        log=_read_log(folder / "train_log.csv"),
    )


def check_one_rate(records: Iterable[Record], where: str) -> None:
    """Refuse an arm measured at two rates: a table has one row an arm, and means over rates mean nothing."""
    rates: dict[str, float | None] = {}
    for record in records:
        first = rates.setdefault(record.arm, record.bits)
        if first != record.bits:
            raise InputError(
                f"{where}: arm '{record.arm}' is at {first} and {record.bits} bits; expected one rate an arm"
            )


def read_info(content: Mapping[str, Any], where: str) -> RunInfo:
    """``run.json``; keys that reports do not use are passed over."""
    _check_schema(content, where)
    known = known_fields(RunInfo, content)
    if isinstance(known.get("arms"), Mapping):
        known["arms"] = {name: known_fields(ArmInfo, arm) for name, arm in known["arms"].items()}
    if "data" in known:
        known["data"] = known_fields(DataInfo, known["data"])
    return from_json(RunInfo, known, where)


def read_cost(content: Mapping[str, Any], where: str) -> RunCost:
    """``cost.json``; keys that reports do not use are passed over."""
    _check_schema(content, where)
    known = known_fields(RunCost, content)
    if isinstance(known.get("stages"), list):
        known["stages"] = [known_fields(StageCost, stage) for stage in known["stages"]]
    return from_json(RunCost, known, where)


def known_fields(kind: Any, value: Any) -> Any:
    """A JSON object without the keys that ``kind``, a dataclass, has no field for; anything else as it is."""
    names = {f.name for f in dataclasses.fields(kind)}
    return {k: v for k, v in value.items() if k in names} if isinstance(value, Mapping) else value


def _check_schema(content: Mapping[str, Any], where: str) -> None:
    found = content.get("schema")
    if found != SCHEMA:
        raise CorruptArtifactError(f"{where}: schema is {found!r}; this version reads {SCHEMA}")


def _check_amount(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigError(f"{name} is {value}; expected a finite number, 0 or more")


def _read_log(path: Path) -> tuple[LogRow, ...]:
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        try:
            return tuple(
                LogRow(
                    row["model"],
                    int(row["seed"]),
                    float(row["epoch"]),
                    row["split"],
                    row["name"],
                    float(row["value"]),
                )
                for row in reader
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptArtifactError(
                f"{path}: line {reader.line_num} is not model,seed,epoch,split,name,value ({error}); "
                "run the training stage again"
            ) from None
