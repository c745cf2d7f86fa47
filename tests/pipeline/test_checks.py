"""What could fail after hours is refused before any folder is made, and the arm is named."""

import dataclasses
from pathlib import Path

import pytest
import remedies

from geovq.config import ArmConfig, RunConfig, Spec, TuneConfig, with_overrides
from geovq.data import ImageSplits, load
from geovq.errors import ConfigError
from geovq.pipeline.checks import check_run
from geovq.pipeline.run import run_recipe
from geovq.vq import EMAVQ

MAP = '{"per": "whole"}'


@pytest.fixture(scope="module")
def splits() -> ImageSplits:
    return load(remedies.config().data)


def with_arms(*arms: ArmConfig, bits: float = 8, **vae: object) -> RunConfig:
    return dataclasses.replace(remedies.config(), arms=arms, bits=bits, models=remedies.models(**vae))


def post_hoc(kind: str, tokens: tuple[int, int] = remedies.WHOLE, **params: object) -> ArmConfig:
    return ArmConfig("arm", "vae", tokens, Spec(kind, params))


def test_all_remedies_together_are_in_order(splits: ImageSplits) -> None:
    check_run(remedies.config(), splits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (['arms.continuous.tune={"epochs": 1}'], "arm 'continuous': without codes .* 'tune' could do; leave"),
        (["arms.continuous.aware={}"], "arm 'continuous': without codes .* 'aware' could do; leave it out"),
        ([f"arms.continuous.latent_map={MAP}"], "arm 'continuous': without codes .* 'latent_map' could do"),
        (
            [f"arms.ema.latent_map={MAP}"],
            "arm 'ema': its layer was trained in the latent as it is; leave out",
        ),
        (
            ["arms.kmeans+metric.latent_map.per=site"],
            r"'latent_map.per' is 'site' for .* \(8,\); expected 'wh",
        ),
        (["arms.kmeans+metric.latent_map.per=shared"], "per' is 'shared' for .*; expected 'whole'"),
        (["arms.kmeans+metric.latent_map.floor=0"], "floor 0; expected at least 1 image and a floor above 0"),
        (["arms.kmeans+metric.latent_map.floor=1.5"], "floor 1.5; expected"),
        (["arms.kmeans+metric.latent_map.n_images=0"], "n_images 0 and floor 0.01; expected at least 1"),
        (["arms.pullback.tune.parts=decoder"], "arm 'pullback': codes of quantizer 'pullback' depend on the"),
        (
            ['arms.decoded-kmeans.tune={"epochs": 1}'],
            "arm 'decoded-kmeans': codes of quantizer 'decoded-kmeans' depend on the decoder",
        ),
        (
            ['arms.scalar-kl.tune={"epochs": 1, "parts": "decoder+codebook", "rounds": 2}'],
            "arm 'scalar-kl': levels of quantizer 'scalar' may have different sizes.* rounds of tune to 1",
        ),
        (
            ['arms.scalar-kl.tune={"epochs": 1, "parts": "all"}'],
            "arm 'scalar-kl': codes of quantizer 'scalar' are found with sigma",
        ),
        (
            ['arms.pullback.tune={"epochs": 1, "parts": "all"}'],
            "arm 'pullback': codes of quantizer 'pullback' depend on the decoder .*'rectifier'",
        ),
        (
            ['arms.decoded-kmeans.tune={"epochs": 1, "parts": "all"}'],
            "arm 'decoded-kmeans': codes of quantizer 'decoded-kmeans' depend on the decoder",
        ),
        (["arms.scalar-kl.quantizer.params.allotment=kld"], "arm 'scalar-kl': .*'kld'"),
        (
            ["arms.product.quantizer.params.n_groups=0"],
            "arm 'product': .*n_groups|arm 'product': .*alphabets",
        ),
        (["arms.pullback.quantizer.params.n_codes=2000"], "arm 'pullback': 2x2 tokens with alphabets"),
        (["arms.decoded-kmeans.quantizer.params.n_codes=2000"], "2000 codes for 1197 points"),
        (["arms.residual.name=a/b"], "name 'a/b' cannot be a folder's; expected letters"),
        (["arms.residual.name=+tuned"], r"name '\+tuned' cannot be a folder's"),
        (["arms.residual.name=kmeans+metric+tuned"], r"two arms are called 'kmeans\+metric\+tuned'"),
    ],
)
def test_what_no_run_could_do_is_refused_with_the_arm(
    splits: ImageSplits, changes: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_run(with_overrides(remedies.config(), changes), splits)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("arms.ema.tune.parts=encoder", 'tune.parts\' is "encoder"; expected one of decoder, decoder+cod'),
        ("arms.ema.tune.loss=mae", 'tune.loss\' is "mae"; expected one of mse, bce'),
        ("arms.pullback.tune.rounds=2", "rounds is 2 with parts 'rectifier'"),
        ("arms.residual.tune.rounds=0", "rounds is 0; expected at least 1"),
        ("arms.ema.aware.by=latent", 'aware.by\' is "latent"; expected one of image, metric'),
        ("arms.ema.aware.n_candidates=0", "n_candidates is 0; expected at least 1"),
        ("arms.ema.aware.sweeps=0", "sweeps is 0; expected at least 1"),
        ("arms.kmeans+metric.latent_map.per=chunk", 'per\' is "chunk"; expected one of whole, shared, site'),
        ("arms.ema.aware.beam=4", "did you mean"),
    ],
)
def test_settings_of_remedies_are_checked_as_they_are_read(change: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_overrides(remedies.config(), [change])
    assert message in str(caught.value) or "unknown key 'arms.7.aware.beam'" in str(caught.value)


@pytest.mark.parametrize(("per", "fits"), [("whole", False), ("shared", True), ("site", True)])
def test_latent_maps_have_one_matrix_or_one_a_site(splits: ImageSplits, per: str, fits: bool) -> None:
    arm = dataclasses.replace(
        post_hoc("kmeans", (2, 2), n_codes=4),
        name="arm+metric",
        latent_map=remedies.MapConfig(per, n_images=10),
    )
    config = with_arms(arm, spatial=True)
    if fits:
        check_run(config, splits)
        return
    with pytest.raises(
        ConfigError, match=r"arm 'arm\+metric': .*'whole' for .* \(8, 2, 2\); expected 'shared' or 's"
    ):
        check_run(config, splits)


@pytest.mark.parametrize(
    ("arm", "bits"),
    [
        (post_hoc("scalar", n_codes=2), 8),
        (post_hoc("scalar", n_codes=3), 12),
        (post_hoc("scalar", n_codes=3, allotment="kl"), 12),
        (post_hoc("scalar", (2, 2), n_codes=3), 4 * 3),
        (post_hoc("tokenbridge", n_codes=4), 16),
        (post_hoc("product", n_codes=16, n_groups=3), 12),
        (post_hoc("product", n_codes=4, n_groups=20), 16),
        (post_hoc("optimized-product", (1, 2), n_codes=16, n_groups=2), 16),
        (post_hoc("residual", n_codes=64, n_levels=5), 30),
        (post_hoc("pullback", (4, 1), n_codes=8), 12),
        (post_hoc("gaussian-quant", (2, 2), n_codes=8), 12),
    ],
)
def test_bits_are_counted_before_anything_is_fitted(
    splits: ImageSplits, arm: ArmConfig, bits: int, tmp_path: Path
) -> None:
    check_run(with_arms(arm, bits=bits), splits)
    with pytest.raises(ConfigError, match=f"arm 'arm': .* are {bits} bits an image; this run compares at"):
        run_recipe(with_arms(arm, bits=bits + 1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_decoder_takes_whole_latents_alone(splits: ImageSplits) -> None:
    check_run(with_arms(post_hoc("decoded-kmeans", n_codes=256)), splits)
    with pytest.raises(
        ConfigError, match=r"arm 'arm': decoder ConvDecoder failed on a latent of shape \(2,\)"
    ):
        check_run(with_arms(post_hoc("decoded-kmeans", (2, 2), n_codes=4)), splits)


@pytest.mark.parametrize(
    ("name", "latent_map", "message"),
    [
        ("kmeans", remedies.MapConfig(), r"latent_map is set; expected a name with '\+metric'"),
        ("kmeans+metric", None, r"latent_map is not set; expected a name with '\+metric'"),
        ("kmeans+tuned", None, r"'\+tuned' is added to the name"),
        ("kmeans+metric+aware", remedies.MapConfig(), r"'\+aware' is added to the name"),
    ],
)
def test_a_name_says_what_was_done_to_the_arm(splits: ImageSplits, name, latent_map, message) -> None:
    arm = dataclasses.replace(post_hoc("kmeans", (2, 2), n_codes=4), name=name, latent_map=latent_map)
    with pytest.raises(ConfigError, match=message):
        check_run(with_arms(arm), splits)


def test_codes_fitted_in_the_decoders_metric_need_points_with_a_metric(splits: ImageSplits, monkeypatch):
    monkeypatch.setattr("geovq.pipeline.checks.METRIC_IMAGES", 3)
    with pytest.raises(ConfigError, match=r"16 codes for 12 points \(3 images of 4 tokens\)"):
        check_run(with_arms(post_hoc("pullback", (2, 2), n_codes=16), bits=16), splits)


TUNE_ALL = TuneConfig(epochs=1, parts="all")
CODES_BY_LATENT = {
    "kmeans": post_hoc("kmeans", (2, 2), n_codes=4),
    "residual": post_hoc("residual", n_codes=16, n_levels=2),
    "product": post_hoc("product", n_codes=4, n_groups=4),
    "geodesic": post_hoc("geodesic", (2, 2), n_codes=4, n_neighbors=5),
    "one coordinate a token": post_hoc("scalar", (4, 2), n_codes=2),
}


@pytest.mark.parametrize("arm", CODES_BY_LATENT.values(), ids=CODES_BY_LATENT)
def test_codes_of_the_latent_alone_may_be_tuned_jointly(splits: ImageSplits, arm: ArmConfig) -> None:
    check_run(with_arms(dataclasses.replace(arm, tune=TUNE_ALL)), splits)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (post_hoc("gaussian", (2, 2), n_codes=4, metric="wasserstein"), "codes .* are found with sigma"),
        (post_hoc("gaussian", (2, 2), n_codes=4, metric="precision"), "codes .* are found with sigma"),
        (post_hoc("scalar", n_codes=2), "levels .* may have different sizes"),
    ],
)
def test_codes_that_joint_tuning_cannot_find_anew_are_refused(
    splits: ImageSplits, arm: ArmConfig, message: str
) -> None:
    check_run(with_arms(dataclasses.replace(arm, tune=remedies.TUNE)), splits)
    with pytest.raises(ConfigError, match=f"arm 'arm': {message}.*parts of tune to 'decoder\\+codebook'"):
        check_run(with_arms(dataclasses.replace(arm, tune=TUNE_ALL)), splits)


@pytest.mark.parametrize(
    ("tune", "remedy"),
    [(TUNE_ALL, r"parts of tune to 'decoder\+codebook'"), (remedies.ROUNDS, "rounds of tune")],
)
def test_a_layer_of_unequal_levels_has_no_codes_found_anew(splits: ImageSplits, tune, remedy, monkeypatch):
    monkeypatch.setattr(EMAVQ, "n_codes", (4, 2))
    arm = ArmConfig("arm", "vqvae", tune=remedies.TUNE)
    check_run(with_arms(arm, bits=12), splits)
    with pytest.raises(ConfigError, match=rf"arm 'arm': levels of its layer have sizes \[4, 2\].*{remedy}"):
        check_run(with_arms(dataclasses.replace(arm, tune=tune), bits=12), splits)
