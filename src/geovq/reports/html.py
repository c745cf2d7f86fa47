"""One self-contained HTML page from a run folder: the verdict first, then all that it rests on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geovq.config import to_json
from geovq.reports import figures
from geovq.reports.atlas import ATLAS_BYTES, AtlasView, atlas_view, read_atlas
from geovq.reports.collapse import collapse_words
from geovq.reports.comparability import caution, comparability
from geovq.reports.comparison import labelled_rows
from geovq.reports.costs import cost_table, cost_words, machine_words, total_seconds
from geovq.reports.diagnosis import diagnosis_figure, diagnosis_table, read_diagnosis
from geovq.reports.epochs import epoch_files, epoch_pictures
from geovq.reports.geometry_figures import (
    CLUSTER_WORDS,
    PATH_WORDS,
    cluster_figure,
    pair_words,
    path_sheets,
    path_table,
)
from geovq.reports.geometry_files import PATH_KINDS, ClusterFacts, PathFacts, read_clusters, read_paths
from geovq.reports.levels import level_rows
from geovq.reports.numbers import duration
from geovq.reports.page import script_json, template
from geovq.reports.pictures import FEWEST, Picture, contact_sheet, images_a_row
from geovq.reports.remedies import remedy_table, remedy_words
from geovq.reports.run_files import KIND_WORDS, LogRow, RunFiles, read_run
from geovq.reports.shown_arms import MOST_ARMS, choice_words, shown_arms
from geovq.reports.tables import DETAIL_METRICS, PRIOR_METRICS, Table, metric_table, ordered_arms
from geovq.reports.verdict import verdict
from geovq.storage.artifact import file_hash, fingerprint
from geovq.storage.atomic import new_folder, write_text

MOST_MODELS = 4  # whose epochs are pictured on the page; those of all lie in the figures
PAGE_BYTES = 2_850_000  # 3 MB less the words and tables that go with pictures of codes


@dataclass(frozen=True)
class Strip:
    """A contact sheet with the arm it shows and a note on it."""

    label: str
    note: str
    picture: Picture


@dataclass(frozen=True)
class DiagnosisView:
    """What the latents of one model ask for; ``has_kl`` where its encoder gives Gaussians."""

    model: str
    sentence: str
    has_kl: bool
    plot: Picture
    table: Table


@dataclass(frozen=True)
class PathView:
    """The paths under one model: the graph's facts, rows of images for every pair, and means over pairs."""

    model: str
    facts: PathFacts
    by_classes: bool
    pairs: list[tuple[str, list[Strip]]]
    table: Table


@dataclass(frozen=True)
class ClusterView:
    """The clusters of one arm's tokens: a plot of each kind, and how well they agree."""

    arm: str
    n_tokens: int
    facts: ClusterFacts
    plots: list[tuple[str, Picture]]


def write_report(folder: Path) -> Path:
    """Write ``report.html`` and ``figures/*.png`` into a run folder, from its files alone; the page's path.

    The same files give the same bytes. Raises ``InputError`` if ``folder`` is not a run folder or one of its
    files is damaged.
    """
    run = read_run(folder)
    context = _context(run)
    pictures = {"test-mse": context["error_figure"], "codebook-use": context["usage"]}
    rows = [(strip.label, strip.picture) for strip in context["sheets"]["reconstructions"]]
    pictures["comparison"] = labelled_rows(rows) if rows else None
    for i, (model, picture) in enumerate(context["training"], 1):
        pictures[f"training-{i}-{_slug(model)}"] = picture
    for section, strips in context["sheets"].items():
        for i, strip in enumerate(strips, 1):
            pictures[f"{section}-{i}-{_slug(strip.label)}"] = strip.picture
    for i, (arm, strips) in enumerate(context["levels"], 1):
        pictures[f"levels-{i}-{_slug(arm)}"] = labelled_rows([(s.label, s.picture) for s in strips])
    for i, found in enumerate(context["diagnoses"], 1):
        pictures[f"diagnosis-{i}-{_slug(found.model)}"] = found.plot
    for i, paths in enumerate(context["paths"], 1):
        rows = [(f"{p}, {strip.label}", strip.picture) for p, strips in paths.pairs for strip in strips]
        pictures[f"paths-{i}-{_slug(paths.model)}"] = labelled_rows(rows)
    for i, clusters in enumerate(context["clusters"], 1):
        for words, picture in clusters.plots:
            pictures[f"clusters-{i}-{_slug(clusters.arm)}-{_slug(words)}"] = picture
    page_template = template("report.html.j2")
    # Whatever the rest of the page leaves is for the codes one by one.
    room = PAGE_BYTES - len(page_template.render(context, atlases=[]).encode())
    context["atlases"] = _atlases(run, min(ATLAS_BYTES, room))
    for i, (arm, view) in enumerate(context["atlases"], 1):
        for shown in view.pictures if view else ():
            pictures[f"codes-{i}-{_slug(arm)}-{_slug(shown.label)}"] = shown.picture
    with new_folder(run.folder / "figures") as figure_folder:
        for name, picture in pictures.items():
            if picture is not None:
                (figure_folder / f"{name}.png").write_bytes(picture.png)
        for place, stored in epoch_files(run.folder).items():
            (figure_folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored, figure_folder / place)
    page = run.folder / "report.html"
    write_text(page, page_template.render(context))
    return page


def _context(run: RunFiles) -> dict[str, Any]:
    decision = verdict(run.records, run.arms)
    contest, info = decision.contest, run.info
    checks = comparability(run.records, info, contest) if contest and info else []
    test = [r for r in run.records if r.split == "test"]
    config = to_json(run.config)
    pictured = shown_arms(run.records, run.arms)
    return {
        "run": run,
        "kinds": KIND_WORDS,
        "verdict": decision.text,
        "caution": caution(checks, contest) if contest else "",
        "checks": checks,
        "contest": contest,
        "n_seeds": len({r.seed for r in test}),
        "n_images": sorted({r.n for r in test}),
        "table": metric_table(run.records, run.arms),
        "details": metric_table(run.records, run.arms, DETAIL_METRICS),
        "remedies": remedy_table(run.records),
        "remedy_words": remedy_words(run.records),
        "choice": choice_words(run.records, len(pictured)),
        "many_arms": len(ordered_arms(run.records)) > MOST_ARMS,
        "error_figure": figures.error_figure(run.records, run.arms),
        "sheets": _sheets(run, pictured),
        "diagnoses": _diagnoses(run),
        "paths": _paths(run),
        "clusters": _clusters(run),
        "usage": _usage(run, pictured),
        "collapses": collapse_words(run),
        "prior_table": metric_table(run.records, run.arms, PRIOR_METRICS, only=_prior_arms(run)),
        "training": _training(run.log),
        "epochs": _epochs(run),
        "levels": [(arm, [Strip(words, "", p) for words, p in rows]) for arm, rows in level_rows(run)],
        "costs": cost_table(run.cost.stages),
        "total_time": duration(total_seconds(run.cost.stages)),
        "machine": machine_words(run.cost.machine),
        "cost_words": cost_words(run.cost.stages),
        "config_text": json.dumps(config, indent=2),
        "fingerprints": {
            "configuration": fingerprint(config),
            "metrics.json": file_hash(run.folder / "metrics.json"),
            **({"data": info.data.fingerprint} if info else {}),
        },
        "metrics_script": script_json(run.folder / "metrics.json"),
    }


def _sheets(run: RunFiles, pictured: Sequence[tuple[str, float | None]]) -> dict[str, list[Strip]]:
    """Contact sheets by section: reconstructions (originals first) and worst cases of some arms, samples."""
    arms = ordered_arms(run.records)
    evaluations = {a: found for a, bits in pictured if (found := run.evaluation(a, bits)) is not None}
    samples = {a: found for a, bits in arms if (found := run.samples(a, bits)) is not None}
    shapes = [
        t[k].shape[1:]
        for found, k in ((evaluations, "originals"), (samples, "prior"))
        for t in found.values()
    ]
    columns = images_a_row(shapes[0], 3 * len(evaluations) + 4 * len(samples) + 1) if shapes else 1
    sheets: dict[str, list[Strip]] = {"reconstructions": [], "worst": [], "samples": []}
    for arm, tensors in evaluations.items():
        note = KIND_WORDS[run.arms[arm].kind] if arm in run.arms else ""
        if not sheets["reconstructions"]:
            originals = contact_sheet(tensors["originals"][:columns], columns, "Original test images.")
            sheets["reconstructions"].append(Strip("original", "", originals))
        alt = f"The same images reconstructed by {arm}."
        again = contact_sheet(tensors["reconstructions"][:columns], columns, alt)
        sheets["reconstructions"].append(Strip(arm, note, again))
        pair = [tensors[name][:columns] for name in ("worst_originals", "worst_reconstructions")]
        alt = f"Worst test images of {arm}: originals above, reconstructions below."
        sheets["worst"].append(Strip(arm, note, contact_sheet(np.concatenate(pair), len(pair[0]), alt)))
    for arm, tensors in samples.items():
        for name, note in (("prior", "codes from the prior"), ("uniform", "codes drawn uniformly")):
            alt = f"Images decoded by {arm} from {note}."
            sheet = contact_sheet(tensors[name][: 2 * columns], max(columns // 2, FEWEST), alt)
            sheets["samples"].append(Strip(arm, note, sheet))
    return sheets


def _diagnoses(run: RunFiles) -> list[DiagnosisView]:
    return [
        DiagnosisView(
            model,
            found.recommendation,
            found.kl_bits is not None,
            diagnosis_figure(found, model),
            diagnosis_table(found),
        )
        for model in run.config.models
        if (found := read_diagnosis(run, model)) is not None
    ]


def _paths(run: RunFiles) -> list[PathView]:
    found = [paths for model in run.config.models if (paths := read_paths(run, model)) is not None]
    views = []
    for paths in found:
        pairs = []
        for place, rows in enumerate(path_sheets(paths, len(found))):
            strips = [
                Strip(PATH_WORDS[kind], note, picture)
                for kind, (note, picture) in zip(PATH_KINDS, rows, strict=True)
            ]
            pairs.append((pair_words(paths.facts.pairs[place], place + 1), strips))
        by_classes = all(pair.of_two_classes for pair in paths.facts.pairs)
        views.append(PathView(paths.model, paths.facts, by_classes, pairs, path_table(paths.facts.pairs)))
    return views


def _clusters(run: RunFiles) -> list[ClusterView]:
    views = []
    for arm, bits in ordered_arms(run.records):
        clusters = read_clusters(run, arm, bits)
        if clusters is not None:
            plots = [(words, cluster_figure(clusters, kind)) for kind, words in CLUSTER_WORDS.items()]
            views.append(ClusterView(arm, len(clusters.coordinates), clusters.facts, plots))
    return views


def _atlases(run: RunFiles, allowed: int) -> list[tuple[str, AtlasView | None]]:
    """Every stored atlas by arm, None where its share of ``allowed`` bytes is too small."""
    arms = ordered_arms(run.records)
    found = [atlas for arm, bits in arms if (atlas := read_atlas(run, arm, bits)) is not None]
    return [(atlas.arm, atlas_view(atlas, allowed // len(found))) for atlas in found]


def _usage(run: RunFiles, pictured: Sequence[tuple[str, float | None]]) -> Picture | None:
    counts = {
        arm: tensors["usage_counts"]
        for arm, bits in pictured
        if (tensors := run.evaluation(arm, bits)) is not None and "usage_counts" in tensors
    }
    return figures.usage_figure(counts) if counts else None


def _prior_arms(run: RunFiles) -> list[str]:
    return sorted({r.arm for r in run.records if r.split == "test" and "bits_prior" in r.values})


def _epochs(run: RunFiles) -> list[tuple[str, list[Strip]]]:
    """Pictures of the epochs of the first seed; none where there are too many models for the page."""
    if len(run.config.models) > MOST_MODELS:
        return []
    seed = run.config.seeds[0]
    found = {model: epoch_pictures(run.folder, model, seed) for model in run.config.models}
    return [
        (model, [Strip(words, "", picture) for words, picture in pictures])
        for model, pictures in found.items()
        if pictures
    ]


def _training(log: tuple[LogRow, ...]) -> list[tuple[str, Picture]]:
    models: Mapping[str, list[LogRow]] = {row.model: [] for row in log}
    for row in log:
        models[row.model].append(row)
    return [(model, figures.training_figure(model, rows)) for model, rows in models.items()]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9+._-]", "_", name)
