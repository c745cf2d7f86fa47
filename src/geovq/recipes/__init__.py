"""Recipes: named complete configurations, one module each.

A recipe module has a function ``config() -> RunConfig``; its docstring says what the recipe compares, where
it comes from, how long it takes and which figures to expect.
"""

from __future__ import annotations

from importlib import import_module

from geovq.config import RunConfig
from geovq.errors import ConfigError, unknown_name

RECIPES = {
    "digits": "geovq.recipes.digits",
    "mnist-first": "geovq.recipes.mnist_first",
    "mnist-post-hoc": "geovq.recipes.mnist_post_hoc",
    "mnist-vqvae": "geovq.recipes.mnist_vqvae",
    "mnist-layers": "geovq.recipes.mnist_layers",
    "cifar10-post-hoc": "geovq.recipes.cifar10_post_hoc",
    "cifar10-post-hoc-2048": "geovq.recipes.cifar10_post_hoc_2048",
}


def recipe(name: str) -> RunConfig:
    """The configuration of a recipe. Raises ``ConfigError`` with the nearest name if there is none."""
    if name not in RECIPES:
        raise ConfigError(unknown_name("recipe", name, RECIPES))
    config: RunConfig = import_module(RECIPES[name]).config()
    return config


def describe(name: str) -> str:
    """What a recipe says about itself."""
    return (import_module(RECIPES[name]).__doc__ or "").strip()
