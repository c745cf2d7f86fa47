"""Training says that a layer has collapsed, once, and stores it; of a healthy layer it says nothing."""

from pathlib import Path

from geovq.config import RunConfig, with_overrides
from geovq.data import load
from geovq.pipeline.autoencoders import train_model
from geovq.pipeline.context import Context
from geovq.pipeline.stages import Stages
from geovq.storage.artifact import read_json

DENSE = [
    "models.vqvae.spec.params.network=dense",
    "models.vqvae.spec.params.widths=[64]",
    "models.vqvae.train.epochs=12",
]
LAYER = "models.vqvae.spec.params.layer.params."


def trained(config: RunConfig, folder: Path, changes: list[str]) -> tuple[list[str], dict[str, object]]:
    """What was told while the end-to-end model was trained, and the configuration that was stored."""
    told: list[str] = []
    config = with_overrides(config, [*DENSE, *changes])
    run = Context(config, load(config.data), Stages(folder, [], told.append), {})
    return told, read_json(train_model(run, "vqvae", 0) / "config.json")


def test_a_collapse_is_told_once_and_stored(small_config: RunConfig, tmp_path: Path) -> None:
    changes = [f"{LAYER}start=random", f"{LAYER}revival=0", "models.vqvae.train.learning_rate=1e-3"]
    told, stored = trained(small_config, tmp_path, changes)
    assert told[0] == "train: vqvae, seed 0"
    (line,) = told[1:]
    collapse = stored["collapse"]
    assert isinstance(collapse, dict)
    assert line == f"vqvae, seed 0: {collapse['sentence']}"
    assert collapse["cause"] == "initial scale"
    assert collapse["sentence"].endswith("try start='kmeans'")
    assert trained(small_config, tmp_path, changes) == ([], stored)


def test_of_a_healthy_layer_nothing_is_told_or_stored(small_config: RunConfig, tmp_path: Path) -> None:
    told, stored = trained(small_config, tmp_path, [f"{LAYER}decay=0.9"])
    assert told == ["train: vqvae, seed 0"]
    assert "collapse" not in stored
