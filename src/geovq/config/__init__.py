"""Frozen, typed configurations that read and write JSON."""

from geovq.config.reading import from_json, to_json, with_overrides
from geovq.config.run import (
    ArmConfig,
    AwareConfig,
    DataConfig,
    MapConfig,
    ModelConfig,
    PriorConfig,
    RunConfig,
    Spec,
    TrainConfig,
    TuneConfig,
)

__all__ = [
    "ArmConfig",
    "AwareConfig",
    "DataConfig",
    "MapConfig",
    "ModelConfig",
    "PriorConfig",
    "RunConfig",
    "Spec",
    "TrainConfig",
    "TuneConfig",
    "from_json",
    "to_json",
    "with_overrides",
]
