"""Write the measured tables of docs/linear.md from results/linear/*.json.

python scripts/write_linear.py
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

from concepts.means import mean_over_seeds, relative_difference, select, values_by_seed
from concepts.tables import replaced
from measure_linear import OTHER_START, PARTS, PUBLISHED_SEED

from geovq.config.laboratory import BASELINE, CONVERGED
from geovq.errors import GeovqError
from geovq.evaluation.statistics import Estimate
from geovq.reports.laboratory_files import CONVERGENCE
from geovq.reports.laboratory_published import ERRORS, K
from geovq.storage.artifact import read_json
from geovq.storage.atomic import write_text

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ERRORS[CONVERGENCE][K]
POINTS = {"train": "training", "evaluation": "4,000", "fresh": "fresh"}
GRADIENTS = {"none": "nothing, W frozen", "decoder": "its part as decoder", "both": "the whole gradient"}

Rows = Sequence[Mapping[str, Any]]


def method_table(rows: Rows) -> str:
    """Every method against both baselines, in per cent."""
    lines = [
        [
            "method",
            "published",
            "measured",
            "against `pca-lloyd`: 4,000",
            "fresh",
            "against `pca-lloyd-converged`: 4,000",
            "fresh",
        ],
        ["---", *["---:"] * 6],
    ]
    for method in dict.fromkeys(row["method"] for row in rows if row["method"] != OTHER_START):
        changes = [
            _change(rows, part, {"method": method}, baseline)
            for baseline in (BASELINE, CONVERGED)
            for part in ("evaluation", "fresh")
        ]
        measured = f"{mean_over_seeds(rows, 'evaluation', method=method):.4f}"
        lines.append([f"`{method}`", _published(method), measured, *changes])
    return _markdown(lines)


def claim_table(methods: Rows, gradients: Rows) -> str:
    """What was published as the same or as a bound, beside what was measured."""
    trained = [row for row in methods if row["method"] != OTHER_START]
    shares = [100 * row["usage_entropy_nats"] / math.log(K) for row in trained]
    dead = sum(row["dead_fraction"] > 0 for row in trained)
    worst = max(max(row["W"], row["E"]) for row in gradients)
    manual, rotation = (
        percent(relative_difference(methods, "fresh", {"method": a}, {"method": "ste-autograd"}), decimals=3)
        for a in ("ste-manual", "rotation")
    )
    lines = [
        ["published", "measured"],
        ["---", "---"],
        [
            "manual STE is autograd within 1.4 %",
            f"gradients differ by at most {worst:.0g} of the largest entry of each, at {len(gradients)} "
            f"pairs of weights; errors on fresh points by {manual} %",
        ],
        ["STE and rotation differ by 0.02 %", f"rotation trick against STE, fresh points: {rotation} %"],
        [
            "code use above 98 % of ln K",
            f"{min(shares):.1f} to {max(shares):.1f} % in {len(shares)} models, {dead} with dead codes",
        ],
    ]
    return _markdown(lines)


def replica_table(rows: Rows) -> str:
    """The published seed: the two published numbers, and what they are on other points."""
    names = {"baseline": BASELINE, "baseline run on": "", "start": "", "ste": "ste-autograd"}
    lines = [["seed 42", "published", "training", "4,000", "fresh"], ["---", *["---:"] * 4]]
    own = {name: select(rows, seed=PUBLISHED_SEED, model=name)[0] for name in names}
    for name, method in names.items():
        cells = [f"{own[name][part]:.4f}" for part in POINTS]
        if name != "baseline":
            gains = [100 * (own[name][part] / own["baseline"][part] - 1) for part in POINTS]
            cells = [f"{cell} ({gain:+.2f} %)" for cell, gain in zip(cells, gains, strict=True)]
        lines.append([name, _published(method), *cells])
    return _markdown(lines)


def spread_table(replica: Rows, methods: Rows) -> str:
    """The same procedure on 20 seeds: mean with interval, deviation and range over seeds."""
    others = [row for row in replica if row["seed"] != PUBLISHED_SEED]
    comparisons: list[tuple[str, Rows, str, str, str]] = [
        ("replica, STE against the baseline", others, "model", "ste", "baseline"),
        ("replica, STE against the baseline run on", others, "model", "ste", "baseline run on"),
        ("`pca-lloyd` from two starts", methods, "method", OTHER_START, BASELINE),
    ]
    lines = [
        ["20 seeds", "points", "change, %", "deviation", "lowest", "highest"],
        ["---", "---", *["---:"] * 4],
    ]
    for words, rows, key, one, reference in comparisons:
        for part in ("evaluation", "fresh"):
            own, other = (values_by_seed(rows, part, **{key: name}) for name in (one, reference))
            changes = [100 * (a / b - 1) for a, b in zip(own, other, strict=True)]
            estimate = relative_difference(rows, part, {key: one}, {key: reference})
            spread = [f"{stdev(changes):.2f}", f"{min(changes):+.2f}", f"{max(changes):+.2f}"]
            lines.append([words, POINTS[part], percent(estimate), *spread])
    return _markdown(lines)


def rate_table(methods: Rows, rates: Rows) -> str:
    """Learning rates of the codebook against both baselines, in per cent."""
    rows = [*methods, *rates]
    lines = [
        ["lrE", "training", "4,000", "fresh", "fresh, against `pca-lloyd-converged`"],
        ["---", *["---:"] * 4],
    ]
    for average_over, factor in dict.fromkeys((row["average_over"], row["factor"]) for row in rates):
        arm = {"average_over": average_over, "factor": factor}
        cells = [_change(rows, part, arm, BASELINE) for part in POINTS]
        words = f"x {factor}" if average_over == "batch" else "mean over the code's own points"
        lines.append([words, *cells, _change(rows, "fresh", arm, CONVERGED)])
    return _markdown(lines)


def encoder_table(methods: Rows, encoder: Rows) -> str:
    """What moves W, against the baseline and against a frozen W at the same rate, in per cent."""
    rows = [*methods, *encoder]
    lines = [
        ["W learns by", "lrE", "against `pca-lloyd`", "against W frozen: training", "fresh"],
        ["---", "---", *["---:"] * 3],
    ]
    for factor, gradient in dict.fromkeys((row["factor"], row["gradient"]) for row in encoder):
        arm, frozen = ({"gradient": name, "factor": factor} for name in (gradient, "none"))
        against_frozen = (
            percent(relative_difference(rows, part, arm, frozen), decimals=3) if gradient != "none" else "–"
            for part in ("train", "fresh")
        )
        cells = [_change(rows, "fresh", arm, BASELINE), *against_frozen]
        lines.append([GRADIENTS[gradient], f"x {factor}", *cells])
    return _markdown(lines)


def percent(estimate: Estimate, decimals: int = 2) -> str:
    """A share in per cent with its interval, in bold if that excludes zero; of one seed, alone.

    >>> percent(Estimate(-0.0043, -0.0055, -0.0031, 20)), percent(Estimate(0.00004, -0.001, 0.001, 20))
    ('**-0.43** [-0.55, -0.31]', '0.00 [-0.10, +0.10]')
    >>> percent(Estimate(-0.0043, None, None, 1))
    '-0.43'
    """
    mean = _signed(100 * estimate.mean, decimals)
    if estimate.low is None or estimate.high is None:
        return mean
    low, high = (_signed(100 * value, decimals) for value in (estimate.low, estimate.high))
    return f"{f'**{mean}**' if estimate.excludes_zero else mean} [{low}, {high}]"


def _signed(value: float, decimals: int) -> str:
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text


def _change(rows: Rows, part: str, arm: Mapping[str, Any], baseline: str) -> str:
    if arm.get("method") == baseline:
        return "–"
    return percent(relative_difference(rows, part, arm, {"method": baseline}))


def _published(method: str) -> str:
    if method not in PUBLISHED:
        return "–"
    error = f"{PUBLISHED[method]:.4f}"
    gain = 100 * (PUBLISHED[method] / PUBLISHED[BASELINE] - 1)
    return error if method == BASELINE else f"{error} ({gain:+.2f} %)"


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(root: Path) -> dict[str, str]:
    """The tables by the name of their place in the page."""
    rows = {name: read_json(root / "results" / "linear" / f"{name}.json")["rows"] for name in PARTS}
    return {
        "methods": method_table(rows["methods"]),
        "claims": claim_table(rows["methods"], rows["gradients"]),
        "replica": replica_table(rows["replica"]),
        "spread": spread_table(rows["replica"], rows["methods"]),
        "rates": rate_table(rows["methods"], rows["rates"]),
        "encoder": encoder_table(rows["methods"], rows["encoder"]),
    }


def main(root: Path = ROOT) -> int:
    """Write the page and return the exit code."""
    page = root / "docs" / "linear.md"
    try:
        write_text(page, replaced(page.read_text(encoding="utf-8"), tables(root)))
    except GeovqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
