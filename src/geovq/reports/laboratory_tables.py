"""The laboratory's tables: errors, use of codes, changes from the baselines, published figures beside."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from geovq.config import LaboratoryConfig
from geovq.config.laboratory import BASELINE, CONVERGED, WITHOUT_STEPS
from geovq.evaluation.records import METRICS
from geovq.evaluation.statistics import Estimate, mean_interval
from geovq.reports.laboratory_changes import change, interval_text, methods_of, signed
from geovq.reports.laboratory_files import COMMITMENT, CONVERGENCE, GradientCheck, LinearTraining
from geovq.reports.laboratory_published import published_change, published_errors
from geovq.reports.tables import Cell, Column, Row, Table, metric_column

DECIMALS = {"sse_per_sample": 4, "in_subspace_distortion": 4, "usage_entropy_nats": 4, "dead_fraction": 3}
SHARE = Column("entropy", "% of ln K", "↑", "Entropy of held-out code use as a share of its maximum.")
ORTHONORMALITY = Column(
    "|W W' - I|", "largest entry", "↓", "How far the rows of the encoder are from orthonormal, worst seed."
)
MISSING = Cell("–")


def error_table(config: LaboratoryConfig, trainings: Sequence[LinearTraining]) -> Table:
    """One row a method: all metrics, changes from both baselines and, where comparable, published figures."""
    methods = methods_of(trainings)
    published = published_errors(config, CONVERGENCE, config.K)
    columns = [metric_column(name) for name in METRICS if name in DECIMALS] + [SHARE]
    columns += [_change_column(reference) for reference in (BASELINE, CONVERGED) if reference in methods]
    columns.append(ORTHONORMALITY)
    if published:
        columns += [Column("published", "data²/sample", "↓", PUBLISHED_ERROR), PUBLISHED]
    rows = []
    for method in methods:
        found = [t for t in trainings if t.method == method]
        cells = [_metric_cell(found, name) for name in METRICS if name in DECIMALS]
        cells += [_share_cell(found), *_change_cells(trainings, method)]
        cells.append(Cell(f"{max(t.orthonormality_error for t in found):.0e}"))
        if published:
            cells.append(Cell(f"{published[method]:.4f}") if method in published else MISSING)
            cells.append(_published_cell(published, method))
        rows.append(Row(method, "", tuple(cells)))
    return Table("method", tuple(columns), tuple(rows))


def sweep_table(config: LaboratoryConfig, part: str, trainings: Sequence[LinearTraining]) -> Table:
    """One row a value of K or beta and method; of the methods that know no beta, none in its sweep."""
    name = "beta" if part == COMMITMENT else "K"
    methods = [m for m in methods_of(trainings) if part != COMMITMENT or m not in WITHOUT_STEPS]
    columns = [metric_column("sse_per_sample"), SHARE]
    columns += [
        _change_column(reference) for reference in (BASELINE, CONVERGED) if reference in methods_of(trainings)
    ]
    values = by_value(part, trainings)
    any_published = any(published_errors(config, part, value) for value in values)
    columns += [PUBLISHED] * any_published
    rows = []
    for value, found in values.items():
        published = published_errors(config, part, value)
        for method in methods:
            own = [t for t in found if t.method == method]
            cells = [_metric_cell(own, "sse_per_sample"), _share_cell(own), *_change_cells(found, method)]
            cells += [_published_cell(published, method)] * any_published
            rows.append(Row(method, f"{name} {value:g}", tuple(cells)))
    return Table("method", tuple(columns), tuple(rows))


def gradient_table(checks: Sequence[GradientCheck]) -> Table:
    """One row a pair of weights: the largest relative difference over seeds of either gradient."""
    about = (
        "Largest difference of the two gradients, relative to the largest entry of both parts of autograd's."
    )
    columns = (Column("on W", "relative", "↓", about), Column("on E", "relative", "↓", about))
    rows = []
    for weights in dict.fromkeys(check.weights for check in checks):
        found = [check for check in checks if check.weights == weights]
        worst = (max(check.encoder for check in found), max(check.codebook for check in found))
        cells = tuple(Cell(f"{difference:.0e}") for difference in worst)
        rows.append(Row(weights, f"n = {len(found)} seeds", cells))
    return Table("weights", columns, tuple(rows))


def by_value(part: str, trainings: Sequence[LinearTraining]) -> dict[float, list[LinearTraining]]:
    """The trainings of a sweep by K, or by beta; those that know no beta stand at each, once a seed."""
    if part != COMMITMENT:
        return {K: [t for t in trainings if t.K == K] for K in dict.fromkeys(t.K for t in trainings)}
    without = {(t.method, t.seed): t for t in trainings if t.beta is None}
    betas = dict.fromkeys(t.beta for t in trainings if t.beta is not None)
    return {b: [*without.values(), *(t for t in trainings if t.beta == b)] for b in betas}


def entropy_share(trainings: Sequence[LinearTraining]) -> Estimate:
    """Entropy of code use in percent of ln K; 100 for a single code, which has no more to give."""
    return mean_interval(
        [100 * t.metrics["usage_entropy_nats"] / math.log(t.K) if t.K > 1 else 100.0 for t in trainings]
    )


PUBLISHED_ERROR = "What was published of one seed, on other data of the same distribution."
PUBLISHED = Column(
    "published", "% of pca-lloyd", "↓", "The published change from one Lloyd start, of one seed."
)


def _change_column(reference: str) -> Column:
    about = f"Change of sse_per_sample from that of {reference} on the same data, mean over seeds."
    return Column("change", f"% of {reference}", "↓", about)


def _metric_cell(trainings: Sequence[LinearTraining], name: str) -> Cell:
    estimate = mean_interval([training.metrics[name] for training in trainings])
    return _cell(estimate, lambda value: f"{value:.{DECIMALS[name]}f}")


def _share_cell(trainings: Sequence[LinearTraining]) -> Cell:
    return _cell(entropy_share(trainings), lambda value: f"{value:.1f}")


def _cell(estimate: Estimate, text: Callable[[float], str]) -> Cell:
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return Cell(text(estimate.mean))
    return Cell(text(estimate.mean), f"[{text(estimate.low)}, {text(estimate.high)}]")


def _change_cells(trainings: Sequence[LinearTraining], method: str) -> list[Cell]:
    cells = []
    for reference in (BASELINE, CONVERGED):
        if reference in methods_of(trainings):
            found = None if method == reference else change(trainings, method, reference)
            cells.append(Cell(signed(found.mean), interval_text(found)) if found else MISSING)
    return cells


def _published_cell(errors: Mapping[str, float], method: str) -> Cell:
    found = published_change(errors, method)
    return MISSING if found is None else Cell(signed(found))
