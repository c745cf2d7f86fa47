"""Every first arm on MNIST at 64 bits an image, 1 seed.

Source: michelegranatiero/VQ_VAE_Geodesic (latent 32 as 8 tokens of 4, K = 256, k-NN graph of 20), whose
geodesic codes published a test MSE of .0136 at these bits; here all arms have the same rate.
The VAE's beta and the VQ-VAE's commitment weight were chosen among three values each on validation images
(scripts/choose_settings.py).
Takes: under 40 minutes and 4 GB on 2 CPU cores.
Expect: residual with a tuned decoder below .0080 test MSE.
"""

from __future__ import annotations

from geovq.config import DataConfig, PriorConfig, RunConfig, Spec, TrainConfig, TuneConfig
from geovq.recipes.matched_rate import autoencoders, first_arms


def config() -> RunConfig:
    """8 tokens of 4 dimensions with 256 codes, or 1 token of 32 with 8 levels of 256: 64 bits either way."""
    return RunConfig(
        recipe="mnist-first",
        data=DataConfig("mnist"),
        bits=64,
        models=autoencoders(
            latent_dim=32,
            widths=(64, 128),
            beta=0.1,
            commitment=1.0,
            tokens=(2, 4),
            n_codes=256,
            train=TrainConfig(epochs=20, batch_size=128, learning_rate=2e-3),
        ),
        arms=first_arms(
            tokens=(2, 4),
            n_codes=256,
            n_levels=8,
            n_neighbors=20,
            tune=TuneConfig(epochs=10, batch_size=128, learning_rate=1e-3),
        ),
        prior=PriorConfig(
            Spec("transformer", {"width": 128, "n_layers": 3, "n_heads": 4, "dropout": 0.1}),
            TrainConfig(epochs=12, batch_size=256, learning_rate=2e-3, weight_decay=0.05, patience=3),
        ),
    )
