"""Components by name: mistakes are refused before anything is built."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from geovq.config import Spec
from geovq.errors import ConfigError
from geovq.models import VAE
from geovq.registry import FAMILIES, build, check, kind_of, register, resolve
from geovq.vq import EMAVQ

EVERY_KIND = [(family, kind) for family, kinds in FAMILIES.items() for kind in kinds]


@pytest.fixture
def restored_families():
    before = {family: dict(kinds) for family, kinds in FAMILIES.items()}
    yield
    for family, kinds in before.items():
        FAMILIES[family].clear()
        FAMILIES[family].update(kinds)


class Doubler:
    """A component of this test's own."""

    def __init__(self, dim: int, factor: float = 2.0) -> None:
        self.dim, self.factor = dim, factor


@pytest.mark.parametrize(("family", "kind"), EVERY_KIND)
def test_every_registered_name_resolves(family, kind):
    component = resolve(family, kind)
    assert callable(component)
    assert FAMILIES[family][kind] == f"{component.__module__}:{component.__qualname__}"


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"^unknown quantizer 'kmeens'; did you mean 'kmeans'\? Valid: "):
        resolve("quantizer", "kmeens")


def test_a_kind_that_is_near_to_nothing_is_refused_with_all_names():
    with pytest.raises(ConfigError, match=r"^unknown layer 'xyz'; Valid: .*ema"):
        resolve("layer", "xyz")


def test_an_unknown_parameter_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"unknown parameter of layer 'ema' 'n_code'; did you mean 'n_codes'\?"
    ):
        check("layer", Spec("ema", {"n_code": 8}), ("dim",))


def test_a_missing_parameter_is_named():
    with pytest.raises(
        ConfigError, match=r"^layer 'ema': missing a required argument: 'n_codes'; give it under"
    ):
        check("layer", Spec("ema"), ("dim", "seed"))


def test_what_the_caller_supplies_cannot_be_set():
    with pytest.raises(ConfigError, match=r"unknown parameter of layer 'ema' 'dim'; .*Valid: commitment"):
        check("layer", Spec("ema", {"dim": 3, "n_codes": 8}), ("dim",))


def test_a_supplied_argument_that_the_class_does_not_take_is_refused():
    with pytest.raises(ConfigError, match="layer 'ema': got an unexpected keyword argument 'image_shape'"):
        check("layer", Spec("ema", {"n_codes": 8}), ("dim", "image_shape"))


def test_check_accepts_what_build_takes():
    spec = Spec("ema", {"n_codes": 8, "decay": 0.5})
    check("layer", spec, ("dim",))
    layer = build("layer", spec, dim=3)
    assert isinstance(layer, EMAVQ)
    assert (layer.dim, layer.n_codes, layer.decay) == (3, (8,), 0.5)


def test_build_refuses_before_constructing():
    with pytest.raises(ConfigError, match="did you mean 'latent_dim'"):
        build("model", Spec("vae", {"latent_dimm": 3}), image_shape=(1, 8, 8))


def test_kind_of_is_the_inverse_of_build():
    assert kind_of("layer", EMAVQ(2, 4)) == "ema"
    assert kind_of("model", VAE((1, 8, 8), 4, (2, 2))) == "vae"


def test_kind_of_a_stranger_says_how_to_register_it():
    with pytest.raises(
        ConfigError, match=r"Doubler is not registered as a layer; call geovq.registry.register\("
    ):
        kind_of("layer", Doubler(3))


def test_a_registered_component_is_built_and_recognised(restored_families):
    register("layer", "doubler", f"{Doubler.__module__}:Doubler")
    layer = build("layer", Spec("doubler", {"factor": 3.0}), dim=5)
    assert isinstance(layer, Doubler)
    assert (layer.dim, layer.factor) == (5, 3.0)
    assert kind_of("layer", layer) == "doubler"


class Chooser:
    """A component with every kind of annotation that JSON can fill."""

    def __init__(
        self, mode: Literal["soft", "hard"], levels: list[int], rate: int | str = 1, table: Any = None
    ) -> None:
        self.mode, self.levels, self.rate, self.table = mode, levels, rate, table


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mode": "soft", "levels": [8, 5]}, ""),
        ({"mode": "hard", "levels": [], "rate": "fast", "table": {"a": 1}}, ""),
        ({"mode": "sofd", "levels": [8]}, "expected one of soft, hard"),
        ({"mode": "soft", "levels": [8, "5"]}, 'levels.1\' is "5"; expected a whole number'),
        ({"mode": "soft", "levels": [8], "rate": [1]}, "params.rate' is \\[1\\]; expected text"),
    ],
)
def test_parameters_are_checked_by_their_annotations(restored_families, params, message):
    register("layer", "chooser", f"{__name__}:Chooser")
    if not message:
        assert build("layer", Spec("chooser", params)).mode == params["mode"]
        return
    with pytest.raises(ConfigError, match=message):
        check("layer", Spec("chooser", params))
