"""The kinds of run, and which of them a JSON object describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geovq.config.laboratory import LaboratoryConfig
from geovq.config.reading import from_json
from geovq.config.run import RunConfig
from geovq.errors import ConfigError

AnyConfig = RunConfig | LaboratoryConfig


def config_from_json(value: Mapping[str, Any]) -> AnyConfig:
    """The configuration of a run of any kind, as ``from_json`` reads it; an ``experiment`` is a laboratory's.

    Raises ``ConfigError`` naming the dotted path, what was found and what was expected.
    """
    return from_json(LaboratoryConfig, value) if "experiment" in value else from_json(RunConfig, value)


def with_data(config: AnyConfig, source: str) -> AnyConfig:
    """``config`` on the images of ``source``. Raises ``ConfigError`` for the laboratory, which has none."""
    if isinstance(config, LaboratoryConfig):
        raise ConfigError(
            f"--data is '{source}'; recipe '{config.recipe}' is of the linear laboratory, which makes its "
            "own data; leave it out, or set D, rank, n_train and n_eval"
        )
    return replace(config, data=replace(config.data, source=source))
