"""The verdict in words: the best arm after the fact against the best arm end to end.

In a run of one kind alone it is the best arm against the next. Both are chosen on validation images and
compared on test images, so the choice cannot flatter either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geovq.evaluation.records import Record, by_seed
from geovq.evaluation.statistics import mean_interval, paired_difference
from geovq.reports.numbers import rounded
from geovq.reports.run_files import KIND_WORDS, ArmInfo


@dataclass(frozen=True)
class Contest:
    """The two arms that a verdict compares: after the fact and end to end, or the two best of one kind."""

    first: str
    second: str


@dataclass(frozen=True)
class Verdict:
    """A sentence, and the arms it is about (None if there is nothing to compare)."""

    text: str
    contest: Contest | None


def verdict(records: Sequence[Record], arms: Mapping[str, ArmInfo]) -> Verdict:
    """Which side has the lower test error, by how much, and how surely."""
    ranked = {kind: _by_validation(records, arms, kind) for kind in ("post-hoc", "end-to-end")}
    absent = [kind for kind, found in ranked.items() if not found]
    of_one_kind = next((found for found in ranked.values() if len(found) > 1), [])
    if absent and not (of_one_kind and all(info.kind != absent[0] for info in arms.values())):
        return Verdict(f"No verdict: {_missing(arms, absent[0])}.", None)
    contest = Contest(*(of_one_kind[:2] if absent else (found[0] for found in ranked.values())))
    errors = {arm: by_seed(records, arm, "mse", "test") for arm in (contest.first, contest.second)}
    seeds = sorted(errors[contest.first].keys() & errors[contest.second].keys())
    if not seeds:
        return Verdict("No verdict: the two best arms have no seed with a test error in common.", contest)
    paired = {arm: [found[seed] for seed in seeds] for arm, found in errors.items()}
    return Verdict(_sentence(records, arms, paired), contest)


def _by_validation(records: Sequence[Record], arms: Mapping[str, ArmInfo], kind: str) -> list[str]:
    """Arms of a kind, the lowest validation error first."""
    coded = {r.arm for r in records if r.bits is not None}
    errors = {
        arm: mean_interval(list(found.values())).mean
        for arm, info in sorted(arms.items())
        if info.kind == kind and arm in coded and (found := by_seed(records, arm, "mse", "validation"))
    }
    # A tuned decoder that fell back to its start ties with its arm, and has had the rival's budget.
    return sorted(errors, key=lambda arm: (errors[arm], -arms[arm].image_passes, arm))


def _missing(arms: Mapping[str, ArmInfo], kind: str) -> str:
    if arms and all(info.kind != kind for info in arms.values()):
        return f"the run has no arm of the kind “{KIND_WORDS[kind]}”"
    return f"no arm of the kind “{KIND_WORDS[kind]}” has a validation error yet"


def _sentence(
    records: Sequence[Record], arms: Mapping[str, ArmInfo], paired: Mapping[str, Sequence[float]]
) -> str:
    means = {arm: mean_interval(values).mean for arm, values in paired.items()}
    first, second = sorted(paired, key=lambda arm: means[arm])
    names = {arm: f"{arm} ({KIND_WORDS[arms[arm].kind]})" for arm in paired}
    difference = paired_difference(paired[first], paired[second])
    against = f"{rounded(means[first])} against {rounded(means[second])}"
    at = _rate(records, tuple(paired))
    if difference.mean == 0:
        lower = f"{names[first]} has the same test MSE as {names[second]}"
    else:
        percent = _percent(1 - means[first] / means[second])
        lower = f"{names[first]} has {percent} lower test MSE than {names[second]}"
    if difference.low is None or difference.high is None:
        return f"{at}, {lower}: {against}; one seed, no interval."
    evidence = (
        f"{against}, difference {rounded(difference.mean)} "
        f"[{rounded(difference.low)}, {rounded(difference.high)}], n = {difference.n} paired seeds"
    )
    if difference.excludes_zero:
        return f"{at}, {lower}: {evidence}."
    between = f"{names[first]} and {names[second]}"
    return f"{at}, no difference in test MSE is established between {between}: {evidence}."


def _rate(records: Sequence[Record], arms: Sequence[str]) -> str:
    rates = [next(r.bits for r in records if r.arm == arm and r.bits is not None) for arm in arms]
    shown = dict.fromkeys(rounded(rate) for rate in rates)
    return f"At {' against '.join(shown)} bits an image"


def _percent(fraction: float) -> str:
    percent = 100 * fraction
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %"
