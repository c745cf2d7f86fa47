"""Plots: test error, codebook use, training curves.

Colours are Okabe and Ito's, told apart by colour-blind readers; markers and line styles differ as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from geovq.evaluation.records import Record, by_seed
from geovq.evaluation.statistics import mean_interval
from geovq.reports.pictures import Picture
from geovq.reports.plotting import as_picture, new_axes
from geovq.reports.run_files import ArmInfo, LogRow
from geovq.reports.tables import ordered_arms

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")
KIND_MARKS = {"post-hoc": ("#0072B2", "o", "after the fact"), "end-to-end": ("#D55E00", "s", "end to end")}
UNKNOWN_MARK = ("#555555", "D", "")


def error_figure(records: Sequence[Record], arms: Mapping[str, ArmInfo]) -> Picture | None:
    """Test MSE of every arm with its interval, the continuous floor as a line; None without test errors."""
    errors = {
        arm: mean_interval(list(found.values()))
        for arm, bits in ordered_arms(records)
        if bits is not None and (found := by_seed(records, arm, "mse", "test"))
    }
    if not errors:
        return None
    floors = [
        (a, found)
        for a, bits in ordered_arms(records)
        if bits is None and (found := by_seed(records, a, "mse", "test"))
    ]
    with new_axes(0.36 * len(errors) + 1.1) as (figure, axes):
        for place, (arm, error) in enumerate(errors.items()):
            colour, marker, label = KIND_MARKS.get(arms[arm].kind if arm in arms else "", UNKNOWN_MARK)
            if error.low is not None and error.high is not None:
                axes.plot([error.low, error.high], [place, place], color=colour, linewidth=2, alpha=0.55)
            known = axes.get_legend_handles_labels()[1]
            axes.plot(error.mean, place, marker, color=colour, label="" if label in known else label)
        for arm, found in floors:
            floor = mean_interval(list(found.values())).mean
            axes.axvline(floor, color="#8a8f98", linestyle="--", label=f"{arm} (floor)")
        axes.set_yticks(range(len(errors)), list(errors))
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("test MSE (lower is better)")
        axes.grid(axis="x")
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper right", ncols=3, fontsize=9)
        order = ", ".join(f"{arm} {error.mean:.3g}" for arm, error in errors.items())
        return as_picture(figure, f"Test MSE by arm, lowest first: {order}.")


def usage_figure(counts: Mapping[str, np.ndarray]) -> Picture:
    """Sorted use of every arm's codes, from held-out counts (levels, K), -1 where an alphabet is smaller.

    Use is relative to a uniform one, so that alphabets of any size and levels of any depth share the axes.
    """
    legend_columns = 3 if max(map(len, counts)) <= 16 else 2
    with new_axes(2.9 + 0.22 * -(-len(counts) // legend_columns)) as (figure, axes):
        used = {}
        for place, (arm, table) in enumerate(counts.items()):
            use = relative_use(table)
            alive = use[use > 0]
            used[arm] = len(alive) / len(use)
            rank = (np.arange(len(alive)) + 1) / len(use)
            style = LINE_STYLES[place // len(COLOURS) % len(LINE_STYLES)]
            axes.plot(rank, alive, style, color=COLOURS[place % len(COLOURS)], label=arm, linewidth=1.6)
        axes.axhline(1, color="#8a8f98", linewidth=0.8)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlim(0, 1)
        axes.set_xlabel("codes, most used first (fraction of all codes)")
        axes.set_ylabel("use (1 = uniform)")
        figure.legend(loc="outside lower center", ncols=legend_columns, fontsize=9)
        shares = ", ".join(f"{arm} {100 * share:.0f} %" for arm, share in used.items())
        return as_picture(figure, f"Held-out use of codes, sorted; codes used at least once: {shares}.")


def relative_use(counts: np.ndarray) -> np.ndarray:
    """Counts (levels, K) as use relative to a uniform one, all levels' codes sorted, most used first."""
    use = [row[row >= 0] * (row >= 0).sum() / max(row[row >= 0].sum(), 1) for row in counts]
    return np.sort(np.concatenate(use))[::-1]


def training_figure(model: str, rows: Sequence[LogRow]) -> Picture:
    """One model's loss by epoch, train and validation, one line a seed."""
    names = sorted({row.name for row in rows})
    name = "total" if "total" in names else names[0]
    with new_axes(2.9) as (figure, axes):
        for place, split in enumerate(sorted({row.split for row in rows})):
            seeds = sorted({row.seed for row in rows if row.split == split})
            for seed in seeds:
                curve = (split, seed, name)
                points = sorted((r.epoch, r.value) for r in rows if (r.split, r.seed, r.name) == curve)
                axes.plot(
                    *np.transpose(points or np.empty((0, 2))),
                    LINE_STYLES[place % len(LINE_STYLES)],
                    color=COLOURS[place % len(COLOURS)],
                    marker="." if len(points) < 30 else "",
                    linewidth=1.4,
                    label=split if seed == seeds[0] else "",
                )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(axis="y")
        figure.legend(loc="outside upper right", ncols=3, fontsize=9)
        return as_picture(figure, f"Training of {model}: {name} by epoch on each split, one line a seed.")
