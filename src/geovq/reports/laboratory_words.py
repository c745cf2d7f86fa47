"""What the laboratory found, in sentences: each says what is measured and whether it is established."""

from __future__ import annotations

from collections.abc import Sequence

from geovq.config import LaboratoryConfig
from geovq.config.laboratory import BASELINE, CONVERGED
from geovq.evaluation.statistics import mean_interval
from geovq.reports.laboratory_changes import (
    change,
    change_words,
    errors_by_seed,
    methods_of,
    signed,
)
from geovq.reports.laboratory_files import (
    CODEBOOK_SIZE,
    COMMITMENT,
    CONVERGENCE,
    GradientCheck,
    LaboratoryRun,
    LinearTraining,
)
from geovq.reports.laboratory_published import published_change, published_errors
from geovq.reports.laboratory_tables import by_value, entropy_share

PAIRS = (("ste-manual", "ste-autograd"), ("rotation", "ste-autograd"))
"""Methods that were published as the same in practice."""


def verdict_words(run: LaboratoryRun) -> list[str]:
    """The findings of a run, the comparison with both baselines first."""
    if run.config.experiment == "comparison":
        return comparison_words(run.parts["comparison"])
    words = gradient_words(run.checks)
    if CONVERGENCE in run.parts:
        words += comparison_words(run.parts[CONVERGENCE])
        words += published_words(run.config, run.parts[CONVERGENCE])
    for part in (CODEBOOK_SIZE, COMMITMENT):
        if part in run.parts:
            words += sweep_words(part, run.parts[part])
    if CONVERGENCE in run.parts:
        words += entropy_words([t for found in run.parts.values() for t in found])
    return words


def gradient_words(checks: Sequence[GradientCheck]) -> list[str]:
    """How far the gradients by hand are from autograd's."""
    if not checks:
        return []
    worst = max(max(check.encoder, check.codebook) for check in checks)
    return [
        "On the same samples and weights the gradients derived by hand differ from autograd's by at most "
        f"{worst:.0e} of the largest entry of both gradients (on W and on E), at {len(checks)} pairs of "
        "weights."
    ]


def comparison_words(trainings: Sequence[LinearTraining]) -> list[str]:
    """Every method against both baselines, then the methods that were published as equal."""
    methods = methods_of(trainings)
    words = []
    for reference in (BASELINE, CONVERGED):
        rest = [m for m in methods if m not in (BASELINE, reference)]
        words += _changes(trainings, [(method, reference) for method in rest])
    return words + _changes(trainings, PAIRS)


def published_words(config: LaboratoryConfig, trainings: Sequence[LinearTraining]) -> list[str]:
    """Each published change from the baseline, of one seed, beside those of the single seeds here."""
    words = []
    published = published_errors(config, CONVERGENCE, config.K)
    reference = errors_by_seed(trainings, BASELINE)
    for method in methods_of(trainings):
        claimed = published_change(published, method)
        errors = errors_by_seed(trainings, method)
        changes = [100 * (errors[s] / reference[s] - 1) for s in errors if s in reference]
        if claimed is not None and changes:
            words.append(
                f"Published for {method}: {signed(claimed)} % from {BASELINE}, of one seed; here single "
                f"seeds are between {signed(min(changes))} and {signed(max(changes))} %."
            )
    return words


def sweep_words(part: str, trainings: Sequence[LinearTraining]) -> list[str]:
    """At which K or beta each method is better than the baseline, worse, or neither beyond doubt."""
    name = "beta" if part == COMMITMENT else "K"
    values = by_value(part, trainings)
    words = []
    for method in (m for m in methods_of(trainings) if m != BASELINE):
        if part == COMMITMENT and not any(t.beta is not None for t in trainings if t.method == method):
            continue
        outcomes: dict[str, list[str]] = {"lower": [], "higher": [], "no established difference": []}
        for value, own in values.items():
            found = change(own, method, BASELINE)
            if found is not None:
                outcome = "no established difference"
                if found.excludes_zero:
                    outcome = "lower" if found.mean < 0 else "higher"
                outcomes[outcome].append(f"{value:g}")
        parts = [f"{outcome} at {name} {', '.join(at)}" for outcome, at in outcomes.items() if at]
        line = f"Error of {method} beside that of {BASELINE}: {'; '.join(parts)}."
        if part == COMMITMENT:
            errors = [list(errors_by_seed(own, method).values()) for own in values.values()]
            means = [mean_interval(found).mean for found in errors]
            varies = 100 * (max(means) / min(means) - 1)
            line += f" Over these values of beta its mean varies by {varies:.2f} %."
        words.append(line)
    return words


def entropy_words(trainings: Sequence[LinearTraining]) -> list[str]:
    """The range of mean entropies of code use over all methods and settings."""
    settings = dict.fromkeys((t.method, t.K, t.beta, t.steps) for t in trainings)
    shares = [
        entropy_share([t for t in trainings if (t.method, t.K, t.beta, t.steps) == setting]).mean
        for setting in settings
    ]
    return [
        f"Mean entropy of code use is {min(shares):.1f} to {max(shares):.1f} % of ln K over all methods, K "
        "and beta."
    ]


def _changes(trainings: Sequence[LinearTraining], pairs: Sequence[tuple[str, str]]) -> list[str]:
    found = {pair: change(trainings, *pair) for pair in pairs}
    return [change_words(*pair, estimate) for pair, estimate in found.items() if estimate is not None]
