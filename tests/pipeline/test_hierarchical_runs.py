"""Runs with hierarchical models: measured, sampled and told of like every other arm, at equal bits."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit
from scipy.stats import norm

from geovq.cli import main
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
)
from geovq.data import ImageSplits, load
from geovq.errors import ConfigError
from geovq.evaluation.records import Record, read_metrics
from geovq.models.weights import n_parameters
from geovq.pipeline.checks import check_run
from geovq.pipeline.run import run_recipe
from geovq.seeding import numpy_generator
from geovq.storage.artifact import load_artifact
from geovq.tokenizer import HierarchicalTokenizer, from_pretrained, load_codes

TRAIN = TrainConfig(epochs=3, batch_size=64, learning_rate=5e-3)
SHARED = {"latent_dim": 4, "widths": [8], "blocks": 1, "normalization": "train"}
BITS = 64
PRIOR = PriorConfig(Spec("transformer", {"width": 16, "n_layers": 1, "n_heads": 2}), TRAIN)


def ema(n_codes: int) -> dict[str, object]:
    return {"kind": "ema", "params": {"n_codes": n_codes}}


def one_map(n_codes: int = 16, **params: object) -> ModelConfig:
    own = {"spatial": True, "tokens": [4, 4], "layer": ema(n_codes)}
    return ModelConfig(Spec("vqvae", {**SHARED, **own, **params}), TRAIN)


def levels(*n_codes: int, **params: object) -> ModelConfig:
    own = {"layers": [ema(size) for size in n_codes]}
    return ModelConfig(Spec("vqvae2", {**SHARED, **own, **params}), TRAIN)


def config(names: tuple[str, ...] = ("one-map", "two-levels"), **changes: object) -> RunConfig:
    """64 bits an image: 4x4 codes of 16, or 2x2 codes of 16 above 4x4 codes of 8."""
    models = {"one-map": one_map(), "two-levels": levels(16, 8), "one-level": levels(16)}
    base = RunConfig(
        recipe="levels",
        data=DataConfig("digits"),
        bits=BITS,
        models={name: models[name] for name in names},
        arms=tuple(ArmConfig(name, name) for name in names),
        prior=None,
    )
    return dataclasses.replace(base, **changes)


def records_of(folder: Path) -> dict[tuple[str, str], Record]:
    return {(r.arm, r.split): r for r in read_metrics(folder / "metrics.json")}


@pytest.fixture(scope="module")
def digits() -> ImageSplits:
    return load(DataConfig("digits"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_recipe(config(), tmp_path_factory.mktemp("runs") / "both", command="geovq run levels.json")


@pytest.fixture(scope="module")
def alone(both: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hierarchical arm alone, so that the prior is its."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    return run_recipe(config(("two-levels",), prior=PRIOR), out, reuse=[both], command="geovq run alone.json")


def test_both_arms_are_measured_at_equal_bits(both: Path) -> None:
    records = records_of(both)
    assert set(records) == {(arm, s) for arm in ("one-map", "two-levels") for s in ("validation", "test")}
    plain, hierarchical = (set(records[arm, "test"].values) for arm in ("one-map", "two-levels"))
    assert plain - hierarchical == {"total_nats"}, "the hierarchical model was not trained on nats"
    for record in records.values():
        assert record.bits == BITS
        assert record.values["bits_nominal"] == pytest.approx(BITS)
        assert 0 < record.values["bits_entropy"] < BITS + 5
        assert 0 < record.values["utilization"] <= 1
        if record.arm == "one-map":
            total = record.values["bce_nats"] + record.values["commitment"]
            assert record.values["total_nats"] == pytest.approx(total)


def test_what_was_measured_is_what_the_stored_tokenizer_does(both: Path, digits: ImageSplits) -> None:
    tokenizer = from_pretrained(both / "tokenizers/two-levels/64/0")
    assert isinstance(tokenizer, HierarchicalTokenizer)
    images = digits.test.images(slice(None))
    values = records_of(both)["two-levels", "test"].values
    error = np.square(tokenizer.reconstruct(images).astype(np.float64) - images).mean()
    assert error == pytest.approx(values["mse"], rel=1e-4)
    codes = load_codes(both / "codes/two-levels/64/0")
    assert np.mean(tokenizer.encode(images) == codes.splits["test"]) > 0.999
    assert {split: len(part) for split, part in codes.splits.items()} == {
        "train": 1197,
        "validation": 300,
        "test": 300,
    }
    mean, _ = tokenizer.posterior(images)
    distortion = np.square(tokenizer.lookup(codes.splits["test"]) - mean, dtype=np.float64).sum(1).mean()
    assert distortion == pytest.approx(values["latent_distortion"], rel=1e-3)
    assert tokenizer.layer_loss(mean) == pytest.approx(values["commitment"], rel=1e-3)


def test_the_tokenizer_has_the_numbers_of_the_training_images(both: Path, digits: ImageSplits) -> None:
    pixels = digits.train.images(slice(None)).astype(np.float64)
    for arm in ("one-map", "two-levels"):
        stored = json.loads((both / f"tokenizers/{arm}/64/0/config.json").read_text())
        (mean,), (deviation,) = stored["architecture"]["params"]["normalization"]
        assert mean == pytest.approx(pixels.mean(), abs=1e-6)
        assert deviation == pytest.approx(pixels.std(), abs=1e-6)
    run = json.loads((both / "config.json").read_text())
    assert run["models"]["two-levels"]["spec"]["params"]["normalization"] == "train"


def test_images_of_seventeen_levels_have_no_bits_per_dim(both: Path) -> None:
    for record in records_of(both).values():
        assert not any(name.startswith("bits_per_dim") for name in record.values)
    assert "pixel_likelihood" not in load_artifact(both / "evaluation/two-levels/64/0")[0]


def test_latents_of_trained_layers_are_not_stored(both: Path) -> None:
    assert not (both / "latents").exists()


def test_structure_and_weights_are_told(both: Path) -> None:
    arms = json.loads((both / "run.json").read_text())["arms"]
    assert arms["one-map"]["structure"] == "4x4 tokens, 1 level of 16"
    assert arms["two-levels"]["structure"] == "2x2 tokens, 1 level of 16; 4x4 tokens, 1 level of 8"
    model = from_pretrained(both / "tokenizers/two-levels/64/0").model
    assert arms["two-levels"]["parameters"] == n_parameters(model)  # moving averages are no parameters
    assert {arm["kind"] for arm in arms.values()} == {"end-to-end"}
    assert arms["two-levels"]["image_passes"] == TRAIN.epochs * 1197


def test_the_report_is_written(both: Path, alone: Path) -> None:
    for folder in (both, alone):
        page = (folder / "report.html").read_text()
        assert "two-levels" in page
        assert "Traceback" not in page


def test_a_prior_learns_the_codes_of_all_levels(alone: Path) -> None:
    for split in ("validation", "test"):
        values = records_of(alone)["two-levels", split].values
        assert 0 < values["bits_prior"] < BITS
        assert values["prior_bits_per_token"] == pytest.approx(values["bits_prior"] / 20)
    assert (alone / "samples/two-levels/64/0").is_dir()


def test_equal_stages_are_taken_from_another_run(both: Path, alone: Path) -> None:
    stages = json.loads((alone / "cost.json").read_text())["stages"]
    made = {stage["stage"] for stage in stages if not stage["reused"]}
    assert {"prior", "sample"} <= made
    assert not made & {"train", "tokenizer", "codes", "evaluate"}
    before, after = records_of(both)["two-levels", "test"], records_of(alone)["two-levels", "test"]
    assert before.values.items() <= after.values.items()


def test_a_finished_run_is_not_done_again(both: Path) -> None:
    before = {p: p.read_bytes() for p in both.rglob("*.safetensors")}
    told: list[str] = []
    run_recipe(config(), both, command="geovq run levels.json", tell=told.append)
    assert told == []
    assert {p: p.read_bytes() for p in both.rglob("*.safetensors")} == before


def test_a_hierarchy_of_one_level_runs_through(both: Path, tmp_path: Path) -> None:
    out = run_recipe(config(("one-level",)), tmp_path / "run", command="geovq run one.json")
    arms = json.loads((out / "run.json").read_text())["arms"]
    assert arms["one-level"]["structure"] == "4x4 tokens, 1 level of 16"
    assert (out / "report.html").exists()


@pytest.mark.parametrize("n_levels", [1, 2])
def test_a_collapsed_codebook_is_told_with_its_level(n_levels: int, tmp_path: Path) -> None:
    """A random codebook far from the latents, never revived: all images get the same few codes."""
    layer = {"kind": "vq", "params": {"n_codes": 64, "start": "random", "revival": 0, "commitment": 0.0}}
    bits = {1: 16 * 6, 2: 4 * 6 + 16 * 6}[n_levels]
    model = levels(*[16] * n_levels, layers=[layer] * n_levels)
    run = dataclasses.replace(config(("two-levels",)), bits=bits, models={"two-levels": model})
    told: list[str] = []
    out = run_recipe(run, tmp_path / "run", tell=told.append, stop_after="train")
    stored = load_artifact(out / "checkpoints/two-levels/0")[0]
    assert "collapse" in stored
    if n_levels == 2:
        assert stored["collapse"]["sentence"].startswith(("top: ", "bottom: "))
    assert any("two-levels, seed 0" in line and stored["collapse"]["sentence"] in line for line in told)


def test_codes_are_made_from_the_command_line(alone: Path, tmp_path: Path, capsys) -> None:
    tokenizer = str(alone / "tokenizers/two-levels/64/0")
    assert main(["tokenize", tokenizer, "digits", "--out", str(tmp_path / "codes"), "--latents"]) == 0
    assert "test: 300 images, 20 codes each" in capsys.readouterr().out
    stored = load_codes(tmp_path / "codes")
    assert np.array_equal(stored.splits["test"], load_codes(alone / "codes/two-levels/64/0").splits["test"])
    arrays = load_artifact(tmp_path / "codes")[1]
    assert arrays["test.mean"].shape == arrays["test.sigma"].shape == (300, 20 * 4)


def test_it_is_measured_from_the_command_line(alone: Path, capsys) -> None:
    assert main(["evaluate", str(alone / "tokenizers/two-levels/64/0"), "digits"]) == 0
    printed = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    values = records_of(alone)["two-levels", "test"].values
    for name in ("mse", "psnr", "bits_nominal", "bits_entropy", "utilization"):
        assert float(printed[name]) == pytest.approx(values[name], rel=1e-4), name


def test_it_is_sampled_from_the_command_line(alone: Path, tmp_path: Path) -> None:
    prior = str(alone / "priors/two-levels/64/0")
    assert main(["sample", prior, "-n", "4", "--out", str(tmp_path / "s.png"), "--seed", "3"]) == 0
    with Image.open(tmp_path / "s.png") as sheet:
        assert len(np.unique(np.asarray(sheet))) > 2


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokens", {"tokens": (4, 4)}),
        ("tune", {"tune": TuneConfig(epochs=1)}),
        ("aware", {"aware": AwareConfig()}),
        ("latent_map", {"name": "two-levels+metric", "latent_map": MapConfig("shared")}),
    ],
)
def test_what_needs_one_latent_is_refused_of_several_grids(digits: ImageSplits, name, change) -> None:
    run = config(("two-levels",))
    arm = dataclasses.replace(run.arms[0], **change)
    with pytest.raises(
        ConfigError,
        match=rf"arm '{re.escape(arm.name)}': '{name}' is set, and its model 'two-levels' is hierarchical",
    ):
        check_run(dataclasses.replace(run, arms=(arm,)), digits)


def test_a_quantizer_on_a_model_with_layers_is_refused(digits: ImageSplits) -> None:
    arm = ArmConfig("kmeans", "two-levels", quantizer=Spec("kmeans", {"n_codes": 4}))
    with pytest.raises(ConfigError, match="arm 'kmeans': its model 'two-levels' has its own layer"):
        check_run(config(("two-levels",), arms=(arm,)), digits)


def test_missed_bits_are_told_with_all_grids(digits: ImageSplits, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"arm 'two-levels': 2x2 tokens with alphabets \[16\], 4x4 tokens with alphabets \[8\] are 64 "
        r"bits an image; this run compares at 63",
    ):
        run_recipe(config(("two-levels",), bits=63), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (levels(16, 8, 8, 8), r"model 'two-levels': images are 8x8; .* multiples of 16"),
        (levels(16, 8, normalization=[[0.5] * 3, [0.5] * 3]), r"model 'two-levels': normalization has rows"),
        (levels(), "model 'two-levels': layers has 0 entries"),
        (levels(16, 8, blocks=-1), "model 'two-levels': widths .* blocks of at least 0"),
        (levels(16, 8, reconstruction="l2"), r"model 'two-levels': .*expected one of bce, mse, logistic"),
    ],
)
def test_models_that_cannot_be_are_refused_before_a_folder_is_made(model, message, tmp_path: Path) -> None:
    run = config(("two-levels",), models={"two-levels": model})
    with pytest.raises(ConfigError, match=message):
        run_recipe(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def write_pictures(folder: Path, n: int, channels: int) -> DataConfig:
    """PNG files of 32x32: a bright square somewhere on a gradient, 8 bits and noise in every channel."""
    rng = numpy_generator(0, "pictures")
    folder.mkdir()
    for i in range(n):
        ramp = np.linspace(40, 160, 32)[None, :, None].repeat(32, 0).repeat(channels, 2)
        top, left = rng.integers(0, 20, 2)
        ramp[top : top + 12, left : left + 12] += rng.integers(20, 90, channels)
        pixels = (ramp + rng.normal(0, 4, ramp.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(folder / f"{i:03}.png")
    return DataConfig(f"folder:{folder}")


@pytest.fixture(scope="module")
def pictures_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """8-bit colour images of 32x32: 4x4 above 8x8 codes, with either likelihood of pixels."""
    root = tmp_path_factory.mktemp("pictures")
    data = write_pictures(root / "images", 240, 3)
    models = {
        "squared": levels(16, 8, widths=[8, 8]),
        "logistic": levels(16, 8, widths=[8, 8], reconstruction="logistic"),
    }
    arms = tuple(ArmConfig(name, name) for name in models)
    run = RunConfig("pictures", data, 16 * 4 + 64 * 3, models, arms, None)
    return run, run_recipe(run, root / "run", command="geovq run pictures.json")


def test_a_folder_of_colour_images_runs_through(pictures_run) -> None:
    run, folder = pictures_run
    assert (folder / "report.html").exists()
    tokenizer = from_pretrained(folder / "tokenizers/squared/256/0")
    assert tokenizer.image_shape == (3, 32, 32)
    pixels = load(run.data).train.images(slice(None)).astype(np.float64)
    mean, deviation = tokenizer.architecture.params["normalization"]
    assert mean == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-6)
    assert deviation == pytest.approx(pixels.std((0, 2, 3)), abs=1e-6)


def mass(family: str, level: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Probability of every grey level 0..255 around decoded means, from the two edges of its cell."""
    cumulative = (lambda t: expit(t)) if family == "logistic" else norm.cdf
    upper = np.where(level == 255, 1.0, cumulative(((level + 0.5) / 255 - mean) / scale))
    lower = np.where(level == 0, 0.0, cumulative(((level - 0.5) / 255 - mean) / scale))
    return upper - lower


@pytest.mark.parametrize("arm", ["squared", "logistic"])
def test_bits_per_dim_are_those_of_the_definition(pictures_run, arm: str) -> None:
    run, folder = pictures_run
    likelihood = load_artifact(folder / f"evaluation/{arm}/256/0")[0]["pixel_likelihood"]
    tokenizer = from_pretrained(folder / f"tokenizers/{arm}/256/0")
    scales = np.array(likelihood["scales"]).reshape(-1, 1, 1)
    for split in ("validation", "test"):
        images = getattr(load(run.data), split).images(slice(None))
        decoded = tokenizer.decode(load_codes(folder / f"codes/{arm}/256/0").splits[split]).astype(np.float64)
        level = np.rint(images.astype(np.float64) * 255)
        bits = -np.log2(mass(likelihood["family"], level, decoded, scales)).sum((1, 2, 3)).mean()
        values = records_of(folder)[arm, split].values
        assert values["bits_per_dim_decoder"] == pytest.approx(bits / 3072, rel=1e-3)
        assert values["bits_per_dim"] == pytest.approx((bits + 256) / 3072, rel=1e-3)
        assert 0 < values["bits_per_dim_decoder"] < 8


def test_the_likelihood_is_no_worse_on_validation_images_than_the_decoders_own(pictures_run) -> None:
    _, folder = pictures_run
    tokenizer = from_pretrained(folder / "tokenizers/logistic/256/0")
    assert len(tokenizer.likelihood.scales) == 3
    stored = load_codes(folder / "codes/logistic/256/0").splits["validation"]
    images = load(pictures_run[0].data).validation.images(slice(None))
    level = np.rint(images.astype(np.float64) * 255)
    own = np.reshape(tokenizer.likelihood.scales, (-1, 1, 1))
    decoded = tokenizer.decode(stored).astype(np.float64)
    bits = -np.log2(mass("logistic", level, decoded, own)).sum((1, 2, 3)).mean() / 3072
    found = records_of(folder)["logistic", "validation"].values["bits_per_dim_decoder"]
    assert found <= bits * (1 + 1e-3)
    assert math.isfinite(bits)


def test_a_constant_channel_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "grey"
    data = write_pictures(folder, 20, 3)
    for path in folder.iterdir():
        with Image.open(path) as image:
            pixels = np.array(image)
        pixels[..., 2] = 7
        Image.fromarray(pixels).save(path)
    run = config(("two-levels",), data=data, bits=1)
    with pytest.raises(ConfigError, match=r"model 'two-levels': channel 2 .* training images; .*normaliz"):
        run_recipe(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_every_epoch_has_its_pictures_in_the_figures(both: Path) -> None:
    for model in ("one-map", "two-levels"):
        folder = both / "figures" / "epochs" / f"{model}-0"
        expected = {f"epoch_{e}_{kind}.png" for e in range(4) for kind in ("orig", "recon")}
        assert {path.name for path in folder.iterdir()} == expected
        originals = [np.asarray(Image.open(folder / f"epoch_{e}_orig.png")) for e in range(4)]
        assert all(np.array_equal(originals[0], other) for other in originals)
        decoded = [np.asarray(Image.open(folder / f"epoch_{e}_recon.png")).astype(float) for e in (1, 3)]
        errors = [np.square(pixels - originals[0]).mean() for pixels in decoded]
        assert errors[1] < errors[0], "training does not show"
    assert "Validation images during the training of two-levels" in (both / "report.html").read_text()


def test_pictures_of_epochs_come_along_with_a_reused_model(both: Path, tmp_path: Path) -> None:
    out = run_recipe(config(), tmp_path / "again", reuse=[both])
    for path in (both / "figures" / "epochs").rglob("*.png"):
        assert (out / path.relative_to(both)).read_bytes() == path.read_bytes()


def test_each_level_is_shown_with_the_finer_ones_at_their_mean(both: Path, digits: ImageSplits) -> None:
    stored, tensors = load_artifact(both / "levels/two-levels/64/0")
    tokenizer = from_pretrained(both / "tokenizers/two-levels/64/0")
    codes = load_codes(both / "codes/two-levels/64/0").splits
    assert stored["levels"] == ["top", "bottom"] and not (both / "levels" / "one-map").exists()
    shown = len(tensors["originals"])
    whole = tokenizer.decode(codes["test"][:shown])
    assert np.array_equal(tensors["1"], np.round(np.clip(whole, 0, 1) * 255).astype(np.uint8))
    mean = tokenizer.lookup(codes["train"]).mean(0, dtype=np.float64).astype(np.float32)
    latents = tokenizer.lookup(codes["test"][:shown])
    latents[:, tokenizer.level_sizes[0] :] = mean[tokenizer.level_sizes[0] :]
    from_top = tokenizer.decode_latents(latents)
    assert np.abs(tensors["0"] / 255 - from_top).max() < 0.01
    assert "What the levels of two-levels carry" in (both / "report.html").read_text()


def test_a_likelihood_of_8_bit_pixels_is_refused_for_other_images(digits: ImageSplits) -> None:
    run = config(("two-levels",))
    model = levels(16, 8, reconstruction="logistic")
    with pytest.raises(ConfigError, match="reconstruction is 'logistic', and images of digits are not 8-bit"):
        check_run(dataclasses.replace(run, models={"two-levels": model}), digits)
