"""Which arms a page shows in pictures: all of a few, of many a choice that says what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from geovq.evaluation.records import Record
from geovq.reports.remedies import families, split_name
from geovq.reports.run_files import ArmInfo
from geovq.reports.tables import ordered_arms
from geovq.reports.verdict import verdict

MOST_ARMS = 12


def shown_arms(records: Sequence[Record], arms: Mapping[str, ArmInfo]) -> list[tuple[str, float | None]]:
    """Arms and their nominal bits in order of ``ordered_arms``, at most ``MOST_ARMS``.

    Of more, the two arms of the verdict, the plain arms that remedies were tried on, and evenly from the
    lowest to the highest test error the other arms without remedies.
    """
    ordered = ordered_arms(records)
    coded = [arm for arm, bits in ordered if bits is not None]
    if len(ordered) <= MOST_ARMS:
        return ordered
    contest = verdict(records, arms).contest
    best = [contest.first, contest.second] if contest else coded[:1]
    room = MOST_ARMS - len(ordered) + len(coded)
    chosen = set([*best, *(family.plain for family in families(records))][:room])
    others = [arm for arm in coded if arm not in chosen and not split_name(arm)[1]]
    n_others = min(len(others), room - len(chosen))
    chosen |= {others[place] for place in np.linspace(0, len(others) - 1, n_others).round().astype(int)}
    return [(arm, bits) for arm, bits in ordered if bits is None or arm in chosen]


def choice_words(records: Sequence[Record], n_shown: int) -> str:
    """What a choice of ``n_shown`` arms leaves out, or nothing if it is all."""
    n_arms = len(ordered_arms(records))
    if n_shown == n_arms:
        return ""
    return (
        f"{n_shown} of {n_arms} arms: the floor, the best of each side, and arms without remedies between "
        "the lowest and the highest test error. The run folder keeps all of them under evaluation/."
    )
