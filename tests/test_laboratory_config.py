"""The laboratory's configuration: what it refuses, and that either kind of run is known by its JSON."""

import dataclasses
import json

import pytest

from geovq.config import (
    LaboratoryConfig,
    RunConfig,
    config_from_json,
    to_json,
    with_data,
    with_overrides,
)
from geovq.errors import ConfigError
from geovq.recipes import RECIPES, describe, recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"m": 70}, "m is 70 and D is 64; expected at most D"),
        ({"rank": 65}, "rank is 65 and D is 64; expected at most D"),
        ({"K": 21}, "K is 21 and n_train is 20; expected at least 1 code and no more codes than samples"),
        ({"sweep_K": (8, 21)}, "sweep_K is 21 and n_train is 20"),
        ({"K": 0}, "K is 0; expected at least 1"),
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"batch": -1}, "batch is -1; expected at least 1"),
        ({"alpha": -0.5}, "alpha is -0.5; expected a finite number of 0 or more"),
        ({"beta": float("nan")}, "beta is nan; expected a finite number of 0 or more"),
        ({"sweep_beta": (0.1, -1.0)}, "sweep_beta is -1.0; expected a finite number of 0 or more"),
        ({"lrW": 0.0}, "lrW is 0.0; expected a finite number above 0"),
        ({"lrE": float("inf")}, "lrE is inf; expected a finite number above 0"),
        ({"seeds": ()}, "seeds is []; expected different values, at least one"),
        ({"methods": ("rotation", "rotation")}, "expected different values"),
        (
            {"experiment": "everything"},
            "experiment is 'everything'; expected one of comparison, comprehensive",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_both_sides(changes, message):
    with pytest.raises(ConfigError) as refused:
        LaboratoryConfig(
            **{"recipe": "r", "experiment": "comparison", "n_train": 20, "K": 8, "sweep_K": (8,)} | changes
        )
    assert message in str(refused.value)


def test_a_latent_wider_than_the_data_s_rank_is_allowed():
    assert LaboratoryConfig("r", "comparison", m=8, rank=6).m == 8


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_read_back_from_its_json_as_what_it_is(name):
    config = recipe(name)
    assert config_from_json(json.loads(json.dumps(to_json(config)))) == config
    assert config.recipe == name and len(describe(name).splitlines()) >= 3


def test_both_kinds_are_among_the_recipes():
    kinds = {name: type(recipe(name)) for name in RECIPES}
    assert kinds["digits"] is RunConfig and kinds["lowrank-stiefel"] is LaboratoryConfig


def test_published_names_are_the_names_to_set():
    config = with_overrides(
        recipe("lowrank-stiefel"), ["K=16", "steps=500", "lrW=0.1", 'methods=["rotation"]']
    )
    assert (config.K, config.steps, config.lrW, config.methods) == (16, 500, 0.1, ("rotation",))
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        with_overrides(config, ["step=3"])


def test_data_is_a_word_for_images_alone():
    images = with_data(recipe("digits"), "npy:photos.npy")
    assert images == dataclasses.replace(recipe("digits"), data=images.data)
    assert images.data.source == "npy:photos.npy"
    with pytest.raises(ConfigError, match="which makes its own data; leave it out"):
        with_data(recipe("lowrank-stiefel"), "mnist")
