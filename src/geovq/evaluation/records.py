"""Measured values as tidy records: one arm, rate, seed and split each, and the one table of metrics.

``metrics.json`` holds records alone. Means and intervals over seeds are computed by whoever reads them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypedDict

from geovq.errors import CorruptArtifactError, InputError, unknown_name

SCHEMA = 1


class Metric(TypedDict):
    """What a number means: its unit, which direction is better, and one sentence about it."""

    unit: str
    direction: Literal["lower", "higher", "none"]
    about: str


METRICS: dict[str, Metric] = {
    "mse": {
        "unit": "intensity²",
        "direction": "lower",
        "about": "Squared reconstruction error of intensities in [0, 1], mean over all pixels and channels.",
    },
    "psnr": {
        "unit": "dB",
        "direction": "higher",
        "about": "Peak signal-to-noise ratio of the reconstructions.",
    },
    "ssim": {
        "unit": "",
        "direction": "higher",
        "about": "Structural similarity of originals and reconstructions; 1 is identical.",
    },
    "bits_nominal": {
        "unit": "bits/image",
        "direction": "none",
        "about": "Sum over slots of log2 of the slot's alphabet: what a uniform prior needs.",
    },
    "bits_entropy": {
        "unit": "bits/image",
        "direction": "lower",
        "about": "Held-out codes under each slot's smoothed training histogram: what a unigram prior needs.",
    },
    "bits_prior": {
        "unit": "bits/image",
        "direction": "lower",
        "about": "Held-out negative log2-likelihood of an image's codes under the trained prior.",
    },
    "utilization": {
        "unit": "fraction",
        "direction": "higher",
        "about": "Fraction of the codebook that held-out images use at least once.",
    },
    "perplexity": {
        "unit": "codes",
        "direction": "higher",
        "about": "Two to the power of the entropy of held-out code use: how many codes are effectively used.",
    },
    "dead_codes": {
        "unit": "codes",
        "direction": "lower",
        "about": "Codes that no held-out image uses.",
    },
    "usage_entropy_bits": {
        "unit": "bits/code",
        "direction": "higher",
        "about": "Entropy of held-out code use.",
    },
    "latent_distortion": {
        "unit": "latent²",
        "direction": "lower",
        "about": "Squared error of quantized latents, summed over dimensions; comparable within one encoder.",
    },
    "bce_nats": {
        "unit": "nats/image",
        "direction": "lower",
        "about": "Binary cross-entropy of the reconstructions, summed over pixels.",
    },
    "kl_nats": {
        "unit": "nats/image",
        "direction": "none",
        "about": "Divergence of the latent posterior from the standard normal.",
    },
    "commitment": {
        "unit": "latent²/image",
        "direction": "none",
        "about": "Commitment loss of the trained quantizer, summed over an image's tokens.",
    },
    "total_nats": {
        "unit": "nats/image",
        "direction": "lower",
        "about": "bce_nats plus kl_nats or commitment, of models trained on it; compare arms of one kind.",
    },
    "prior_bits_per_token": {
        "unit": "bits/token",
        "direction": "lower",
        "about": "Prior bits divided by the number of codes an image.",
    },
    "bits_per_dim": {
        "unit": "bits/dim",
        "direction": "lower",
        "about": "Bits of an 8-bit image a pixel and channel: nominal bits of its codes (for the continuous "
        "floor, the posterior's divergence) plus bits_per_dim_decoder; a bound, as a prior may need fewer.",
    },
    "bits_per_dim_decoder": {
        "unit": "bits/dim",
        "direction": "lower",
        "about": "Bits of an 8-bit image a pixel and channel given its codes, under the likelihood that "
        "is best on validation images.",
    },
    "sse_per_sample": {
        "unit": "data²/sample",
        "direction": "lower",
        "about": "Squared reconstruction error summed over the dimensions of a sample, mean over samples.",
    },
    "in_subspace_distortion": {
        "unit": "data²/sample",
        "direction": "lower",
        "about": "Squared error of the quantized latent alone, summed over its dimensions.",
    },
    "usage_entropy_nats": {
        "unit": "nats/code",
        "direction": "higher",
        "about": "Entropy of held-out code use; ln K if every code is used equally often.",
    },
    "dead_fraction": {
        "unit": "fraction",
        "direction": "lower",
        "about": "Fraction of the codebook that no held-out sample uses.",
    },
}


@dataclass(frozen=True)
class Record:
    """The values measured for one arm, rate, seed and split.

    ``bits`` are nominal bits an image, None for the continuous floor; ``n`` is the number of images, or of
    the laboratory's samples; ``values`` maps names in ``METRICS`` to finite numbers.
    """

    arm: str
    bits: float | None
    seed: int
    split: str
    n: int
    values: Mapping[str, float]

    def __post_init__(self) -> None:
        where = f"record of arm '{self.arm}', seed {self.seed}, split '{self.split}'"
        if not self.values:
            raise InputError(f"{where} holds no values; expected at least one metric")
        for name, value in self.values.items():
            if name not in METRICS:
                raise InputError(f"{where}: {unknown_name('metric', name, METRICS)}")
            if not math.isfinite(value):
                raise InputError(f"{where}: {name} is {value}; expected a finite number")


def metrics_json(records: Iterable[Record]) -> dict[str, Any]:
    """The content of ``metrics.json``: the same bytes for the same records, whatever their order.

    Raises ``InputError`` if two records are of the same arm, rate, seed and split.
    """
    ordered = sorted(records, key=_identity)
    for first, second in pairwise(ordered):
        if _identity(first) == _identity(second):
            raise InputError(
                f"two records of arm '{second.arm}', seed {second.seed}, split '{second.split}' at "
                f"{second.bits} bits; expected one"
            )
    used = {name for record in ordered for name in record.values}
    return {
        "schema": SCHEMA,
        "metrics": {name: dict(metric) for name, metric in METRICS.items() if name in used},
        "records": [_to_json(record) for record in ordered],
    }


def read_metrics(path: Path) -> list[Record]:
    """The records of a ``metrics.json``.

    Raises ``CorruptArtifactError`` naming the file and the record if the schema, a field or a metric is not
    known, or a value is not a finite number.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptArtifactError(f"{path}: not readable as JSON: {error}") from None
    return records_from_json(content, str(path))


def records_from_json(content: Any, where: str) -> list[Record]:
    """The records in parsed JSON; ``where`` names its source in errors, those of ``read_metrics``."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise CorruptArtifactError(f"{where}: schema is {found!r}; this version reads {SCHEMA}")
    items = content.get("records")
    if not isinstance(items, list):
        raise CorruptArtifactError(f"{where}: 'records' is {type(items).__name__}; expected a list")
    records = [_from_json(item, f"{where}: record {i}") for i, item in enumerate(items)]
    try:
        metrics_json(records)
    except InputError as error:
        raise CorruptArtifactError(f"{where}: {error}") from None
    return records


def by_seed(records: Iterable[Record], arm: str, metric: str, split: str) -> dict[int, float]:
    """The values of one metric of one arm on one split: seed -> value, in order of seed."""
    found = {
        r.seed: r.values[metric] for r in records if r.arm == arm and r.split == split and metric in r.values
    }
    return dict(sorted(found.items()))


def _identity(record: Record) -> tuple[Any, ...]:
    rate = -1.0 if record.bits is None else float(record.bits)
    return record.arm, rate, record.seed, record.split


def _to_json(record: Record) -> dict[str, Any]:
    return {
        "arm": record.arm,
        "bits": record.bits if record.bits is None else _plain(record.bits),
        "seed": int(record.seed),
        "split": record.split,
        "n": int(record.n),
        "values": {name: float(record.values[name]) for name in METRICS if name in record.values},
    }


def _plain(bits: float) -> int | float:
    return int(bits) if float(bits).is_integer() else float(bits)


_FIELDS: dict[str, Any] = {
    "arm": str, "bits": (int, float, type(None)), "seed": int, "split": str, "n": int, "values": dict,
}  # fmt: skip


def _from_json(item: Any, where: str) -> Record:
    if not isinstance(item, dict) or set(item) != set(_FIELDS):
        found = sorted(item) if isinstance(item, dict) else type(item).__name__
        raise CorruptArtifactError(f"{where} has {found}; expected the fields {sorted(_FIELDS)}")
    for name, kind in _FIELDS.items():
        if not isinstance(item[name], kind) or isinstance(item[name], bool):
            raise CorruptArtifactError(f"{where}: {name} is {item[name]!r}; expected {_kind_name(kind)}")
    if item["n"] < 1:
        raise CorruptArtifactError(f"{where}: n is {item['n']}; expected at least one image")
    if item["bits"] is not None and not (math.isfinite(item["bits"]) and item["bits"] >= 0):
        raise CorruptArtifactError(f"{where}: bits is {item['bits']}; expected a number of bits or null")
    for name, value in item["values"].items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CorruptArtifactError(f"{where}: {name} is {value!r}; expected a finite number")
    try:
        return Record(**item)
    except InputError as error:
        raise CorruptArtifactError(f"{where}: {error}") from None
    except OverflowError:
        raise CorruptArtifactError(f"{where}: a value is too large; expected a finite number") from None


def _kind_name(kind: Any) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
