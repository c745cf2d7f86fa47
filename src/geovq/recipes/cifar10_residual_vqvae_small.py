"""The VQ-VAE of residual networks on CIFAR-10 with 64 channels: 576 bits an image, 3 seeds, 12 epochs.

`cifar10-residual-vqvae` in small, with two ways to learn the codebook: by gradients, as published, and by
moving averages. Files of one's own in CIFAR-10's binary layout: `--data cifar-bin:PATH`.
Takes: about 20 minutes on one core for all seeds with 20,000 images, 45 with all of CIFAR-10, in bfloat16.
Expect: docs/vqvae.md has what was measured on a stand-in of 20,000 images.
"""

from __future__ import annotations

from geovq.config import ArmConfig, DataConfig, RunConfig, TrainConfig
from geovq.recipes.cifar10_residual_vqvae import residual_vqvae


def config() -> RunConfig:
    """One code of 512 a site."""
    train = TrainConfig(epochs=12, batch_size=128, learning_rate=2e-3, precision="bfloat16", clip_norm=10)
    codes = {"n_codes": 512, "decay": 0.95}
    return RunConfig(
        recipe="cifar10-residual-vqvae-small",
        data=DataConfig("cifar10"),
        bits=576,
        models={kind: residual_vqvae({"kind": kind, "params": codes}, 64, train) for kind in ("vq", "ema")},
        arms=(ArmConfig("vq", "vq"), ArmConfig("ema", "ema")),
        prior=None,
        seeds=(0, 1, 2),
    )
