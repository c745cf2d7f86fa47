"""A linear VQ-VAE with an orthonormal encoder on low-rank Gaussian data: what gradients add to PCA and Lloyd.

Source: the comparison published with nikitus20/vqvae (GitHub) and its settings: D 64, rank 6, m 4, K 32, 200
steps. `rotation` is the rotation trick of Fifty et al. (arXiv 2410.06424); what was published under that name
is a projection. `pca-lloyd-converged` is added: Lloyd from 12 starts, each run to a fixed point.
Names in `--set` are the published ones: `--set K=16 --set steps=500 --seed 3`.
Takes: about 5 seconds on one core.
Expect: sse_per_sample of 2.437 for pca-lloyd, 2.428 converged, 2.442 for the three by gradients; one seed.
"""

from __future__ import annotations

from geovq.config import LaboratoryConfig


def config() -> LaboratoryConfig:
    """Every method once, with the published defaults."""
    return LaboratoryConfig(recipe="lowrank-stiefel", experiment="comparison")
