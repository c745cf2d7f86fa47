"""Recipes: named complete configurations, one module each.

A recipe module has a function ``config()`` that returns a configuration; its docstring says what the recipe
compares, where it comes from, how long it takes and which figures to expect.
"""

from __future__ import annotations

from importlib import import_module

from geovq.config import AnyConfig
from geovq.errors import ConfigError, unknown_name

RECIPES = {
    "digits": "geovq.recipes.digits",
    "mnist-first": "geovq.recipes.mnist_first",
    "mnist-post-hoc": "geovq.recipes.mnist_post_hoc",
    "mnist-vqvae": "geovq.recipes.mnist_vqvae",
    "mnist-layers": "geovq.recipes.mnist_layers",
    "cifar10-post-hoc": "geovq.recipes.cifar10_post_hoc",
    "cifar10-post-hoc-2048": "geovq.recipes.cifar10_post_hoc_2048",
    "cifar10-residual-vqvae": "geovq.recipes.cifar10_residual_vqvae",
    "cifar10-residual-vqvae-small": "geovq.recipes.cifar10_residual_vqvae_small",
    "cifar10-vqvae2": "geovq.recipes.cifar10_vqvae2",
    "lowrank-stiefel": "geovq.recipes.lowrank_stiefel",
    "lowrank-comprehensive": "geovq.recipes.lowrank_comprehensive",
}


def recipe(name: str) -> AnyConfig:
    """The configuration of a recipe. Raises ``ConfigError`` with the nearest name if there is none."""
    if name not in RECIPES:
        raise ConfigError(unknown_name("recipe", name, RECIPES))
    config: AnyConfig = import_module(RECIPES[name]).config()
    return config


def describe(name: str) -> str:
    """What a recipe says about itself."""
    return (import_module(RECIPES[name]).__doc__ or "").strip()
