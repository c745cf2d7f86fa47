"""Every trainable layer on MNIST at 64 bits an image, beside two quantizers fitted after the fact.

Eight chunks of four numbers with one code of 256 each wherever a layer can give that; `lfq` and `bsq` need
chunks of eight, a number a bit; residual levels see the whole latent, product groups have a codebook for each
chunk. The networks are those of `mnist-post-hoc`, for `lfq` and `bsq` with as many weights.
Six epochs separate the layers; `--set models.NAME.train.epochs=18` trains one of them for longer. The
commitment weights of layers with one table were chosen on validation images (scripts/choose_settings.py).
Takes: about an hour on one core for one seed, with bfloat16 arithmetic in the processor.
Expect: test MSE of .0068 for residual levels, .0079 for product groups, .0080 for one codebook of moving
averages and .0066 for residual codes after the fact; docs/quantizers.md has each layer's measured row.
"""

from __future__ import annotations

from typing import Any

from geovq.config import ArmConfig, DataConfig, MapConfig, ModelConfig, RunConfig, Spec, TrainConfig

CHUNKS, WHOLE = (2, 4), (1, 1)
TRAIN = TrainConfig(epochs=6, batch_size=128, learning_rate=2e-3, precision="bfloat16")
NETWORK = {"latent_dim": 32, "widths": [64, 128]}
SIGNS = {"latent_dim": 64, "widths": [59, 118]}  # a number for every bit; as many weights, to 1 %


def config() -> RunConfig:
    """One model and one arm for every layer."""
    ema = {"kind": "ema", "params": {"n_codes": 256, "commitment": 0.25, "decay": 0.95}}
    chunks: dict[str, dict[str, Any]] = {
        "vq": {"n_codes": 256, "commitment": 16.0},
        "manual": {"n_codes": 256, "commitment": 16.0},
        "ema": {"n_codes": 256, "commitment": 1.0},
        "rotation": {"n_codes": 256, "commitment": 1.0},
        "simvq": {"n_codes": 256, "commitment": 4.0},
        "cosine": {"n_codes": 256, "commitment": 16.0},
        "diveq": {"n_codes": 256},
        "optvq": {"n_codes": 256, "commitment": 16.0},
        "gumbel": {"n_codes": 256, "commitment": 4.0},
        "fsq": {"levels": [4, 4, 4, 4]},
    }
    models = {
        "vae": ModelConfig(Spec("vae", {**NETWORK, "beta": 0.05}), TRAIN),
        **{kind: vqvae(kind, params, CHUNKS) for kind, params in chunks.items()},
        **{kind: vqvae(kind, {}, CHUNKS, SIGNS) for kind in ("lfq", "bsq")},
        "product": vqvae("product", {"layer": ema, "n_groups": 8}, WHOLE),
        "residual": vqvae("residual", {"layer": ema, "n_levels": 8, "beam": 16}, WHOLE),
    }
    residual = Spec("residual", {"n_codes": 256, "n_levels": 8, "beam": 16})
    return RunConfig(
        recipe="mnist-layers",
        data=DataConfig("mnist"),
        bits=64,
        models=models,
        arms=(
            ArmConfig("continuous", "vae"),
            ArmConfig("kmeans", "vae", CHUNKS, Spec("kmeans", {"n_codes": 256})),
            ArmConfig("post-hoc-residual+metric", "vae", WHOLE, residual, latent_map=MapConfig()),
            *(ArmConfig(name, name) for name in models if name != "vae"),
        ),
        prior=None,
        seeds=(0,),
    )


def vqvae(
    kind: str, params: dict[str, Any], tokens: tuple[int, int], network: dict[str, Any] = NETWORK
) -> ModelConfig:
    """A VQ-VAE around one layer."""
    layer = {"kind": kind, "params": params}
    return ModelConfig(Spec("vqvae", {**network, "tokens": list(tokens), "layer": layer}), TRAIN)
