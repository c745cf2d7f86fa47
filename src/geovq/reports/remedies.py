"""What each remedy adds to an arm: the change of its test error, alone and on top of the other remedies.

Names say which arms belong together: ``BASE`` is the plain arm, ``BASE+metric+tuned`` has two remedies, and
``BASE-greedy`` is the plain arm fitted and coded greedily, without a beam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geovq.evaluation.records import METRICS, Record, by_seed
from geovq.evaluation.statistics import mean_interval, paired_difference
from geovq.reports import numbers
from geovq.reports.tables import Cell, Column, Row, Table, ordered_arms

# In the order in which one is put on top of the other, which is that of the suffixes in a name.
REMEDIES = {
    "metric": "Quantized in the decoder's mean pull-back metric.",
    "tuned": "The decoder, or with it the codebook, or with both the encoder, trained further on the codes.",
    "aware": "Codes chosen by what the decoder makes of them, not by the nearest latent.",
}
BEAM = "Beam search over the levels, in fitting and coding: the plain arm's change from the greedy one."
ALONE, IN_TURN = "each alone", "added in turn"
MISSING = Cell("–")


@dataclass(frozen=True)
class Family:
    """The arms of one base: ``arms`` by their remedies, the plain one under none, and the ``greedy`` one."""

    arms: Mapping[frozenset[str], str]
    greedy: str | None

    @property
    def plain(self) -> str:
        """The arm without any remedy."""
        return self.arms[frozenset()]

    @property
    def most(self) -> str | None:
        """The arm with the most remedies, None if there are none or two have as many."""
        first, *others = sorted(self.arms, key=len, reverse=True)
        return self.arms[first] if first and len(first) > max(map(len, others)) else None

    @property
    def alone(self) -> dict[str, tuple[str, str]]:
        """By remedy, the plain arm and the one with that remedy alone."""
        return {r: (self.plain, self.arms[frozenset({r})]) for r in REMEDIES if frozenset({r}) in self.arms}

    @property
    def in_turn(self) -> dict[str, tuple[str, str]]:
        """By remedy, the arm with all remedies before it that there are, and the same arm with it."""
        steps, present = {}, frozenset[str]()
        for remedy in REMEDIES:
            if present | {remedy} in self.arms:
                steps[remedy] = (self.arms[present], self.arms[present | {remedy}])
                present |= {remedy}
        return steps


def split_name(arm: str) -> tuple[str, frozenset[str]]:
    """The base of an arm's name and its remedies; a name with another suffix is a base of its own.

    >>> base, remedies = split_name("residual+metric+tuned")
    >>> base, sorted(remedies), split_name("a+b")
    ('residual', ['metric', 'tuned'], ('a+b', frozenset()))
    """
    base, *suffixes = arm.split("+")
    return (base, frozenset(suffixes)) if set(suffixes) <= REMEDIES.keys() else (arm, frozenset())


def families(records: Sequence[Record]) -> list[Family]:
    """Plain arms that have an arm with a remedy or a greedy one; the lowest error's family first."""
    errors = [arm for arm, bits in ordered_arms(records) if bits is not None and _errors(records, arm)]
    found: dict[str, dict[frozenset[str], str]] = {}
    for arm in errors:
        base, remedies = split_name(arm)
        found.setdefault(base, {})[remedies] = arm
    greedy = {base: f"{base}-greedy" if f"{base}-greedy" in errors else None for base in found}
    return [
        Family(arms, greedy[base])
        for base, arms in found.items()
        if frozenset() in arms and (len(arms) > 1 or greedy[base])
    ]


def remedy_table(records: Sequence[Record]) -> Table | None:
    """Plain test MSE, what each remedy changes, and the MSE with all; None of fewer than two remedies.

    Changes are means over the seeds that both arms have, with 95 % Student-t intervals, in percent of the
    plain arm's mean error.
    """
    groups = families(records)
    remedies = [r for r in REMEDIES if any(r in have for group in groups for have in group.arms)]
    has_beam = any(group.greedy for group in groups)
    if len(remedies) + has_beam < 2:
        return None
    unit, about = METRICS["mse"]["unit"], METRICS["mse"]["about"]
    columns = [Column("plain mse", unit, "↓", f"{about} Of the arm without remedies.")]
    columns += [Column("beam", "change", "↓", BEAM)] * has_beam
    columns += [Column(f"+{remedy}", "change", "↓", REMEDIES[remedy]) for remedy in remedies]
    columns.append(Column("all", "change", "↓", "From the plain arm to the one with the most remedies."))
    columns.append(Column("mse with all", unit, "↓", f"{about} Of the arm with the most remedies."))
    rows = []
    for group in groups:
        ladders = {ALONE: group.alone}
        if len(group.in_turn) > 1:
            ladders[IN_TURN] = group.in_turn
        for note, steps in ladders.items():
            cells = [_mean(records, group.plain)]
            cells += [_beam(records, group, note)] * has_beam
            cells += [
                _change(records, group.plain, *steps[remedy]) if remedy in steps else MISSING
                for remedy in remedies
            ]
            cells += _with_all(records, group)
            rows.append(Row(group.plain, note, tuple(cells)))
    return Table("arm", tuple(columns), tuple(rows))


def remedy_words(records: Sequence[Record]) -> str:
    """What the changes of the table are, in a paragraph."""
    n_seeds = len({record.seed for record in records if record.split == "test"})
    evidence = (
        "One seed, no interval."
        if n_seeds == 1
        else "Differences are paired by seed, with 95 % Student-t intervals; where one holds zero, a change "
        "is not established."
    )
    return (
        "Changes of test MSE in percent of the plain arm's; below zero is better. Each alone: from the plain "
        "arm. Added in turn: from the arm with the remedies to the left, so that these changes add "
        f"up to that of all. {evidence}"
    )


def _errors(records: Sequence[Record], arm: str) -> dict[int, float]:
    return by_seed(records, arm, "mse", "test")


def _mean(records: Sequence[Record], arm: str) -> Cell:
    # Without its interval, which is in the table of all arms and is not that of any difference here.
    return Cell(numbers.mean(mean_interval(list(_errors(records, arm).values()))))


def _beam(records: Sequence[Record], group: Family, note: str) -> Cell:
    if group.greedy is None:
        return MISSING
    # The steps of this row start from the plain arm and add up; the beam is in their start.
    return Cell("in plain") if note == IN_TURN else _change(records, group.plain, group.greedy, group.plain)


def _with_all(records: Sequence[Record], group: Family) -> list[Cell]:
    if group.most is None:
        return [MISSING, MISSING]
    return [_change(records, group.plain, group.plain, group.most), _mean(records, group.most)]


def _change(records: Sequence[Record], plain: str, before: str, after: str) -> Cell:
    """What the step from one arm to another changes, in percent of the plain arm's error."""
    first, second = _errors(records, before), _errors(records, after)
    seeds = sorted(first.keys() & second.keys())
    whole = mean_interval(list(_errors(records, plain).values())).mean
    if not seeds or whole == 0:
        return MISSING
    if all(first[s] == second[s] for s in seeds):
        return Cell("no change")
    difference = paired_difference([second[s] for s in seeds], [first[s] for s in seeds])
    change = _percent(difference.mean / whole, difference.mean / whole)
    if difference.low is None or difference.high is None:
        return Cell(f"{change} %")
    low, high = (
        _percent(bound / whole, difference.mean / whole) for bound in (difference.low, difference.high)
    )
    if difference.excludes_zero:
        return Cell(f"{change} %", f"[{low}, {high}]")
    return Cell("not established", f"{change} % [{low}, {high}]")


def _percent(share: float, like: float) -> str:
    """A signed share as percent at the precision of ``like``, at most two decimals."""
    text = numbers.rounded(100 * share, like=max(100 * abs(like), 1.0))
    return f"+{text}" if share > 0 and float(text.replace(",", "")) else text
