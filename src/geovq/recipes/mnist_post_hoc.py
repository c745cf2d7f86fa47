"""Every way to quantize after the fact on MNIST at 64 bits an image, 3 seeds.

Beside the post-hoc arms stand two trained layers, a shared codebook (`ema`) and residual levels
(`residual-ema`), and three remedies are given to both sides: beam search, tuning of decoder and codebook,
decoder-aware encoding. The metric is given to frozen latents alone. `residual-greedy` is fitted as well as
coded greedily. Source: the remedies of docs/after-the-fact.md; michelegranatiero/VQ_VAE_Geodesic published a
test MSE of .0136 for its geodesic codes at these bits.
The VAE's beta and the commitment weight of `ema` were chosen on validation images
(scripts/choose_settings.py); commitment weight and decay of `residual-ema` were set by hand.
Takes: about 4 core-hours with `residual-ema` at one seed alone (results/costs/mnist-post-hoc.json), and a
third of an hour more for each further seed of it.
Expect: test MSE of .0050 for residual codes in the mean pull-back metric, tuned and decoder-aware, .0114 for
Euclidean k-means and a floor of .0036; RESULTS.md has all arms.
"""

from __future__ import annotations

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

CHUNKS, WHOLE = (2, 4), (1, 1)
TRAIN = TrainConfig(epochs=20, batch_size=128, learning_rate=2e-3)
TUNE = TuneConfig(epochs=5, batch_size=128, learning_rate=1e-3, parts="decoder+codebook")
AWARE = AwareConfig(n_candidates=4, sweeps=1)
METRIC = MapConfig()


def config() -> RunConfig:
    """8 chunks of 4 dimensions with 256 codes, or 64 bits on the whole latent of 32."""
    return RunConfig(
        recipe="mnist-post-hoc",
        data=DataConfig("mnist"),
        bits=64,
        models=models(),
        arms=(ArmConfig("continuous", "vae"), *chunk_arms(), *whole_arms(), *trained_arms()),
        prior=None,
        seeds=(0, 1, 2),
    )


def models() -> dict[str, ModelConfig]:
    """One VAE for all post-hoc arms, and two VQ-VAEs of the same encoder and decoder."""
    shared = {"latent_dim": 32, "widths": [64, 128]}
    chunks = {"kind": "ema", "params": {"n_codes": 256, "commitment": 4.0}}
    level = {"kind": "ema", "params": {"n_codes": 256, "commitment": 0.25, "decay": 0.95}}
    levels = {"kind": "residual", "params": {"layer": level, "n_levels": 8, "beam": 16}}
    return {
        "vae": ModelConfig(Spec("vae", {**shared, "beta": 0.05}), TRAIN),
        "vqvae": ModelConfig(Spec("vqvae", {**shared, "tokens": list(CHUNKS), "layer": chunks}), TRAIN),
        "rqvae": ModelConfig(Spec("vqvae", {**shared, "tokens": list(WHOLE), "layer": levels}), TRAIN),
    }


def chunk_arms() -> tuple[ArmConfig, ...]:
    """Eight codes an image from one codebook."""

    def arm(name: str, kind: str, **params: object) -> ArmConfig:
        return ArmConfig(name, "vae", CHUNKS, Spec(kind, {"n_codes": 256, **params}))

    kmeans = Spec("kmeans", {"n_codes": 256})
    return (
        ArmConfig("kmeans", "vae", CHUNKS, kmeans, tune=TUNE, aware=AWARE),
        ArmConfig("kmeans+metric", "vae", CHUNKS, kmeans, latent_map=METRIC, tune=TUNE, aware=AWARE),
        arm("kmedoids", "kmedoids"),
        arm("wasserstein", "gaussian", metric="wasserstein"),
        arm("precision", "gaussian", metric="precision"),
        arm("m-projection", "gaussian", metric="m-projection"),
        arm("i-projection", "gaussian", metric="i-projection"),
        arm("geodesic", "geodesic", n_neighbors=20),
        arm("pullback", "pullback"),
        arm("gaussian-quant", "gaussian-quant"),
    )


def whole_arms() -> tuple[ArmConfig, ...]:
    """Codes of the whole latent: of its axes, of groups of axes, of levels of approximation."""

    def arm(name: str, kind: str, **params: object) -> ArmConfig:
        return ArmConfig(name, "vae", WHOLE, Spec(kind, params))

    def residual(**params: object) -> Spec:
        return Spec("residual", {"n_codes": 256, "n_levels": 8, **params})

    groups = {"n_codes": 256, "n_groups": 8}
    return (
        arm("scalar", "scalar", n_codes=4),
        arm("scalar-kl", "scalar", n_codes=4, allotment="kl"),
        arm("tokenbridge", "tokenbridge", n_codes=4),
        arm("product", "product", **groups),
        arm("optimized-product", "optimized-product", **groups),
        ArmConfig("residual-greedy", "vae", WHOLE, residual(beam=1)),
        ArmConfig("residual", "vae", WHOLE, residual(beam=16)),
        ArmConfig(
            "residual+metric", "vae", WHOLE, residual(beam=16), latent_map=METRIC, tune=TUNE, aware=AWARE
        ),
    )


def trained_arms() -> tuple[ArmConfig, ...]:
    """Layers trained with their encoder and decoder."""
    return (
        ArmConfig("ema", "vqvae", tune=TUNE, aware=AWARE),
        ArmConfig("residual-ema", "rqvae", tune=TUNE, aware=AWARE),
    )
