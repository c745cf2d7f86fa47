"""Plots of the laboratory: metrics by method, training curves, changes by step, by K and by beta."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from geovq.config import LaboratoryConfig
from geovq.config.laboratory import BASELINE, WITHOUT_STEPS
from geovq.evaluation.records import METRICS
from geovq.evaluation.statistics import mean_interval
from geovq.reports.figures import COLOURS, LINE_STYLES
from geovq.reports.laboratory_changes import ERROR, change, errors_by_seed, methods_of
from geovq.reports.laboratory_files import COMMITMENT, LinearTraining
from geovq.reports.laboratory_published import published_change, published_errors
from geovq.reports.laboratory_tables import DECIMALS, by_value
from geovq.reports.pictures import Picture
from geovq.reports.plotting import as_picture, new_axes, new_figure

MARKERS = "osD^vP"
WIDTH = 7.0  # inches, of the plots with four pairs of axes
TITLES = {
    "loss": "training loss",
    "sse_per_sample": "squared error",
    "in_subspace_distortion": "subspace distortion",
    "usage_entropy_nats": "entropy of code use",
    "dead_fraction": "dead codes",
}


def comparison_figure(trainings: Sequence[LinearTraining]) -> Picture:
    """Every metric of every method as bars from zero, with intervals over seeds and the means in figures."""
    methods = methods_of(trainings)
    with new_figure(WIDTH, 0.62 * len(methods) + 1.9) as figure:
        for name, axes in zip(DECIMALS, figure.subplots(2, 2, sharey=True).flat, strict=True):
            longest = 0.0
            for place, method in enumerate(methods):
                found = mean_interval([t.metrics[name] for t in trainings if t.method == method])
                axes.barh(place, found.mean, height=0.62, color=COLOURS[place % len(COLOURS)], alpha=0.85)
                end = found.mean
                if found.low is not None and found.high is not None:
                    axes.plot([found.low, found.high], [place, place], color="#1d2127", linewidth=1.4)
                    end = max(end, found.high)
                longest = max(longest, end)
                axes.annotate(
                    f"{found.mean:.{DECIMALS[name]}f}",
                    (end, place),
                    (5, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8.5,
                )
            axes.set_yticks(range(len(methods)), methods)
            axes.set_ylim(len(methods) - 0.5, -0.5)
            axes.set_xlim(0, 1.3 * longest or 1.0)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.set_title(_title(name), fontsize=10, loc="left")
        errors = (f"{m} {np.mean(list(errors_by_seed(trainings, m).values())):.4f}" for m in methods)
        return as_picture(figure, f"Four metrics by method; squared error: {', '.join(errors)}.")


def curves_figure(method: str, trainings: Sequence[LinearTraining]) -> Picture:
    """A method's loss and metrics by step, one line a seed; dashed: where the baseline ends."""
    own = [t for t in trainings if t.method == method]
    names = [name for name in ("loss", *DECIMALS) if name != "dead_fraction"]
    with new_figure(WIDTH, 5.0) as figure:
        for name, axes in zip(names, figure.subplots(2, 2).flat, strict=True):
            for place, training in enumerate(own):
                points = [(row["step"], row[name]) for row in training.logs if name in row]
                label = f"seed {training.seed}"
                axes.plot(*np.transpose(points or np.empty((0, 2))), color=_colour(place), label=label)
            reference = [t.metrics[name] for t in trainings if t.method == BASELINE and name in t.metrics]
            if method != BASELINE and reference:
                end = mean_interval(reference).mean
                axes.axhline(end, color="#8a8f98", linestyle="--", label=f"{BASELINE}, mean")
            axes.set_title(_title(name), fontsize=10, loc="left")
            axes.set_xlabel("iteration" if method in WITHOUT_STEPS else "step")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.ticklabel_format(axis="y", useOffset=False)
            axes.grid(axis="y")
        handles, labels = figure.axes[1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=9)
        return as_picture(figure, f"Training of {method}: loss, errors and entropy by step, a line a seed.")


def convergence_figure(trainings: Sequence[LinearTraining]) -> Picture:
    """Change of error from the baseline's by step, mean over seeds with its interval; others as lines."""
    reference = errors_by_seed(trainings, BASELINE)
    with new_axes(3.4) as (figure, axes):
        axes.axhline(0, color="#1d2127", linewidth=1, label=BASELINE)
        for place, method in enumerate(m for m in methods_of(trainings) if m != BASELINE):
            own = [t for t in trainings if t.method == method]
            colour, style = _colour(place), LINE_STYLES[place % len(LINE_STYLES)]
            if method in WITHOUT_STEPS:
                found = change(trainings, method, BASELINE)
                if found is not None:
                    axes.axhline(found.mean, color=colour, linestyle=style, label=method)
                    if found.low is not None and found.high is not None:
                        axes.axhspan(found.low, found.high, color=colour, alpha=0.1, linewidth=0)
                continue
            steps = [row["step"] for row in own[0].logs]
            changes = [[100 * (row[ERROR] / reference[t.seed] - 1) for row in t.logs] for t in own]
            found_by_step = [mean_interval(values) for values in zip(*changes, strict=True)]
            axes.plot(steps, [f.mean for f in found_by_step], style, color=colour, label=method)
            low, high = ([getattr(f, end) for f in found_by_step] for end in ("low", "high"))
            if None not in low:
                axes.fill_between(steps, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.set_xlabel("step")
        _finish(axes)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
        return as_picture(figure, f"Change of error from that of {BASELINE} by step, mean over seeds.")


def sweep_figure(config: LaboratoryConfig, part: str, trainings: Sequence[LinearTraining]) -> Picture:
    """Change of error from the baseline's at every K or beta, with intervals; hollow: as published."""
    values = by_value(part, trainings)
    methods = [m for m in methods_of(trainings) if m != BASELINE]
    name = "beta" if part == COMMITMENT else "K"
    with new_axes(3.6) as (figure, axes):
        axes.axhline(0, color="#1d2127", linewidth=1, label=BASELINE)
        for place, method in enumerate(methods):
            colour, marker = _colour(place), MARKERS[place % len(MARKERS)]
            offset = 0.13 * (place - (len(methods) - 1) / 2)
            for i, (value, own) in enumerate(values.items()):
                found = change(own, method, BASELINE)
                if found is None:
                    continue
                label = "" if i else method
                axes.plot(i + offset, found.mean, marker, color=colour, markersize=5, label=label)
                if found.low is not None and found.high is not None:
                    axes.plot([i + offset] * 2, [found.low, found.high], color=colour, alpha=0.6)
                published = published_change(published_errors(config, part, value), method)
                if published is not None:
                    axes.plot(i + offset, published, marker, color=colour, markersize=6, fillstyle="none")
        if any(published_errors(config, part, value) for value in values):
            axes.plot([], [], "o", color="#555555", fillstyle="none", label="as published")
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axes.set_xlabel(name)
        _finish(axes)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
        return as_picture(figure, f"Change of error from that of {BASELINE} by {name}, mean over seeds.")


def _finish(axes: Axes) -> None:
    axes.set_ylabel(f"change of error (% of {BASELINE})")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="y")


def _title(name: str) -> str:
    unit = METRICS[name]["unit"] if name in METRICS else "data²/sample"
    return f"{TITLES[name]} ({unit})"


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]
