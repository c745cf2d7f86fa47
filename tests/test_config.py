"""Configurations survive JSON, and every mistake in one is named with its path."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovq.config import (
    ArmConfig,
    AwareConfig,
    DataConfig,
    MapConfig,
    ModelConfig,
    PriorConfig,
    RunConfig,
    Spec,
    TrainConfig,
    TuneConfig,
    from_json,
    to_json,
    with_overrides,
)
from geovq.errors import ConfigError

names = st.text(st.characters(categories=["L", "N"], include_characters="-_+"), min_size=1, max_size=8)
positive = st.floats(1e-9, 1e9)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
specs = st.builds(Spec, names, st.dictionaries(names, json_values, max_size=3))
trainings = st.builds(
    TrainConfig,
    epochs=st.integers(1, 1000),
    batch_size=st.integers(1, 4096),
    learning_rate=positive,
    weight_decay=st.floats(0, 1),
    warmup_epochs=st.floats(0, 10),
    patience=st.integers(0, 50),
)
tunings = st.builds(
    TuneConfig,
    epochs=st.integers(1, 1000),
    parts=st.sampled_from(["decoder", "decoder+codebook", "rectifier"]),
    loss=st.sampled_from(["mse", "bce"]),
)
arms = st.builds(
    ArmConfig,
    name=names,
    model=names,
    tokens=st.none() | st.tuples(st.integers(1, 16), st.integers(1, 16)),
    quantizer=st.none() | specs,
    latent_map=st.none() | st.builds(MapConfig, st.sampled_from(["whole", "shared", "site"])),
    tune=st.none() | tunings,
    aware=st.none() | st.builds(AwareConfig, st.sampled_from(["image", "metric"]), st.integers(1, 64)),
)
runs = st.builds(
    RunConfig,
    recipe=names,
    data=st.builds(DataConfig, names, st.integers(0, 256), st.sampled_from([0, 1, 3])),
    bits=st.integers(1, 1000),
    models=st.dictionaries(names, st.builds(ModelConfig, specs, trainings), max_size=3),
    arms=st.lists(arms, max_size=3).map(tuple),
    prior=st.none() | st.builds(PriorConfig, specs, trainings),
    seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=4).map(tuple),
)


@pytest.fixture
def run() -> RunConfig:
    training = TrainConfig(epochs=2)
    return RunConfig(
        recipe="small",
        data=DataConfig("digits"),
        bits=12,
        models={"vae": ModelConfig(Spec("vae", {"latent_dim": 16, "beta": 0.2}), training)},
        arms=(
            ArmConfig("kmeans", "vae", (2, 2), Spec("kmeans", {"n_codes": 8})),
            ArmConfig("residual", "vae", (1, 1), Spec("residual", {"n_codes": 8}), tune=TuneConfig(epochs=2)),
        ),
        prior=PriorConfig(Spec("transformer"), training),
    )


@given(runs)
def test_any_configuration_equals_itself_after_json(config):
    text = json.dumps(to_json(config), allow_nan=False)
    assert from_json(RunConfig, json.loads(text)) == config


def test_configurations_are_frozen(run):
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.bits = 3


def broken(run: RunConfig, *path: str | int, value: object) -> dict:
    tree = to_json(run)
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("sedes",), 3, "unknown key 'sedes'; did you mean 'seeds'?"),
        (
            ("models", "vae", "train", "epoch"),
            3,
            "unknown key 'models.vae.train.epoch'; did you mean 'models.vae.train.epochs'?",
        ),
        (("arms", 1, "tune", "learning"), 3, "did you mean 'arms.1.tune.learning_rate'?"),
        (("bits",), "12", "key 'bits' is \"12\"; expected a number"),
        (("bits",), True, "key 'bits' is true; expected a number"),
        (("seeds", 0), 12.0, "key 'seeds.0' is 12.0; expected a whole number"),
        (("bits",), None, "key 'bits' is null; expected a number"),
        (("recipe",), 3, "key 'recipe' is 3; expected text"),
        (("seeds",), 3, "key 'seeds' is 3; expected a list"),
        (("seeds",), [0, "1"], "key 'seeds.1' is \"1\"; expected a whole number"),
        (("arms", 0, "tokens"), [2], "key 'arms.0.tokens' is [2]; expected a list of 2"),
        (("arms", 0, "tokens"), [2, 2.5], "key 'arms.0.tokens.1' is 2.5; expected a whole number"),
        (("models",), [], "key 'models' is []; expected an object"),
        (("models", "vae"), 7, "key 'models.vae' is 7; expected an object"),
        (("prior", "train", "learning_rate"), "fast", 'is "fast"; expected a number'),
        (("prior", "train", "learning_rate"), False, "is false; expected a number"),
        (
            ("prior", "train", "learning_rate"),
            float("inf"),
            "'prior.train.learning_rate' is Infinity; expected a finite",
        ),
        (
            ("prior", "train", "learning_rate"),
            float("nan"),
            "'prior.train.learning_rate' is NaN; expected a finite",
        ),
        (("prior", "train", "learning_rate"), 10**400, "expected a finite number"),
        (("prior", "train", "epochs"), 0, "prior.train.epochs is 0; expected a number above 0"),
        (("prior", "train", "batch_size"), -1, "prior.train.batch_size is -1; expected a number above 0"),
        (
            ("prior", "train", "learning_rate"),
            0.0,
            "prior.train.learning_rate is 0.0; expected a number above 0",
        ),
        (("prior", "train", "weight_decay"), -0.1, "prior.train.weight_decay is -0.1; expected 0 or more"),
        (("prior", "train", "warmup_epochs"), -1, "prior.train.warmup_epochs is -1.0; expected 0 or more"),
        (("prior", "train", "patience"), -1, "prior.train.patience is -1; expected 0 or more"),
    ],
)
def test_a_mistake_is_named_with_its_path(run, path, value, message):
    with pytest.raises(ConfigError) as caught:
        from_json(RunConfig, broken(run, *path, value=value))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(run):
    tree = to_json(run)
    del tree["prior"]["train"]["epochs"]
    with pytest.raises(ConfigError, match=r"^key 'prior\.train\.epochs' is missing$"):
        from_json(RunConfig, tree)


def test_something_other_than_an_object_is_refused():
    with pytest.raises(ConfigError, match="expected an object"):
        from_json(RunConfig, [1, 2])


def test_a_whole_number_is_a_number():
    config = from_json(TrainConfig, {"epochs": 1, "learning_rate": 1})
    assert config.learning_rate == 1.0
    assert isinstance(config.learning_rate, float)


def test_a_bare_number_of_the_wrong_kind_is_refused_in_python_too():
    with pytest.raises(ConfigError, match="epochs is 0; expected a number above 0"):
        TrainConfig(epochs=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TuneConfig(epochs=1, parts="encoder"),
            "parts is 'encoder'; expected one of decoder, decoder+",
        ),
        (lambda: TuneConfig(epochs=1, loss="mae"), "loss is 'mae'; expected one of mse, bce"),
        (lambda: MapConfig("chunk"), "per is 'chunk'; expected one of whole, shared, site"),
        (lambda: AwareConfig("latent"), "by is 'latent'; expected one of image, metric"),
    ],
)
def test_an_unknown_choice_is_refused_in_python_too(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value)


def test_overrides_reach_every_part(run):
    changed = with_overrides(
        run,
        [
            "bits=16",
            "seeds=[0,1,2]",
            "data.source=npy:faces.npy",
            "models.vae.train.epochs=9",
            "models.vae.spec.params.beta=0.5",
            "models.vae.spec.params.widths=[8,16]",
            "arms.residual.tune.epochs=3",
            "arms.kmeans.tokens=[4,4]",
            'arms.kmeans.tune={"epochs": 4}',
            "arms.residual.tune.patience=2",
        ],
    )
    assert changed.bits == 16
    assert changed.seeds == (0, 1, 2)
    assert changed.data.source == "npy:faces.npy"
    assert changed.models["vae"].train.epochs == 9
    assert changed.models["vae"].spec.params == {"latent_dim": 16, "beta": 0.5, "widths": [8, 16]}
    assert changed.arms[0].tokens == (4, 4)
    assert changed.arms[0].tune == TuneConfig(epochs=4)
    assert changed.arms[1].tune == TuneConfig(epochs=3, patience=2)


def test_overrides_leave_the_original_alone(run):
    before = to_json(run)
    with_overrides(run, ["models.vae.spec.params.beta=0.5", "bits=1"])
    assert to_json(run) == before


def test_an_override_equal_to_the_value_changes_nothing(run):
    assert with_overrides(run, ["bits=12", "arms.kmeans.name=kmeans"]) == run
    assert with_overrides(run, []) == run


def test_what_is_not_json_is_text(run):
    changed = with_overrides(run, ["recipe=my recipe", "data.source=folder:/data/a=b"])
    assert changed.recipe == "my recipe"
    assert changed.data.source == "folder:/data/a=b"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("bits", "--set bits: expected key=value"),
        ("bit=3", "unknown key 'bit'; did you mean 'bits'?"),
        ("model.vae.train.epochs=3", "unknown key 'model'; did you mean 'models'?"),
        ("models.vea.train.epochs=3", "unknown key 'models.vea'; did you mean 'models.vae'?"),
        ("models.vae.train.epoch=3", "did you mean 'models.vae.train.epochs'?"),
        ("arms.residul.tune.epochs=3", "unknown key 'arms.residul'; did you mean 'arms.residual'?"),
        ("arms.kmeans.tune.epochs=3", "arms.kmeans.tune is None and has no fields"),
        ("arms.kmeans=3", "an item of a list is set field by field"),
        ("arms.nothing=3", "unknown key 'arms.nothing'"),
        ("bits.deep.er=3", "bits is 12 and has no fields"),
        ("bits.deep=3", "bits is 12 and has no fields"),
        ("seeds.5=3", "unknown key 'seeds.5'"),
        ("bits=twelve", "key 'bits' is \"twelve\"; expected a number"),
        ("seeds=[1.5]", "key 'seeds.0' is 1.5; expected a whole number"),
        ("bits=" + "9" * 5000, "expected a number"),
        ("=3", "unknown key ''"),
        ("prior.train.learning_rate=NaN", "expected a finite number"),
        ("prior.train.learning_rate=1e999", "expected a finite number"),
    ],
)
def test_a_bad_override_is_refused(run, assignment, message):
    with pytest.raises(ConfigError) as caught:
        with_overrides(run, [assignment])
    assert message in str(caught.value)


@given(key=st.text(max_size=20), text=st.text(max_size=20))
def test_no_override_raises_anything_but_a_config_error(key, text):
    config = TrainConfig(epochs=2)
    try:
        changed = with_overrides(config, [f"{key}={text}"])
    except ConfigError:
        return
    assert isinstance(changed, TrainConfig)
