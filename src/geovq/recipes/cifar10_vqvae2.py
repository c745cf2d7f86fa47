"""VQ-VAE-2 on CIFAR-10 beside one level of codes: 640 bits an image, 3 seeds, 12 epochs.

Two levels are 4x4 and 8x8 codes of 256, three are 2x2 codes of 256, 4x4 of 64 and 8x8 of 256, one is 8x8
codes of 1,024 (Razavi et al. 2019). All networks have as many weights, within 5 %. Images of 64 pixels, say,
have four times the bits: `--data folder:PATH --set data.image_size=64 --set bits=2560`.
Takes: about 40 minutes on one core for all seeds with 20,000 images, with bfloat16 arithmetic.
Expect: docs/vqvae.md has what was measured on a stand-in of 20,000 images.
"""

from __future__ import annotations

from geovq.config import ArmConfig, DataConfig, ModelConfig, RunConfig, Spec, TrainConfig

LEVELS = {"one-level": (92, (1024,)), "two-levels": (64, (256, 256)), "three-levels": (52, (256, 64, 256))}
"""Channels, and codes a level, the coarsest first."""


def config() -> RunConfig:
    """One, two and three levels at one rate."""
    return RunConfig(
        recipe="cifar10-vqvae2",
        data=DataConfig("cifar10"),
        bits=640,
        models={name: _vqvae2(width, n_codes) for name, (width, n_codes) in LEVELS.items()},
        arms=tuple(ArmConfig(name, name) for name in LEVELS),
        prior=None,
        seeds=(0, 1, 2),
    )


def _vqvae2(width: int, n_codes: tuple[int, ...]) -> ModelConfig:
    params = {
        "latent_dim": 16,
        "widths": [width, width],
        "blocks": 2,
        "normalization": "train",
        "layers": [{"kind": "ema", "params": {"n_codes": size, "decay": 0.95}} for size in n_codes],
    }
    train = TrainConfig(epochs=12, batch_size=128, learning_rate=2e-3, precision="bfloat16", clip_norm=10)
    return ModelConfig(Spec("vqvae2", params), train)
