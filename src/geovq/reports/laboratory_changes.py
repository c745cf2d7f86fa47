"""How much lower one method's error is than another's: paired by seed, in percent, with words for it."""

from __future__ import annotations

from collections.abc import Sequence

from geovq.evaluation.statistics import Estimate, mean_interval
from geovq.reports.laboratory_files import LinearTraining

ERROR = "sse_per_sample"


def change(trainings: Sequence[LinearTraining], method: str, reference: str) -> Estimate | None:
    """The change of error from ``reference`` to ``method`` in percent of the reference's, mean over seeds.

    Both were trained on the same data at each seed; None if they have no seed in common.
    """
    errors = errors_by_seed(trainings, method)
    of_reference = errors_by_seed(trainings, reference)
    seeds = sorted(errors.keys() & of_reference.keys())
    return mean_interval([100 * (errors[s] / of_reference[s] - 1) for s in seeds]) if seeds else None


def errors_by_seed(trainings: Sequence[LinearTraining], method: str) -> dict[int, float]:
    """The errors of one method: seed -> value, in order of seed."""
    return dict(sorted((t.seed, t.metrics[ERROR]) for t in trainings if t.method == method))


def methods_of(trainings: Sequence[LinearTraining]) -> list[str]:
    """The methods that were trained, in order."""
    return list(dict.fromkeys(training.method for training in trainings))


def change_words(method: str, reference: str, found: Estimate) -> str:
    """A sentence on whether ``method`` has another error than ``reference``.

    >>> change_words("ste-manual", "pca-lloyd", Estimate(-0.31, -0.52, -0.10, 5))
    'ste-manual has 0.31 % lower error than pca-lloyd ([-0.52, -0.10] %, n = 5 paired seeds).'
    >>> change_words("a", "b", Estimate(-0.31, -0.72, 0.10, 5))
    'No difference between a and b is established: -0.31 % ([-0.72, +0.10] %, n = 5 paired seeds).'
    """
    bounds = {signed(value) for value in (found.mean, found.low, found.high) if value is not None}
    if bounds == {signed(0.0)}:
        return f"{method} and {reference} have the same error to 0.01 %."
    size = f"{abs(found.mean):.2f} % {'lower' if found.mean < 0 else 'higher'}"
    if found.low is None or found.high is None:
        return f"{method} has {size} error than {reference}: one seed, no interval."
    evidence = f"({interval_text(found)} %, n = {found.n} paired seeds)"
    if found.excludes_zero:
        return f"{method} has {size} error than {reference} {evidence}."
    return (
        f"No difference between {method} and {reference} is established: {signed(found.mean)} % {evidence}."
    )


def signed(percent: float) -> str:
    """A change in percent with its sign and two decimals.

    >>> signed(1.5), signed(-0.126), signed(-0.001)
    ('+1.50', '-0.13', '0.00')
    """
    text = f"{percent:+.2f}"
    return text[1:] if float(text) == 0 else text


def interval_text(found: Estimate) -> str:
    """The interval as ``[low, high]``, signed; empty if there is none."""
    return "" if found.low is None or found.high is None else f"[{signed(found.low)}, {signed(found.high)}]"
