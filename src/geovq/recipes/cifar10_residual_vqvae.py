"""A VQ-VAE of residual networks on CIFAR-10, at the published size: 576 bits an image, 50 epochs.

Strided convolutions down to 8x8 sites with one code of 512 each, two residual blocks in each half and 256
channels (van den Oord et al. 2017, section 4.1). Images are standardised inside the model; squared error
and the commitment are minimised, the codebook follows by moving averages (the paper's appendix A.1; learnt by
gradients, `--set models.vqvae.spec.params.layer.kind=vq`, it did worse in small). The run's `figures/epochs/`
shows validation images after every epoch. The paper has ten codebooks a site: its 4.67 bits/dim are not those
of 576 bits.
Takes: hours on a CPU; meant for a GPU. `cifar10-residual-vqvae-small` is for one.
Expect: not measured yet at this size; the small one's figures are in docs/vqvae.md.
"""

from __future__ import annotations

from typing import Any

from geovq.config import ArmConfig, DataConfig, ModelConfig, RunConfig, Spec, TrainConfig


def config() -> RunConfig:
    """One code of 512 a site."""
    train = TrainConfig(epochs=50, batch_size=128, learning_rate=1e-3, precision="bfloat16", clip_norm=10)
    return RunConfig(
        recipe="cifar10-residual-vqvae",
        data=DataConfig("cifar10"),
        bits=576,
        models={
            "vqvae": residual_vqvae({"kind": "ema", "params": {"n_codes": 512, "decay": 0.95}}, 256, train)
        },
        arms=(ArmConfig("ema", "vqvae"),),
        prior=None,
    )


def residual_vqvae(layer: dict[str, Any], width: int, train: TrainConfig) -> ModelConfig:
    """A VQ-VAE of two halvings and two residual blocks a half, on standardised images of 32x32."""
    params = {
        "latent_dim": 16,
        "widths": [width, width],
        "blocks": 2,
        "spatial": True,
        "normalization": "train",
        "reconstruction": "mse",
        "layer": layer,
    }
    return ModelConfig(Spec("vqvae", params), train)
