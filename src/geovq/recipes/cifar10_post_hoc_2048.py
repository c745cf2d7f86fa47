"""Codes of a latent map after the fact: CIFAR-10 at 2,048 bits an image, 3 seeds.

Four codes of 256 for each of the 64 sites of `cifar10-post-hoc`'s VAE: as groups of channels (k-means in
each), or as levels of approximation.
Takes: as `cifar10-post-hoc`, and less with `--reuse` of such a run.
Expect: RESULTS.md has figures on a stand-in of 20,000 images.
"""

from __future__ import annotations

from geovq.config import MapConfig, RunConfig, Spec
from geovq.recipes.cifar10_post_hoc import TUNE, arm, cifar_run


def config() -> RunConfig:
    """Four codes of 256 a site. ``product`` is Euclidean k-means in each quarter of the channels."""
    groups = Spec("product", {"n_codes": 256, "n_groups": 4})
    levels = Spec("residual", {"n_codes": 256, "n_levels": 4, "beam": 16})
    return cifar_run(
        "cifar10-post-hoc-2048",
        2048,
        (
            arm("product", groups, tune=TUNE),
            arm("optimized-product", Spec("optimized-product", {"n_codes": 256, "n_groups": 4})),
            arm("residual", levels),
            arm("residual+metric", levels, MapConfig("shared"), TUNE),
        ),
    )
