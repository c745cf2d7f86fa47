"""The arms that the first recipes share: each post-hoc quantizer and one trained layer, at one rate."""

from __future__ import annotations

from geovq.config import ArmConfig, ModelConfig, Spec, TrainConfig, TuneConfig


def autoencoders(
    *,
    latent_dim: int,
    widths: tuple[int, int],
    beta: float,
    commitment: float,
    tokens: tuple[int, int],
    n_codes: int,
    train: TrainConfig,
) -> dict[str, ModelConfig]:
    """A VAE and a VQ-VAE of the same encoder and decoder, trained alike."""
    shared = {"latent_dim": latent_dim, "widths": list(widths)}
    layer = {"kind": "ema", "params": {"n_codes": n_codes, "commitment": commitment}}
    return {
        "vae": ModelConfig(Spec("vae", {**shared, "beta": beta}), train),
        "vqvae": ModelConfig(Spec("vqvae", {**shared, "tokens": list(tokens), "layer": layer}), train),
    }


def first_arms(
    *, tokens: tuple[int, int], n_codes: int, n_levels: int, n_neighbors: int, tune: TuneConfig
) -> tuple[ArmConfig, ...]:
    """Floor, end-to-end and post-hoc arms; the residual and the end-to-end one also with tuned decoders.

    Both sides of the comparison get the same tuning, or the tuned arm would win by its budget.
    """
    codes = {"n_codes": n_codes}
    return (
        ArmConfig("continuous", "vae"),
        ArmConfig("ema", "vqvae", tune=tune),
        ArmConfig("kmeans", "vae", tokens, Spec("kmeans", codes)),
        ArmConfig("kmedoids", "vae", tokens, Spec("kmedoids", codes)),
        ArmConfig("wasserstein", "vae", tokens, Spec("gaussian", {**codes, "metric": "wasserstein"})),
        ArmConfig("geodesic", "vae", tokens, Spec("geodesic", {**codes, "n_neighbors": n_neighbors})),
        ArmConfig(
            "residual",
            "vae",
            (1, 1),
            Spec("residual", {**codes, "n_levels": n_levels, "beam": 16}),
            tune=tune,
        ),
    )
