"""Choosing by validation images: stages shared, no test image looked at, every split of the bits exact."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import remedies
from hypothesis import given
from hypothesis import strategies as st

from geovq.config import ArmConfig, RunConfig, Spec, TrainConfig
from geovq.data import ImageSplits, load
from geovq.errors import ConfigError
from geovq.pipeline import choice as choice_module
from geovq.pipeline import run as run_module
from geovq.pipeline.arms import arms_of
from geovq.pipeline.checks import check_run
from geovq.pipeline.choice import Choice, best, coding_arms, try_variants, validation_errors
from geovq.pipeline.run import run_recipe
from geovq.registry import build
from geovq.tokenizer.latent import LatentTokenizer

VARIANTS = {
    "coarse": ["arms.kmeans.quantizer.params.n_iterations=1"],
    "fine": [],
    "tuned": ['arms.kmeans.tune={"epochs": 1}'],
}


@pytest.fixture(scope="module")
def config() -> RunConfig:
    arms = (
        ArmConfig("continuous", "vae"),
        ArmConfig("kmeans", "vae", remedies.CHUNKS, Spec("kmeans", {"n_codes": 4})),
        remedies.arms()[1],
    )
    whole = remedies.config()
    models = {"vae": dataclasses.replace(whole.models["vae"], train=TrainConfig(3, 32, 5e-3))}
    return dataclasses.replace(whole, models=models, arms=arms, seeds=(0, 1))


@pytest.fixture(scope="module")
def tried(
    config: RunConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Choice], list[str]]:
    out, told = tmp_path_factory.mktemp("choice"), []
    return out, try_variants(config, VARIANTS, out, tell=told.append), told


def test_every_variant_is_run_as_far_as_its_codes_and_stages_are_shared(
    tried: tuple[Path, list[Choice], list[str]],
) -> None:
    out, choices, told = tried
    assert [choice.name for choice in choices] == list(VARIANTS)
    for name in VARIANTS:
        assert (out / name / "codes/kmeans/8/0").is_dir()
        assert not (out / name / "metrics.json").exists()
        assert not (out / name / "evaluation").exists()
    made = [line for line in told if not line.startswith("variant")]
    assert sum(line.startswith("train: ") for line in made) == 2  # one a seed
    assert sum(line.startswith("tokenizer: kmeans+metric,") for line in made) == 2
    assert sum(line.startswith("tokenizer: kmeans,") for line in made) == 4
    assert [line for line in told if line.startswith("variant")] == [f"variant {name}" for name in VARIANTS]


def test_errors_are_those_of_validation_images(
    config: RunConfig, tried: tuple[Path, list[Choice], list[str]]
) -> None:
    out, choices, _ = tried
    images = load(config.data).validation.images(slice(None))
    for found in choices:
        assert all(len(errors) == 2 for errors in found.errors.values())
        for arm in ("kmeans", "kmeans+metric+tuned+aware"):
            for seed in (0, 1):
                folder = out / found.name / "tokenizers" / arm / "8" / str(seed)
                decoded = LatentTokenizer.from_pretrained(folder).reconstruct(images)
                mse = np.square(decoded.astype(np.float64) - images).mean()
                assert found.errors[arm][seed] == pytest.approx(mse, rel=1e-3)
            assert found.mse(arm) == pytest.approx(np.mean(found.errors[arm]))
        assert found.mse("kmeans+metric+tuned+aware") < found.mse("kmeans+metric")
    assert set(choices[2].errors) - set(choices[1].errors) == {"kmeans+tuned"}
    assert choices[1].errors["kmeans"] == choices[2].errors["kmeans"] != choices[0].errors["kmeans"]


def test_a_choice_that_is_there_is_read_and_not_made_again(
    config: RunConfig, tried: tuple[Path, list[Choice], list[str]]
) -> None:
    out, choices, _ = tried
    told: list[str] = []
    assert try_variants(config, VARIANTS, out, tell=told.append) == choices
    assert told == [f"variant {name}" for name in VARIANTS]


class Unread:
    """A store of images that must not be read."""

    shape = (1, 8, 8)

    def read(self, rows: np.ndarray) -> np.ndarray:
        pytest.fail("a test image was read")


def test_no_test_image_is_read_to_measure_a_variant(
    config: RunConfig, tried: tuple[Path, list[Choice], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, choices, _ = tried
    splits = load(config.data)
    hidden = dataclasses.replace(splits, test=dataclasses.replace(splits.test, store=Unread()))
    monkeypatch.setattr(choice_module, "load", lambda data: hidden)
    assert validation_errors(config, out / "fine") == choices[1].errors


def test_other_test_images_change_no_choice(
    config: RunConfig,
    tried: tuple[Path, list[Choice], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Noise:
        shape = (1, 8, 8)

        def read(self, rows: np.ndarray) -> np.ndarray:
            return np.random.default_rng(0).random((len(rows), 1, 8, 8), dtype=np.float32)

    def poisoned(data: object) -> ImageSplits:
        splits = load(config.data)
        return dataclasses.replace(splits, test=dataclasses.replace(splits.test, store=Noise()))

    once = dataclasses.replace(config, arms=config.arms[:2], seeds=(0,))
    for module in (choice_module, run_module):
        monkeypatch.setattr(module, "load", poisoned)
    found = try_variants(once, {"fine": []}, tmp_path)
    assert found[0].errors == {arm: tried[1][1].errors[arm][:1] for arm in ("continuous", "kmeans")}


def test_a_variant_that_could_not_be_carried_out_stops_all_before_anything_is_run(
    config: RunConfig, tmp_path: Path
) -> None:
    for change, message in (
        ("arms.kmean.tokens=[2,2]", "variant 'wrong': unknown key 'arms.kmean'"),
        ("arms.kmeans.quantizer.params.n_codes=8", "variant 'wrong': arm 'kmeans': .* are 12 bits an image"),
    ):
        with pytest.raises(ConfigError, match=message):
            try_variants(config, {"right": [], "wrong": [change]}, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_the_best_variant_has_the_lowest_mean_over_seeds_and_is_the_first_of_equals() -> None:
    choices = [
        Choice("a", {"x": (3.0, 5.0), "y": (1.0, 1.0)}),
        Choice("b", {"x": (1.0, 4.0), "y": (2.0, 1.0)}),
        Choice("c", {"x": (4.0, 1.0), "y": (0.5, 1.5)}),
    ]
    assert best(choices, "x").name == "b"
    assert best(choices, "y").name == "a"
    assert best(choices[::-1], "y").name == "c"
    assert choices[0].mse("x") == 4


def test_an_arm_that_was_not_measured_everywhere_is_refused() -> None:
    choices = [Choice("a", {"x": (1.0,)}), Choice("b", {"x": (1.0,), "y": (2.0,)})]
    for arm in ("y", "z"):
        with pytest.raises(ConfigError, match=f"arm '{arm}' was not measured .* expected one of"):
            best(choices, arm)
    with pytest.raises(ConfigError, match="arm 'x' was not measured in every variant"):
        best([], "x")


@given(st.integers(1, 400), st.integers(1, 64))
def test_arms_have_exactly_the_bits_asked_for_and_names_of_their_own(bits: int, latent_dim: int) -> None:
    possible = [n for n in range(1, bits + 1) if bits % n == 0 and 4 <= bits // n <= 10]
    if not possible:
        with pytest.raises(ConfigError, match=f"^{bits} bits cannot be split into equal codes of 16 to 1024"):
            coding_arms(bits, latent_dim, "vae")
        return
    arms = coding_arms(bits, latent_dim, "vae")
    names = [arm.name for arm in arms]
    assert len(set(names)) == len(names)
    for arm in arms:
        height, width = arm.tokens
        assert latent_dim % (height * width) == 0
        sizes = build("quantizer", arm.quantizer).planned_sizes(latent_dim // (height * width))
        assert height * width * sum(map(math.log2, sizes)) == bits
        assert set(sizes) <= {2**n for n in range(4, 11)}
    assert {f"residual-{n}x{2 ** (bits // n)}" for n in possible} <= set(names)
    assert {f"kmeans-{n}x{2 ** (bits // n)}" for n in possible if latent_dim % n == 0} <= set(names)
    assert {f"product-{n}x{2 ** (bits // n)}" for n in possible if n <= latent_dim} <= set(names)


def test_arms_of_one_rate_make_a_run(
    config: RunConfig, tried: tuple[Path, list[Choice], list[str]], tmp_path: Path
) -> None:
    arms = (ArmConfig("continuous", "vae"), *coding_arms(16, 8, "vae"))
    changed = dataclasses.replace(config, bits=16, arms=arms, seeds=(0,))
    check_run(changed, load(changed.data))
    assert [arm.name for arm in arms_of(changed)][1:] == [
        "kmeans-2x256",
        "product-2x256",
        "residual-2x256",
        "kmeans-4x16",
        "product-4x16",
        "residual-4x16",
    ]
    out = run_recipe(changed, tmp_path / "run", reuse=[tried[0] / "fine"], stop_after="tokenizers")
    assert set(validation_errors(changed, out)) == {arm.name for arm in arms}
