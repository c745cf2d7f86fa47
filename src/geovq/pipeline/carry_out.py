"""One way in for every kind of run."""

from __future__ import annotations

from pathlib import Path

from geovq.config import AnyConfig, RunConfig
from geovq.errors import ConfigError
from geovq.pipeline.laboratory import run_laboratory
from geovq.pipeline.run import STAGES, run_recipe
from geovq.pipeline.stages import Tell
from geovq.training import Progress


def carry_out(
    config: AnyConfig,
    out: Path,
    *,
    reuse: list[Path] | None = None,
    stop_after: str = STAGES[-1],
    command: str = "",
    tell: Tell = lambda line: None,
    progress: Progress | None = None,
) -> Path:
    """Carry out a run of any kind in the folder ``out``; parameters and errors as ``run_recipe``'s.

    The laboratory's trainings are of seconds: it has no stages to stop after, and says so if asked to.
    """
    if isinstance(config, RunConfig):
        return run_recipe(
            config, out, reuse=reuse, stop_after=stop_after, command=command, tell=tell, progress=progress
        )
    if stop_after != STAGES[-1]:
        raise ConfigError(
            f"--stop-after is '{stop_after}'; recipe '{config.recipe}' is of the linear laboratory, which "
            "has no stages to stop after; leave it out"
        )
    return run_laboratory(config, out, reuse=reuse, command=command, tell=tell)
