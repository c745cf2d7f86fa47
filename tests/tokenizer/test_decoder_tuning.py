"""What decodes an arm's codes, tuned: better on validation data; codes and original stay as they were."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_tokenizers import FOLLOWING, KINDS
from torch import nn

from geovq.config import AwareConfig, TrainConfig, TuneConfig
from geovq.errors import InputError, TrainingError
from geovq.models.weights import arrays_of
from geovq.tokenizer import finetune
from geovq.tokenizer.finetune import tokenizer_codes
from geovq.training import loop

CONFIG = TuneConfig(epochs=3, batch_size=64, learning_rate=3e-3)
CHANGED = {
    "decoder": ("decoder.",),
    "decoder+codebook": ("decoder.", "vectors."),
    "rectifier": ("rectifier.",),
}


def error(tokenizer, images) -> float:
    pixels = images.images(slice(None))
    return float(np.square(tokenizer.reconstruct(pixels) - pixels).mean())


def tune(tokenizer, digits, config=CONFIG, **options):
    return finetune(tokenizer, digits.train, digits.validation, config, **options)


def logged(result, name: str) -> list[float]:
    """Validation values of one term, epoch by epoch."""
    return [row["value"] for row in result.log if (row["split"], row["name"]) == ("validation", name)]


@pytest.mark.parametrize("name", [name for name in KINDS if name not in FOLLOWING])
def test_tuning_a_decoder_lowers_the_validation_error_and_nothing_else_changes(name, tokenizers, digits):
    # What is chosen by images changes with the decoder, on purpose; here the codes are to stay.
    tokenizer = tokenizers[name].changed(aware=None)
    before = arrays_of(tokenizer)
    tuned, result = tune(tokenizer, digits)
    assert error(tuned, digits.validation) < error(tokenizer, digits.validation)
    pixels = digits.test.images(slice(None))
    assert np.array_equal(tuned.encode(pixels), tokenizer.encode(pixels))
    assert tuned.layout == tokenizer.layout
    assert tuned.fingerprint != tokenizer.fingerprint
    assert all(np.array_equal(array, before[name]) for name, array in arrays_of(tokenizer).items())
    assert {n for n, a in arrays_of(tuned).items() if not np.array_equal(a, before[n])} == {
        name for name in before if name.startswith("decoder.")
    }
    assert result.epochs == 3


@pytest.mark.parametrize("parts", CHANGED)
@pytest.mark.parametrize("name", ["ema", "scalar", "product", "kmeans mapped", "all parts"])
def test_only_the_parts_named_are_tuned_and_the_codes_stay(name, parts, tokenizers, digits):
    tokenizer = tokenizers[name].changed(aware=None)
    before, fingerprint = arrays_of(tokenizer), tokenizer.fingerprint
    tuned, _ = tune(tokenizer, digits, replace(CONFIG, parts=parts))
    after = arrays_of(tuned)
    assert before.keys() <= after.keys()
    new = {name for name in after if name not in before or not np.array_equal(after[name], before[name])}
    assert new == {name for name in after if name.startswith(CHANGED[parts])}
    pixels = digits.test.images(slice(None))
    assert np.array_equal(tuned.encode(pixels), tokenizer.encode(pixels))
    assert error(tuned, digits.validation) < error(tokenizer, digits.validation)
    assert tokenizer.fingerprint == fingerprint
    assert tuned.layout == tokenizer.layout


@pytest.mark.parametrize("parts", CHANGED)
def test_a_tuning_that_only_harms_keeps_the_weights_before_it(parts, tokenizers, few):
    tokenizer = tokenizers["all parts"].changed(aware=None)
    harm = replace(CONFIG, parts=parts, learning_rate=30.0, epochs=1, warmup_epochs=0)
    tuned, result = tune(tokenizer, few, harm)
    totals = logged(result, "total")
    assert totals[1] > totals[0] and result.best_epoch == 0
    pixels = few.test.images(slice(None))
    assert np.array_equal(tuned.reconstruct(pixels), tokenizer.reconstruct(pixels))


@pytest.mark.parametrize("parts", CHANGED)
def test_the_log_holds_the_error_that_evaluation_measures(parts, tokenizers, few):
    tuned, result = tune(tokenizers["residual"], few, replace(CONFIG, parts=parts))
    errors = logged(result, "mse")
    assert errors[0] == pytest.approx(error(tokenizers["residual"], few.validation), rel=1e-4)
    assert errors[result.best_epoch] == pytest.approx(error(tuned, few.validation), rel=1e-4)
    np.testing.assert_allclose(logged(result, "total"), 64 * np.array(errors), rtol=1e-5)


def test_cross_entropy_is_lowered_in_nats_an_image(tokenizers, digits):
    tokenizer = tokenizers["kmeans"]
    tuned, result = tune(tokenizer, digits, replace(CONFIG, loss="bce"))
    pixels = digits.validation.images(slice(None)).astype(np.float64)
    found = []
    for each in (tokenizer, tuned):
        decoded = each.reconstruct(digits.validation.images(slice(None))).astype(np.float64)
        nats = -(pixels * np.log(decoded) + (1 - pixels) * np.log1p(-decoded))
        found.append(nats.sum((1, 2, 3)).mean())
    totals = logged(result, "total")
    assert totals[0] == pytest.approx(found[0], rel=1e-4)
    assert totals[result.best_epoch] == pytest.approx(found[1], rel=1e-4) == pytest.approx(min(totals))
    assert found[1] < found[0]
    assert logged(result, "mse")[0] == pytest.approx(error(tokenizer, digits.validation), rel=1e-4)


def test_a_decoder_outside_the_unit_interval_has_a_cross_entropy(tokenizers, few):
    class Wide(nn.Module):
        """Images from a little below 0 to a little above 1."""

        def __init__(self, decoder: nn.Module) -> None:
            super().__init__()
            self.decoder = decoder

        def forward(self, latents):
            return self.decoder(latents) * 1.02 - 0.01

    wide = tokenizers["kmeans"].changed(decoder=Wide(copy.deepcopy(tokenizers["kmeans"].decoder)))
    assert wide.reconstruct(few.validation.images(slice(None))).min() < 0
    _, result = tune(wide, few, replace(CONFIG, loss="bce"))
    assert np.isfinite(logged(result, "total")).all()


def test_a_coarse_codebook_tuned_with_the_decoder_fits_better_than_the_decoder_alone(tokenizers, digits):
    tokenizer = tokenizers["product"]
    config = replace(CONFIG, epochs=6)
    errors = {}
    for parts in ("decoder", "decoder+codebook"):
        tuned, _ = tune(tokenizer, digits, replace(config, parts=parts))
        errors[parts] = error(tuned, digits.train)
    assert errors["decoder+codebook"] < errors["decoder"] < error(tokenizer, digits.train)


def test_a_rectifier_leaves_a_frozen_decoder_frozen_and_as_it_was(tokenizers, few):
    tokenizer = tokenizers["kmeans"]
    frozen = tokenizer.changed(decoder=copy.deepcopy(tokenizer.decoder).requires_grad_(False))
    tuned, _ = tune(frozen, few, replace(CONFIG, parts="rectifier"))
    assert tuned.decoder is frozen.decoder
    assert not any(parameter.requires_grad for parameter in tuned.decoder.parameters())
    latents = frozen.posterior(few.test.images(slice(0, 20)))[0]
    assert np.array_equal(tuned.decode_latents(latents), tokenizer.decode_latents(latents))


def test_a_rectifier_that_is_there_is_tuned_further(tokenizers, few):
    once, _ = tune(tokenizers["kmeans"], few, replace(CONFIG, parts="rectifier"))
    before = once.fingerprint
    _, result = tune(once, few, replace(CONFIG, parts="rectifier", learning_rate=1e-4), seed=1)
    assert logged(result, "mse")[0] == pytest.approx(error(once, few.validation), rel=1e-4)
    assert once.fingerprint == before


def test_seeds_draw_the_rectifier_and_the_order_of_images(tokenizers, few):
    config = replace(CONFIG, parts="rectifier", epochs=1)
    found = [tune(tokenizers["kmeans"], few, config, seed=seed)[0].fingerprint for seed in (0, 1, 0)]
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("name", FOLLOWING)
def test_codes_that_follow_the_decoder_allow_a_rectifier_alone(name, tokenizers, digits):
    tokenizer = tokenizers[name]
    kind = tokenizer.quantizer.kind
    for parts in ("decoder", "decoder+codebook"):
        with pytest.raises(InputError, match=f"codes of quantizer '{kind}' depend on the decoder"):
            tune(tokenizer, digits, replace(CONFIG, parts=parts))
    pixels = digits.test.images(slice(None))
    codes = tokenizer.encode(pixels)
    tuned, _ = tune(tokenizer, digits, replace(CONFIG, parts="rectifier"))
    assert np.array_equal(tuned.encode(pixels), codes)
    assert np.array_equal(tokenizer.encode(pixels), codes)
    assert error(tuned, digits.validation) < error(tokenizer, digits.validation)


def test_a_tuned_tokenizer_encoded_with_its_decoder_in_mind_is_better_still(tokenizers, digits):
    config = replace(CONFIG, parts="decoder+codebook")
    tuned, _ = tune(tokenizers["product"], digits, config)
    aware = tuned.changed(aware=AwareConfig("image"))
    assert error(aware, digits.test) < error(tuned, digits.test) < error(tokenizers["product"], digits.test)


def test_codes_may_be_given(tokenizers, digits):
    tokenizer = tokenizers["residual"]
    codes = {
        "train_codes": tokenizer_codes(tokenizer, digits.train),
        "validation_codes": tokenizer_codes(tokenizer, digits.validation),
    }
    assert np.array_equal(codes["train_codes"], tokenizer.encode(digits.train.images(slice(None))))
    given, computed = tune(tokenizer, digits, **codes), tune(tokenizer, digits)
    assert given[0].fingerprint == computed[0].fingerprint
    assert given[1] == computed[1]


def test_an_aware_tokenizer_is_tuned_before_it_is_made_aware(tokenizers, digits):
    with pytest.raises(InputError, match=r"decoder-aware codes depend on the decoder.*aware=None"):
        tune(tokenizers["kmeans"].changed(aware=AwareConfig()), digits)


def test_codes_that_do_not_fit_are_refused(tokenizers, digits):
    with pytest.raises(InputError, match=r"codes have shape \(1197, 3\); expected \(N, 4\)"):
        tune(tokenizers["kmeans"], digits, train_codes=np.zeros((1197, 3), np.int64))
    with pytest.raises(InputError, match=r"1196 codes .* 1197 images"):
        tune(tokenizers["kmeans"], digits, train_codes=np.zeros((1196, 4), np.int64))
    with pytest.raises(InputError, match=r"299 codes .* 300 images"):
        tune(tokenizers["kmeans"], digits, validation_codes=np.zeros((299, 4), np.int64))
    with pytest.raises(InputError, match="code 16 of image 0, slot 0 is outside its alphabet"):
        tune(tokenizers["kmeans"], digits, validation_codes=np.full((300, 4), 16))


def test_tuning_needs_a_tuning_configuration_of_known_parts():
    assert isinstance(CONFIG, TrainConfig)
    for settings in ({"parts": "encoder"}, {"loss": "mae"}):
        with pytest.raises(InputError, match="expected one of"):
            TuneConfig(epochs=1, **settings)


def test_a_decoder_that_is_not_finite_stops_the_tuning(tokenizers, few):
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((64,), float("nan")))

        def forward(self, latents):
            return (latents[:, :1] * 0 + self.weight).reshape(-1, 1, 8, 8)

    with pytest.raises(TrainingError, match="is nan; expected a finite number"):
        tune(tokenizers["kmeans"].changed(decoder=Broken()), few)


@pytest.mark.parametrize("parts", CHANGED)
def test_an_interrupted_tuning_goes_on(parts, tokenizers, few, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    config = replace(CONFIG, parts=parts)
    whole, result = tune(tokenizers["geodesic"], few, config)

    def stop(done: int, total: int, message: str) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(tokenizers["geodesic"], few, config, checkpoints=tmp_path, progress=stop)
    steps = []
    resumed = tune(
        tokenizers["geodesic"],
        few,
        config,
        checkpoints=tmp_path,
        progress=lambda done, *_: steps.append(done),
    )
    assert steps[0] == 7
    assert resumed[0].fingerprint == whole.fingerprint
    assert resumed[1] == result


def test_a_frozen_decoder_is_tuned_in_a_copy(tokenizers, digits):
    tokenizer = tokenizers["kmeans"]
    frozen = tokenizer.changed(decoder=copy.deepcopy(tokenizer.decoder).requires_grad_(False))
    tuned, _ = tune(frozen, digits)
    assert error(tuned, digits.validation) < error(frozen, digits.validation)
    assert not any(parameter.requires_grad for parameter in frozen.decoder.parameters())


@pytest.mark.parametrize("parts", CHANGED)
def test_a_tuned_tokenizer_is_stored_whole(parts, tokenizers, few, tmp_path):
    tuned, _ = tune(tokenizers["ema"], few, replace(CONFIG, parts=parts))
    tuned.save_pretrained(tmp_path / "t")
    loaded = type(tuned).from_pretrained(tmp_path / "t")
    pixels = few.test.images(slice(0, 20))
    assert np.array_equal(loaded.reconstruct(pixels), tuned.reconstruct(pixels))
    assert loaded.fingerprint == tuned.fingerprint
