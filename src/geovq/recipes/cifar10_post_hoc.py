"""Codes of a latent map after the fact: CIFAR-10 at 512 bits an image, 3 seeds.

A convolutional VAE with 8 numbers for every 4x4 pixels; one code of 256 for each of the 64 sites. The
question is whether the mean pull-back metric beats Euclidean k-means when both have a decoder tuned on their
codes. `cifar10-post-hoc-2048` asks the same of four codes a site. Files of one's own in CIFAR-10's binary
layout: `--data cifar-bin:PATH`.
Takes: about 25 minutes on one core for all seeds with 20,000 images, twice that with all of CIFAR-10.
Expect: metric and tuning each lower the error; RESULTS.md has figures on a stand-in of 20,000 images.
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

SITES = (8, 8)
TRAIN = TrainConfig(epochs=10, batch_size=64, learning_rate=2e-3)
TUNE = TuneConfig(epochs=4, batch_size=64, learning_rate=1e-3, parts="decoder+codebook")


def config() -> RunConfig:
    """One code of 256 a site."""
    codes = {"n_codes": 256}
    return cifar_run(
        "cifar10-post-hoc",
        512,
        (
            arm("kmeans", Spec("kmeans", codes), tune=TUNE),
            arm("kmedoids", Spec("kmedoids", codes)),
            arm("precision", Spec("gaussian", {**codes, "metric": "precision"})),
            arm("geodesic", Spec("geodesic", {**codes, "n_neighbors": 15})),
            arm("kmeans+metric", Spec("kmeans", codes), MapConfig("shared"), TUNE),
            arm("kmeans-site+metric", Spec("kmeans", codes), MapConfig("site")),
        ),
    )


def cifar_run(recipe: str, bits: int, arms: tuple[ArmConfig, ...]) -> RunConfig:
    """The VAE of both CIFAR-10 recipes and its floor, with the arms of one rate."""
    vae = Spec("vae", {"latent_dim": 8, "widths": [64, 128], "beta": 0.1, "spatial": True})
    return RunConfig(
        recipe=recipe,
        data=DataConfig("cifar10"),
        bits=bits,
        models={"vae": ModelConfig(vae, TRAIN)},
        arms=(ArmConfig("continuous", "vae"), *arms),
        prior=None,
        seeds=(0, 1, 2),
    )


def arm(
    name: str, quantizer: Spec, latent_map: MapConfig | None = None, tune: TuneConfig | None = None
) -> ArmConfig:
    """One code or more for every site of the latent map."""
    return ArmConfig(name, "vae", SITES, quantizer, latent_map, tune)
