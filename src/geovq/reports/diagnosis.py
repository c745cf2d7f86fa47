"""What a model's latents ask for: the sentence, the numbers behind it, KL and eigenvalues as a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from geovq.config import from_json
from geovq.errors import CorruptArtifactError
from geovq.evaluation.diagnosis import ACTIVE_BITS, Diagnosis, PathsAgainstLines
from geovq.evaluation.rate_distortion import SMALLEST_SHARE
from geovq.reports.numbers import rounded
from geovq.reports.pictures import Picture
from geovq.reports.plotting import WIDTH_INCHES, as_picture, new_figure
from geovq.reports.run_files import RunFiles, known_fields
from geovq.reports.tables import Cell, Column, Row, Table
from geovq.storage.artifact import load_artifact

BLUE, GREY = "#0072B2", "#8a8f98"
COLUMNS = (
    Column("latents", about="Measured on training latents of the first seed."),
    Column("flat Gaussian", about="The same of a Gaussian cloud with the latents' mean and covariance."),
)


def read_diagnosis(run: RunFiles, model: str) -> Diagnosis | None:
    """The diagnosis of a model's latents at the run's first seed, or None if none is stored."""
    folder = run.model_folder("diagnoses", model)
    if not folder.is_dir():
        return None
    config, _ = load_artifact(folder)
    known = known_fields(Diagnosis, config)
    known["paths"] = known_fields(PathsAgainstLines, known.get("paths"))
    found: Diagnosis = from_json(Diagnosis, known, str(folder / "config.json"))
    _check(folder, found)
    return found


def diagnosis_table(found: Diagnosis) -> Table:
    """The numbers that the recommendation rests on, one row each; those not measured are left out."""
    total, dimensions = found.total_bits, len(found.eigenvalues)
    rows = []
    if total is not None:
        rows.append(_row("KL", "bits an image", total))
        rows.append(
            _row(
                "active dimensions", f"of {dimensions}, at least {ACTIVE_BITS} bits", found.active_dimensions
            )
        )
    rows += [
        _row("eigenvalues of E[J'J], largest / smallest", "at most 1,000,000", found.spread),
        _row("eigenvalues of E[J'J], largest / median", "", found.spread_to_median),
        _row(
            "effective rank of E[J'J]",
            f"of {dimensions}; entropy {rounded(found.entropy_bits)} bits",
            found.effective_rank,
        ),
        _row("expected error in the metric E[J'J]", "1 = Euclidean codes", found.mean_metric_error),
        _row("expected error in mean precision", "1 = Euclidean codes", found.precision_error),
        _row("expected error of tokens coded apart", "1 = codes of the whole latent", found.apart_error),
        _row("precision and diag J'J, across dimensions", "rank correlation", found.precision_across),
        _row("precision and diag J'J, from image to image", "rank correlation", found.precision_within),
        _row("change of J'J from image to image", "relative to E[J'J]", found.metric_change),
        _row("change of the shape of J'J", "0 to 1", found.shape_change),
    ]
    if (paths := found.paths) is not None:
        graph = f"{paths.n_points:,} tokens, d = {paths.dim}"
        rows += [
            _row(
                "graph paths and straight lines",
                f"rank correlation, {graph}",
                paths.correlation,
                paths.flat_correlation,
            ),
            _row(
                "largest in-degree",
                f"{paths.n_neighbors} neighbours",
                paths.max_in_degree,
                paths.flat_max_in_degree,
            ),
            _row("skew of in-degrees", "", paths.in_degree_skew),
            _row("nobody's neighbours", "share of tokens", paths.antihubs),
            _row("bridges between pieces", "", paths.n_bridges),
        ]
    return Table("measure", COLUMNS, tuple(row for row in rows if row is not None))


def diagnosis_figure(found: Diagnosis, model: str) -> Picture:
    """KL bits of every dimension, where sigma is known, beside the eigenvalues of E[J'J], each sorted.

    Eigenvalues are drawn relative to the largest.
    """
    values = np.array(found.eigenvalues)
    with new_figure(WIDTH_INCHES, 2.6) as figure:
        columns = figure.subplots(1, 1 if found.kl_bits is None else 2, squeeze=False)[0]
        parts = [_draw_eigenvalues(columns[-1], values)]
        if found.kl_bits is not None:
            parts.insert(0, _draw_kl(columns[0], np.array(found.kl_bits), found.n_sites))
        return as_picture(figure, f"Latents of {model}. {' '.join(parts)}")


def _draw_kl(axes: Axes, kl_bits: np.ndarray, n_sites: int) -> str:
    bits = np.sort(kl_bits)[::-1] / n_sites
    axes.bar(np.arange(1, len(bits) + 1), bits, color=BLUE, width=0.8)
    axes.axhline(ACTIVE_BITS, color=GREY, linestyle="--", linewidth=1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("dimension, sorted")
    axes.set_ylabel("KL, bits a site" if n_sites > 1 else "KL, bits")
    return f"KL of {len(bits)} dimensions from {bits[0]:.3g} down to {bits[-1]:.3g} bits."


def _draw_eigenvalues(axes: Axes, values: np.ndarray) -> str:
    shares = np.maximum(values / values[0] if values[0] > 0 else values, SMALLEST_SHARE)
    axes.plot(np.arange(1, len(shares) + 1), shares, "o-", color=BLUE, markersize=3, linewidth=1)
    axes.set_yscale("log")
    axes.set_ylim(min(0.1, shares[-1]) / 1.5, 1.5)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("direction, sorted")
    axes.set_ylabel("eigenvalue of E[J'J]\n(largest = 1)")
    axes.grid(axis="y")
    return f"Eigenvalues of the mean pull-back metric from {values[0]:.3g} down to {values[-1]:.3g}."


def _row(label: str, note: str, value: float | None, flat: float | None = None) -> Row | None:
    if value is None:
        return None
    return Row(label, note, (Cell(rounded(value)), Cell("" if flat is None else rounded(flat))))


def _check(folder: Path, found: Diagnosis) -> None:
    dimensions = found.latent_shape[0] if found.latent_shape else -1
    for name in ("eigenvalues", "kl_bits"):
        numbers = getattr(found, name)
        if numbers is not None and len(numbers) != dimensions:
            raise CorruptArtifactError(
                f"{folder}: {name} has {len(numbers)} numbers for latents of shape {found.latent_shape}; "
                "expected one a dimension; run the stage again"
            )
