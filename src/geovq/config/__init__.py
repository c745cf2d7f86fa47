"""Frozen, typed configurations that read and write JSON."""

from geovq.config.kinds import AnyConfig, config_from_json, with_data
from geovq.config.laboratory import LaboratoryConfig
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
    "AnyConfig",
    "ArmConfig",
    "AwareConfig",
    "DataConfig",
    "LaboratoryConfig",
    "MapConfig",
    "ModelConfig",
    "PriorConfig",
    "RunConfig",
    "Spec",
    "TrainConfig",
    "TuneConfig",
    "config_from_json",
    "from_json",
    "to_json",
    "with_data",
    "with_overrides",
]
