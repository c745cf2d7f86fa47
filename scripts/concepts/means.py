"""Rows of a measurement, chosen by what they say of themselves, and their values seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geovq.errors import CorruptArtifactError
from geovq.evaluation.statistics import Estimate, mean_interval, paired_difference

Row = Mapping[str, Any]


def select(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """The rows that have all of ``wanted``."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def values_by_seed(rows: Sequence[Row], name: str, **wanted: Any) -> list[float]:
    """``name`` of the rows that have all of ``wanted``, one value a seed, in order of seed.

    Raises ``CorruptArtifactError`` if there is none, or a seed has several.
    """
    chosen = select(rows, **wanted)
    found = {row["seed"]: row[name] for row in chosen}
    if not found or len(found) != len(chosen):
        raise CorruptArtifactError(
            f"{len(chosen)} rows of {len(found)} seeds have {wanted}; expected one row a seed; measure again"
        )
    return [found[seed] for seed in sorted(found)]


def mean_over_seeds(rows: Sequence[Row], name: str, **wanted: Any) -> float:
    """Mean over seeds of ``name``."""
    return mean_interval(values_by_seed(rows, name, **wanted)).mean


def relative_difference(rows: Sequence[Row], name: str, arm: Row, baseline: Row) -> Estimate:
    """``name`` of ``arm`` less that of ``baseline``, in shares of the baseline's, paired by seed."""
    own, other = values_by_seed(rows, name, **arm), values_by_seed(rows, name, **baseline)
    return paired_difference([a / b for a, b in zip(own, other, strict=True)], [1.0] * len(own))
