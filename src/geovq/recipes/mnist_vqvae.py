"""A 7x7 map of codes on MNIST, end to end and after the fact: 392 bits an image, 3 seeds.

The layout of michelegranatiero/VQ_VAE_Geodesic's VQ-VAE (four numbers and one of 256 codes for every 4x4
pixels), at half its widths; `--set models.vqvae.spec.params.widths=[128,256]` is its own size. Its VQ-VAE
published a test MSE of .0024 with 85 % of the codes used; alessiol8888/DLAI_project used 12 % of 128 codes.
Takes: about 45 minutes on one core for all seeds, with bfloat16 arithmetic in the processor.
Expect: every code used on held-out images; test MSE of .0021 for the trained layer with a tuned decoder,
.0025 for k-means in the mean pull-back metric with one, .0056 for k-means.
"""

from __future__ import annotations

from geovq.config import (
    ArmConfig,
    DataConfig,
    MapConfig,
    ModelConfig,
    RunConfig,
    Spec,
    TrainConfig,
    TuneConfig,
)

SITES = (7, 7)
TRAIN = TrainConfig(epochs=10, batch_size=128, learning_rate=2e-3, precision="bfloat16")
TUNE = TuneConfig(
    epochs=3, batch_size=128, learning_rate=1e-3, precision="bfloat16", parts="decoder+codebook"
)


def config() -> RunConfig:
    """One code of 256 a site: k-means on a VAE's sites, and a layer trained with its encoder."""
    shared = {"latent_dim": 4, "widths": [64, 128], "spatial": True}
    layer = {"kind": "ema", "params": {"n_codes": 256}}
    vqvae = Spec("vqvae", {**shared, "tokens": list(SITES), "layer": layer})
    kmeans = Spec("kmeans", {"n_codes": 256})
    return RunConfig(
        recipe="mnist-vqvae",
        data=DataConfig("mnist"),
        bits=392,
        models={
            "vae": ModelConfig(Spec("vae", {**shared, "beta": 0.1}), TRAIN),
            "vqvae": ModelConfig(vqvae, TRAIN),
        },
        arms=(
            ArmConfig("continuous", "vae"),
            ArmConfig("kmeans", "vae", SITES, kmeans, tune=TUNE),
            ArmConfig("kmeans+metric", "vae", SITES, kmeans, latent_map=MapConfig("shared"), tune=TUNE),
            ArmConfig("ema", "vqvae", tune=TUNE),
        ),
        prior=None,
        seeds=(0, 1, 2),
    )
