"""A whole run of arms with maps, tuned codebooks, rectifiers and decoder-aware encoding."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import remedies

from geovq.config import AwareConfig, DataConfig, RunConfig, with_overrides
from geovq.data import load
from geovq.errors import ConfigError
from geovq.evaluation.records import Record, read_metrics
from geovq.pipeline.arms import arms_of
from geovq.pipeline.code_priors import best_arms
from geovq.pipeline.context import Context
from geovq.pipeline.run import run_recipe
from geovq.pipeline.stages import Stages
from geovq.pipeline.tools import evaluate, tokenize
from geovq.storage.artifact import load_artifact
from geovq.tokenizer.codes import load_codes
from geovq.tokenizer.latent import LatentTokenizer

ARMS = [
    "continuous",
    "kmeans+metric",
    "kmeans+metric+tuned",
    "kmeans+metric+tuned+aware",
    "residual",
    "residual+tuned",
    "residual+tuned+aware",
    "pullback",
    "pullback+tuned",
    "scalar-kl",
    "scalar-kl+aware",
    "product",
    "decoded-kmeans",
    "ema",
    "ema+tuned",
    "ema+tuned+aware",
]


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return remedies.config()


@pytest.fixture(scope="module")
def run(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_recipe(config, tmp_path_factory.mktemp("remedies") / "run", command="geovq run remedies")


@pytest.fixture(scope="module")
def described(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def tokenizer_of(run: Path, arm: str) -> LatentTokenizer:
    return LatentTokenizer.from_pretrained(run / "tokenizers" / arm / "8" / "0")


def errors_of(run: Path, split: str) -> dict[str, float]:
    return {r.arm: r.values["mse"] for r in read_metrics(run / "metrics.json") if r.split == split}


def test_tuned_and_aware_arms_follow_the_arm_they_come_from(config: RunConfig, run: Path) -> None:
    assert [arm.name for arm in arms_of(config)] == ARMS
    assert {record.arm for record in read_metrics(run / "metrics.json")} == set(ARMS)
    for arm in arms_of(config):
        assert not arm.plain.tuned and not arm.plain.aware
        assert arm.name.startswith(arm.plain.name)


def test_a_run_without_a_prior_goes_on_to_its_report(run: Path, described: dict) -> None:
    report = (run / "report.html").read_text()
    assert all(arm in report for arm in ARMS)
    assert not (run / "priors").exists()
    assert all("bits_prior" not in record.values for record in read_metrics(run / "metrics.json"))
    assert len(described["best_arms"]) == 2


def test_every_arm_has_the_bits_of_the_run(run: Path) -> None:
    for record in read_metrics(run / "metrics.json"):
        if record.arm != "continuous":
            assert record.bits == 8 and record.values["bits_nominal"] == pytest.approx(8)


def test_remedies_lower_the_error_of_their_arm(run: Path) -> None:
    mse = errors_of(run, "validation")
    for arm in ("kmeans+metric", "residual", "pullback", "ema"):
        assert mse[f"{arm}+tuned"] < mse[arm]
    for arm in ("kmeans+metric+tuned", "scalar-kl", "ema+tuned"):
        assert mse[f"{arm}+aware"] < mse[arm]
    assert mse["residual+tuned+aware"] != mse["residual+tuned"]


@pytest.mark.parametrize("arm", ARMS[1:])
def test_recorded_errors_are_those_of_the_stored_tokenizers(run: Path, arm: str) -> None:
    images = load(DataConfig("digits")).test.images(slice(None))
    found = np.square(tokenizer_of(run, arm).reconstruct(images).astype(np.float64) - images).mean()
    # Batches cut elsewhere round differently; a code on a border may flip.
    assert found == pytest.approx(errors_of(run, "test")[arm], rel=1e-3)


def test_stored_tokenizers_have_the_parts_of_their_arm(run: Path) -> None:
    def parts(arm: str) -> dict:
        tokenizer = tokenizer_of(run, arm)
        names = ("latent_map", "vectors", "rectifier", "aware")
        return {name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name) is not None}

    assert set(parts("kmeans+metric")) == {"latent_map"}
    assert set(parts("kmeans+metric+tuned")) == {"latent_map", "vectors"}
    assert set(parts("kmeans+metric+tuned+aware")) == {"latent_map", "vectors", "aware"}
    assert parts("scalar-kl+aware") == {"aware": AwareConfig()}
    assert set(parts("pullback")) == set(parts("decoded-kmeans")) == set(parts("product")) == set()
    assert set(parts("pullback+tuned")) == {"rectifier"}
    assert parts("residual+tuned+aware")["aware"] == AwareConfig("metric")


def test_a_rectifier_and_a_map_leave_the_trained_decoder_as_it_was(run: Path) -> None:
    trained = load_artifact(run / "checkpoints/vae/0")[1]
    for arm in ("pullback", "pullback+tuned", "kmeans+metric", "scalar-kl+aware", "decoded-kmeans"):
        stored = load_artifact(run / "tokenizers" / arm / "8" / "0")[1]
        halves = {name for name in trained if name.startswith(("encoder.", "decoder."))}
        assert all(np.array_equal(stored[name], trained[name]) for name in halves), arm


def test_codes_of_a_metric_arm_are_fitted_in_the_decoders_metric(run: Path) -> None:
    config = load_artifact(run / "tokenizers/pullback/8/0")[0]
    assert config["quantizer"]["kind"] == "pullback"
    assert tokenizer_of(run, "pullback").quantizer.uses_metric


def test_training_images_are_not_encoded_where_that_calls_the_decoder(run: Path) -> None:
    folders = {arm.parent.parent.name: arm for arm in (run / "codes").glob("*/8/0")}
    sizes = {arm: {s: len(c) for s, c in load_codes(f).splits.items()} for arm, f in folders.items()}
    slow = {name for name in ARMS if name.endswith("+aware")} | {"pullback"}
    fast = {"kmeans+metric", "residual", "residual+tuned", "scalar-kl", "product", "decoded-kmeans", "ema"}
    held_out = {"validation": 300, "test": 300}
    for arm in slow:
        assert sizes.pop(arm) == held_out, arm
    for arm in fast:
        assert sizes.pop(arm) == {"train": 1197, **held_out}, arm
    assert not sizes
    for record in read_metrics(run / "metrics.json"):
        coded = record.arm != "continuous"
        assert ("bits_nominal" in record.values) == coded
        without = record.arm in slow or record.arm == "pullback+tuned"
        assert ("bits_entropy" in record.values) == (coded and not without), record.arm


def test_a_rectifier_is_tuned_on_all_training_images_even_if_few_are_in_the_histogram(run: Path) -> None:
    log = json.loads((run / "tokenizers/pullback+tuned/8/0/training.json").read_text())["log"]
    values = [row["value"] for row in log if (row["split"], row["name"]) == ("validation", "mse")]
    assert values[-1] < values[0]
    assert values[0] == pytest.approx(errors_of(run, "validation")["pullback"], rel=1e-4)


def test_arms_that_encode_few_images_have_no_prior(config: RunConfig, run: Path) -> None:
    context = Context(config, load(config.data), Stages(run, [], lambda line: None), {})
    # The later in the list the better, so that without the rule two aware arms would be taken.
    records = [
        Record(arm.name, 8, 0, "validation", 300, {"mse": 1 / (1 + place)})
        for place, arm in enumerate(context.arms)
    ]
    assert [arm.name for arm in best_arms(context, records)] == ["decoded-kmeans", "ema+tuned"]
    slow = replace(config, arms=tuple(arm for arm in config.arms if arm.name in ("continuous", "pullback")))
    assert best_arms(replace(context, config=slow), records) == []


def test_what_was_done_is_said(described: dict) -> None:
    about = {arm: facts["about"] for arm, facts in described["arms"].items()}
    on = "on the frozen latents of vae"
    metric = f"kmeans (n_codes 4) {on}, 2x2 tokens, in the mean pull-back metric"
    tuned = f"{metric}; decoder and codebook tuned on its codes"
    image = "; encoding re-ranks 4 codes a slot decoded against the image"
    residual = f"residual (n_codes 16, n_levels 2, beam 8) {on}, 1x1 tokens"
    rounds = f"{residual}; decoder and codebook tuned on its codes in 2 rounds"
    scalar = f"scalar (n_codes 2, allotment kl) {on}, 1x1 tokens"
    ema = "vqvae, trained end to end"
    pullback = f"pullback (n_codes 4) {on}, 2x2 tokens"
    assert about == {
        "continuous": "posterior means of vae, not quantized",
        "kmeans+metric": metric,
        "kmeans+metric+tuned": tuned,
        "kmeans+metric+tuned+aware": tuned + image,
        "residual": residual,
        "residual+tuned": rounds,
        "residual+tuned+aware": f"{rounds}; encoding re-ranks 4 codes a slot in the local pull-back metric",
        "pullback": pullback,
        "pullback+tuned": f"{pullback}; rectifier tuned on its codes",
        "scalar-kl": scalar,
        "scalar-kl+aware": scalar + image,
        "product": f"product (n_codes 4, n_groups 4) {on}, 1x1 tokens",
        "decoded-kmeans": f"decoded-kmeans (n_codes 256) {on}, 1x1 tokens",
        "ema": ema,
        "ema+tuned": f"{ema}; decoder and codebook tuned on its codes",
        "ema+tuned+aware": f"{ema}; decoder and codebook tuned on its codes{image}",
    }
    passes = {arm: facts["image_passes"] / 1197 for arm, facts in described["arms"].items()}
    epochs = {arm: 4 + 2 * ("+tuned" in arm) + 2 * ("residual+tuned" in arm) for arm in ARMS}
    assert passes == epochs
    assert described["arms"]["scalar-kl"]["structure"].startswith("1x1 tokens, ")
    assert described["arms"]["decoded-kmeans"]["structure"] == "1x1 tokens, 1 level of 256"


def test_a_finished_run_is_not_done_again(config: RunConfig, run: Path) -> None:
    told: list[str] = []
    metrics = (run / "metrics.json").read_bytes()
    run_recipe(config, run, command="geovq run remedies", tell=told.append)
    assert told == []
    assert (run / "metrics.json").read_bytes() == metrics


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        (
            ["arms.scalar-kl.aware.n_candidates=2", "arms.ema.aware.by=metric"],
            {"scalar-kl+aware", "ema+tuned+aware"},
        ),
        (["arms.residual.tune.epochs=1"], {"residual+tuned", "residual+tuned+aware"}),
        (
            ["arms.kmeans+metric.latent_map.floor=0.1"],
            {"kmeans+metric", "kmeans+metric+tuned", "kmeans+metric+tuned+aware"},
        ),
        (["arms.pullback.tune=null", "arms.kmeans+metric.aware=null"], set()),
    ],
)
def test_only_what_a_change_concerns_is_made_again(
    config: RunConfig, run: Path, tmp_path: Path, changes: list[str], made: set[str]
) -> None:
    told: list[str] = []
    changed = with_overrides(config, changes)
    run_recipe(changed, tmp_path / "run", reuse=[run], stop_after="tokenizers", tell=told.append)
    assert {line.split(": ")[1].removesuffix(", seed 0") for line in told} == made
    assert not any(line.startswith(("train:", "latents:")) for line in told)


def test_aware_tokenizers_are_used_on_their_own(run: Path, tmp_path: Path) -> None:
    folder = run / "tokenizers/ema+tuned+aware/8/0"
    stored = tokenize(folder, DataConfig("digits"), tmp_path / "codes", latents=True)
    assert np.array_equal(stored.splits["test"], load_codes(run / "codes/ema+tuned+aware/8/0").splits["test"])
    assert load_artifact(tmp_path / "codes")[1]["test.mean"].shape == (300, 8)
    measured = evaluate(folder, DataConfig("digits"))
    assert measured["mse"] == pytest.approx(errors_of(run, "test")["ema+tuned+aware"], rel=1e-3)


def test_an_arm_may_not_have_the_name_of_anothers_tuned_one(config: RunConfig) -> None:
    renamed = replace(config.arms[5], name="ema+tuned+aware")
    with pytest.raises(ConfigError, match=r"two arms are called 'ema\+tuned\+aware'; give each its own"):
        arms_of(replace(config, arms=(*config.arms, renamed)))
