"""Files of a run folder that describe the run to its readers: ``run.json`` and ``train_log.csv``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from geovq.pipeline.arms import END_TO_END, FLOOR, Arm
from geovq.pipeline.context import SPLITS, Context
from geovq.pipeline.measure import n_parameters_of
from geovq.pipeline.tokenizers import load_tokenizer, training_log
from geovq.storage.artifact import MANIFEST, file_hash, load_artifact, read_json
from geovq.storage.atomic import write_json, write_text
from geovq.tokenizer.layout import CodeGrid


def write_description(run: Context, command: str, best: list[Arm]) -> None:
    """Write ``run.json``: command, versions, data, and what a fair comparison asks of every arm."""
    seed = run.config.seeds[0]
    arms = {
        arm.name: {
            "kind": arm.kind,
            "about": about(arm),
            "parameters": n_parameters_of(run, arm, seed),
            "structure": structure(run, arm, seed),
            "image_passes": epochs_run(run, arm, seed) * len(run.splits.train),
            # The choice of the best arm of a kind was made among all of that kind.
            "configurations_tried": sum(other.kind == arm.kind for other in run.arms),
        }
        for arm in run.arms
    }
    write_json(
        run.root / "run.json",
        {
            "schema": 1,
            "command": f"GEOVQ_THREADS={run.environment['threads']} {command}",
            "versions": run.environment["versions"],
            "threads": run.environment["threads"],
            "device": run.environment["device"],
            "resumed_with": run.environment["resumed_with"],
            "data": {
                "name": run.splits.name,
                "fingerprint": run.splits.fingerprint,
                "image_shape": list(run.splits.image_shape),
                "n": {split: len(run.images(split)) for split in SPLITS},
            },
            "arms": arms,
            "best_arms": [arm.name for arm in best],
        },
    )


def structure(run: Context, arm: Arm, seed: int) -> str:
    """How an arm's codes are built, as in ``2x4 tokens, 1 level of 256``."""
    if arm.kind == FLOOR:
        return "no codes"
    return "; ".join(_grid_words(grid) for grid in load_tokenizer(run, arm, seed).layout.grids)


def _grid_words(grid: CodeGrid) -> str:
    sizes = " + ".join(str(size) for size in dict.fromkeys(grid.n_codes))
    levels = "1 level" if len(grid.n_codes) == 1 else f"{len(grid.n_codes)} levels"
    return f"{grid.height}x{grid.width} tokens, {levels} of {sizes}"


def epochs_run(run: Context, arm: Arm, seed: int) -> int:
    """Epochs of training images through the network that an arm's result rests on, tuning included.

    An epoch of tuning counts as a whole one, whether the images pass the encoder in it or the decoder alone.
    """
    config, _ = load_artifact(run.root / f"checkpoints/{arm.config.model}/{seed}")
    epochs: int = config["epochs"]
    if arm.tuned:
        tuned = run.arm_path("tokenizers", replace(arm, aware=False), seed)
        epochs += read_json(run.root / tuned / "training.json")["epochs"]
    return epochs


def about(arm: Arm) -> str:
    """What an arm does, in a few words."""
    if arm.kind == FLOOR:
        return f"posterior means of {arm.config.model}, not quantized"
    if arm.kind == END_TO_END:
        text = f"{arm.config.model}, trained end to end"
    else:
        assert arm.config.quantizer is not None and arm.config.tokens is not None
        spec = arm.config.quantizer
        params = ", ".join(f"{key} {value}" for key, value in spec.params.items())
        height, width = arm.config.tokens
        text = f"{spec.kind} ({params}) on the frozen latents of {arm.config.model}, {height}x{width} tokens"
    if arm.config.latent_map is not None:
        text += ", in the mean pull-back metric"
    if arm.tuned and (tune := arm.config.tune) is not None:
        if tune.parts == "all":
            text += "; then encoder, codebook and decoder tuned jointly"
        else:
            text += f"; {tune.parts.replace('+', ' and ')} tuned on its codes"
        text += f" in {tune.rounds} rounds" if tune.rounds > 1 else ""
    if arm.aware and (aware := arm.config.aware) is not None:
        how = "decoded against the image" if aware.by == "image" else "in the local pull-back metric"
        text += f"; encoding re-ranks {aware.n_candidates} codes a slot {how}"
    return text


def write_train_log(run: Context) -> None:
    """Write every value of every training: ``train_log.csv``, and with all digits ``metrics.jsonl``."""
    table, exact = io.StringIO(), io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["model", "seed", "epoch", "split", "name", "value"])
    for model, seed, folder in _trained(run):
        for row in training_log(folder):
            writer.writerow([model, seed, row["epoch"], row["split"], row["name"], f"{row['value']:.8g}"])
            exact.write(json.dumps({"model": model, "seed": seed, **row}) + "\n")
    write_text(run.root / "train_log.csv", table.getvalue())
    write_text(run.root / "metrics.jsonl", exact.getvalue())


def write_manifest(root: Path, names: Sequence[str]) -> None:
    """Write ``manifest.json``: SHA-256 of the files ``names`` of a run and of every stage's own manifest."""
    files = [root / name for name in names]
    files += sorted(path for path in root.rglob(MANIFEST) if path.parent != root)
    hashes = {path.relative_to(root).as_posix(): file_hash(path) for path in files}
    write_json(root / MANIFEST, {"schema": 1, "stage": "", "files": hashes})


def _trained(run: Context) -> list[tuple[str, int, Path]]:
    found: list[tuple[str, int, Path]] = []
    for seed in run.config.seeds:
        found += [(name, seed, run.root / f"checkpoints/{name}/{seed}") for name in run.config.models]
        for arm in run.arms:
            if arm.tuned and not arm.aware:
                found.append((arm.name, seed, run.root / run.arm_path("tokenizers", arm, seed)))
            found.append((f"prior of {arm.name}", seed, run.root / run.arm_path("priors", arm, seed)))
    return [(name, seed, folder) for name, seed, folder in found if folder.exists()]
