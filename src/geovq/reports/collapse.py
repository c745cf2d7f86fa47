"""Which trained layers of a run have collapsed, and the likely cause, as their training stage stored it."""

from __future__ import annotations

from geovq.errors import CorruptArtifactError
from geovq.reports.run_files import RunFiles
from geovq.storage.artifact import CONFIG, read_json


def collapse_words(run: RunFiles) -> list[str]:
    """One line for each model and seed whose codebook collapsed; none in a healthy run.

    Raises ``CorruptArtifactError`` if a stored diagnosis has no sentence.
    """
    lines = []
    for model in run.config.models:
        for seed in run.config.seeds:
            path = run.model_folder("checkpoints", model).with_name(str(seed)) / CONFIG
            found = read_json(path).get("collapse") if path.is_file() else None
            if found is None:
                continue
            if not isinstance(found, dict) or not isinstance(found.get("sentence"), str):
                raise CorruptArtifactError(
                    f"{path}: 'collapse' holds no sentence; it was altered; run the training stage again"
                )
            lines.append(f"{model}, seed {seed}: {found['sentence']}.")
    return lines
