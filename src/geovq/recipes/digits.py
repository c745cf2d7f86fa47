"""Every first arm on scikit-learn's 8x8 handwritten digits at 24 bits an image, 3 seeds: `geovq demo`.

Source: the question whether to quantize after the fact or end to end, on data that needs no download.
Takes: about 2 minutes on 2 CPU cores.
Expect: readable digits; differences between arms with their intervals over seeds.
"""

from __future__ import annotations

from geovq.config import DataConfig, PriorConfig, RunConfig, Spec, TrainConfig, TuneConfig
from geovq.recipes.matched_rate import autoencoders, first_arms


def config() -> RunConfig:
    """4 tokens of 4 dimensions with 64 codes, or 1 token of 16 with 4 levels of 64: 24 bits either way."""
    return RunConfig(
        recipe="digits",
        data=DataConfig("digits"),
        bits=24,
        models=autoencoders(
            latent_dim=16,
            widths=(48, 96),
            beta=0.2,
            commitment=0.25,
            tokens=(2, 2),
            n_codes=64,
            train=TrainConfig(epochs=100, batch_size=64, learning_rate=2e-3),
        ),
        arms=first_arms(
            tokens=(2, 2),
            n_codes=64,
            n_levels=4,
            n_neighbors=10,
            tune=TuneConfig(epochs=40, batch_size=64, learning_rate=1e-3),
        ),
        prior=PriorConfig(
            Spec("transformer", {"width": 64, "n_layers": 2, "n_heads": 4, "dropout": 0.2}),
            TrainConfig(epochs=40, batch_size=64, learning_rate=2e-3, weight_decay=0.1, patience=8),
        ),
        seeds=(0, 1, 2),
    )
