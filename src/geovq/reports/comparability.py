"""Whether two arms were given the same: data, images, bits, parameters, training and tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from geovq.evaluation.records import Record, by_seed
from geovq.reports.numbers import rounded
from geovq.reports.run_files import RunInfo
from geovq.reports.verdict import Contest

PARAMETER_TOLERANCE = 0.05


@dataclass(frozen=True)
class Check:
    """One condition of a fair comparison, what each side had, and whether it holds."""

    about: str
    first: str
    second: str
    holds: bool


def comparability(records: Sequence[Record], info: RunInfo, contest: Contest) -> list[Check]:
    """The conditions under which the verdict between two arms means something."""
    sides = (contest.first, contest.second)
    test = [[r for r in records if r.arm == arm and r.split == "test"] for arm in sides]
    images = [sorted({r.n for r in rows}) for rows in test]
    seeds = [sorted({r.seed for r in rows}) for rows in test]
    bits = [_nominal_bits(records, arm) for arm in sides]
    first, second = info.arms[sides[0]], info.arms[sides[1]]
    data = f"{info.data.name} ({info.data.fingerprint[:12]})"
    larger = max(first.parameters, second.parameters)
    return [
        Check("same data", data, data, True),  # a run has one dataset, and both arms are of this run
        Check("same test images", _listed(images[0]), _listed(images[1]), images[0] == images[1] != []),
        Check("same seeds", _listed(seeds[0]), _listed(seeds[1]), seeds[0] == seeds[1] != []),
        Check("nominal bits an image", rounded(bits[0]), rounded(bits[1]), math.isclose(*bits)),
        Check(
            "structure of the codes",
            first.structure,
            second.structure,
            first.structure == second.structure,
        ),
        Check(
            "parameters of encoder and decoder (within 5 %)",
            rounded(first.parameters),
            rounded(second.parameters),
            abs(first.parameters - second.parameters) <= PARAMETER_TOLERANCE * larger,
        ),
        Check(
            "image passes through the network",
            rounded(first.image_passes),
            rounded(second.image_passes),
            math.isclose(first.image_passes, second.image_passes, rel_tol=1e-6),
        ),
        Check(
            "configurations tried",
            rounded(first.configurations_tried),
            rounded(second.configurations_tried),
            first.configurations_tried == second.configurations_tried,
        ),
    ]


def caution(checks: Sequence[Check], contest: Contest) -> str:
    """One line that names what the two arms were not given alike, or nothing."""
    differing = [
        f"{check.about} ({check.first} for {contest.first}, {check.second} for {contest.second})"
        for check in checks
        if not check.holds
    ]
    return f"Caution, the two differ in {'; '.join(differing)}." if differing else ""


def _nominal_bits(records: Sequence[Record], arm: str) -> float:
    measured = by_seed(records, arm, "bits_nominal", "test")
    rates = [*measured.values(), *(r.bits for r in records if r.arm == arm and r.bits is not None)]
    return float(rates[0])


def _listed(values: Sequence[int]) -> str:
    return ", ".join(f"{value:,}" for value in values) or "none"
