"""A run, from its configuration to its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from geovq.config import RunConfig, to_json
from geovq.data import load
from geovq.errors import ConfigError, unknown_name
from geovq.evaluation.records import Record, metrics_json
from geovq.pipeline.arms import END_TO_END
from geovq.pipeline.autoencoders import store_latents, train_model
from geovq.pipeline.checks import check_run
from geovq.pipeline.code_priors import best_arms, sample_prior, train_prior
from geovq.pipeline.codebook_atlas import draw_atlas
from geovq.pipeline.context import Context
from geovq.pipeline.describe import write_description, write_manifest, write_train_log
from geovq.pipeline.diagnoses import diagnose_model
from geovq.pipeline.environment import set_up
from geovq.pipeline.latent_clusters import arm_with_clusters, draw_clusters
from geovq.pipeline.latent_paths import draw_paths, models_with_paths
from geovq.pipeline.level_pictures import draw_levels
from geovq.pipeline.measure import evaluate_arm, records_of
from geovq.pipeline.stages import Stages, Tell
from geovq.pipeline.tokenizers import encode_images, make_tokenizer
from geovq.reports import write_report
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.atomic import write_json
from geovq.storage.run_folder import run_folder
from geovq.training import Progress

STAGES = ("train", "latents", "tokenizers", "evaluate", "priors", "report")
"""What ``--stop-after`` may name, in order."""


def run_recipe(
    config: RunConfig,
    out: Path,
    *,
    reuse: list[Path] | None = None,
    stop_after: str = "report",
    command: str = "",
    tell: Tell = lambda line: None,
    progress: Progress | None = None,
) -> Path:
    """Carry out a run in the folder ``out``, going on where an earlier call stopped.

    Parameters
    ----------
    config : the complete configuration.
    reuse : folders of earlier runs; stages of equal inputs are copied from them.
    stop_after : the last stage to carry out, one of ``STAGES``.
    command : the command line that the report prints to reproduce the run.

    Raises ``ConfigError``, ``DataError`` or ``StorageError`` before anything is written if the run could not
    be carried out.
    """
    if stop_after not in STAGES:
        raise ConfigError(unknown_name("stage", stop_after, STAGES))
    set_threads(threads_wanted())
    splits = load(config.data)
    check_run(config, splits)
    stages = Stages(out, reuse or [], tell)
    with run_folder(out, to_json(config)):
        run = Context(config, splits, stages, set_up(out, tell), progress)
        for name in STAGES[: STAGES.index(stop_after) + 1]:
            _STEPS[name](run, command)
    return out


def _train(run: Context, command: str) -> None:
    for seed in run.config.seeds:
        for name in run.config.models:
            train_model(run, name, seed)
    write_train_log(run)


def _latents(run: Context, command: str) -> None:
    for seed in run.config.seeds:
        # Of end-to-end models they are made as they are needed: nothing is fitted on them.
        for name in dict.fromkeys(arm.config.model for arm in run.arms if arm.kind != END_TO_END):
            store_latents(run, name, seed)


def _tokenizers(run: Context, command: str) -> None:
    for seed in run.config.seeds:
        for arm in run.arms:
            make_tokenizer(run, arm, seed)
            encode_images(run, arm, seed)
    write_train_log(run)


def _evaluate(run: Context, command: str) -> None:
    for seed in run.config.seeds:
        for arm in run.arms:
            evaluate_arm(run, arm, seed)
    _draw_geometry(run)
    records = _write_metrics(run)
    best = best_arms(run, records)
    for arm in best:
        draw_atlas(run, arm, run.config.seeds[0])  # the seed that the report shows
    for arm in run.arms:
        if arm.kind == END_TO_END:
            draw_levels(run, arm, run.config.seeds[0])
    write_description(run, command, best)


def _priors(run: Context, command: str) -> None:
    if run.config.prior is None:
        return
    for arm in best_arms(run, _write_metrics(run)):
        for seed in run.config.seeds:
            train_prior(run, arm, seed)
            sample_prior(run, arm, seed)
    _write_metrics(run)
    write_train_log(run)


def _report(run: Context, command: str) -> None:
    write_report(run.root)
    write_manifest(run.root, ["config.json", "metrics.json", "metrics.jsonl", "train_log.csv"])


def _draw_geometry(run: Context) -> None:
    """Pictures of the first seed alone, the one that the report shows."""
    seed = run.config.seeds[0]
    for name in models_with_paths(run):
        diagnose_model(run, name, seed)
        draw_paths(run, name, seed)
    if (arm := arm_with_clusters(run)) is not None:
        draw_clusters(run, arm, seed)


def _write_metrics(run: Context) -> list[Record]:
    """Write all that was measured so far to ``metrics.json``."""
    records = [r for seed in run.config.seeds for arm in run.arms for r in records_of(run, arm, seed)]
    write_json(run.root / "metrics.json", metrics_json(records))
    return records


_STEPS: dict[str, Callable[[Context, str], None]] = {
    "train": _train,
    "latents": _latents,
    "tokenizers": _tokenizers,
    "evaluate": _evaluate,
    "priors": _priors,
    "report": _report,
}
