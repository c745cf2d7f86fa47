"""The linear laboratory in full: both ways to a gradient, 500 steps, four codebook sizes, five betas.

Source: the four experiments published with nikitus20/vqvae (GitHub) from one seed each, here over five seeds
with the differences paired, and with `pca-lloyd-converged` beside `pca-lloyd`.
Takes: 5 to 10 minutes on one core.
Expect: no difference from pca-lloyd established at 500 steps: +0.08 % [-0.81, +0.97] for straight-through
gradients by hand or by autograd, where -1.27 and -1.68 % were published; beta changes 0.03 % at most.
"""

from __future__ import annotations

from geovq.config import LaboratoryConfig


def config() -> LaboratoryConfig:
    """500 steps at K 32, and 300 for every K and beta of the sweeps."""
    return LaboratoryConfig(
        recipe="lowrank-comprehensive", experiment="comprehensive", steps=500, seeds=(0, 1, 2, 3, 4)
    )
