"""A small configuration in which every remedy of codes after the fact is given to some arm."""

from geovq.config import (
    ArmConfig,
    AwareConfig,
    DataConfig,
    MapConfig,
    ModelConfig,
    RunConfig,
    Spec,
    TrainConfig,
    TuneConfig,
)

CHUNKS, WHOLE = (2, 2), (1, 1)
TRAIN = TrainConfig(epochs=4, batch_size=64, learning_rate=5e-3)
TUNE = TuneConfig(epochs=2, batch_size=64, learning_rate=3e-3, parts="decoder+codebook")
ROUNDS = TuneConfig(epochs=2, batch_size=64, learning_rate=3e-3, parts="decoder+codebook", rounds=2)
RECTIFIER = TuneConfig(epochs=2, batch_size=64, learning_rate=3e-3, parts="rectifier")


def models(**vae: object) -> dict[str, ModelConfig]:
    shared = {"latent_dim": 8, "widths": [8, 16]}
    layer = {"kind": "ema", "params": {"n_codes": 4}}
    return {
        "vae": ModelConfig(Spec("vae", {**shared, "beta": 0.2, **vae}), TRAIN),
        "vqvae": ModelConfig(Spec("vqvae", {**shared, "tokens": list(CHUNKS), "layer": layer}), TRAIN),
    }


def arms() -> tuple[ArmConfig, ...]:
    """8 bits an image: 4 tokens of 4 codes, or the whole latent by 2 levels, 4 groups, 8 axes, 256 codes."""
    kmeans, aware = Spec("kmeans", {"n_codes": 4}), AwareConfig()
    residual = Spec("residual", {"n_codes": 16, "n_levels": 2, "beam": 8})
    scalar = Spec("scalar", {"n_codes": 2, "allotment": "kl"})
    return (
        ArmConfig("continuous", "vae"),
        ArmConfig("kmeans+metric", "vae", CHUNKS, kmeans, MapConfig(n_images=100), tune=TUNE, aware=aware),
        ArmConfig("residual", "vae", WHOLE, residual, tune=ROUNDS, aware=AwareConfig("metric")),
        ArmConfig("pullback", "vae", CHUNKS, Spec("pullback", {"n_codes": 4}), tune=RECTIFIER),
        ArmConfig("scalar-kl", "vae", WHOLE, scalar, aware=aware),
        ArmConfig("product", "vae", WHOLE, Spec("product", {"n_codes": 4, "n_groups": 4})),
        ArmConfig("decoded-kmeans", "vae", WHOLE, Spec("decoded-kmeans", {"n_codes": 256})),
        ArmConfig("ema", "vqvae", tune=TUNE, aware=aware),
    )


def config() -> RunConfig:
    return RunConfig("remedies", DataConfig("digits"), 8, models(), arms(), None, (0,))
