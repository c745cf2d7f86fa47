"""A decoder tuned on its codes is better on validation data; codes and original stay as they were."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from geovq.config import TuneConfig
from geovq.errors import InputError
from geovq.models.weights import arrays_of
from geovq.tokenizer import finetune
from geovq.tokenizer.finetune import tokenizer_codes
from geovq.training import loop

CONFIG = TuneConfig(epochs=3, batch_size=64, learning_rate=3e-3)


def error(tokenizer, images) -> float:
    pixels = images.images(slice(None))
    return float(np.square(tokenizer.reconstruct(pixels) - pixels).mean())


def tune(tokenizer, digits, **options):
    return finetune(tokenizer, digits.train, digits.validation, CONFIG, **options)


def test_tuning_lowers_the_validation_error_and_nothing_else_changes(tokenizer, digits):
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


def test_the_log_holds_the_error_that_evaluation_measures(tokenizers, digits):
    tuned, result = tune(tokenizers["kmeans"], digits)
    errors = [row["value"] for row in result.log if (row["split"], row["name"]) == ("validation", "mse")]
    assert errors[0] == pytest.approx(error(tokenizers["kmeans"], digits.validation), rel=1e-4)
    assert errors[result.best_epoch] == pytest.approx(error(tuned, digits.validation), rel=1e-4)


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


def test_codes_that_do_not_fit_are_refused(tokenizers, digits):
    with pytest.raises(InputError, match=r"codes have shape \(1197, 3\); expected \(N, 4\)"):
        tune(tokenizers["kmeans"], digits, train_codes=np.zeros((1197, 3), np.int64))
    with pytest.raises(InputError, match=r"1196 codes .* 1197 images"):
        tune(tokenizers["kmeans"], digits, train_codes=np.zeros((1196, 4), np.int64))


def test_an_interrupted_tuning_goes_on(tokenizers, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    whole, result = tune(tokenizers["geodesic"], digits)

    def stop(done: int, total: int, message: str) -> None:
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(tokenizers["geodesic"], digits, checkpoints=tmp_path, progress=stop)
    steps = []
    resumed = tune(
        tokenizers["geodesic"], digits, checkpoints=tmp_path, progress=lambda done, *_: steps.append(done)
    )
    assert steps[0] == 30
    assert resumed[0].fingerprint == whole.fingerprint
    assert resumed[1] == result


def test_a_frozen_decoder_is_tuned_in_a_copy(tokenizers, digits):
    frozen = tokenizers["kmeans"].changed(decoder=
        copy.deepcopy(tokenizers["kmeans"].decoder).requires_grad_(False)
    )
    tuned, _ = tune(frozen, digits)
    assert error(tuned, digits.validation) < error(frozen, digits.validation)
    assert not any(parameter.requires_grad for parameter in frozen.decoder.parameters())


def test_a_tuned_tokenizer_is_stored_whole(tokenizers, digits, tmp_path):
    tuned, _ = tune(tokenizers["ema"], digits)
    tuned.save_pretrained(tmp_path / "t")
    loaded = type(tuned).from_pretrained(tmp_path / "t")
    pixels = digits.test.images(slice(0, 20))
    assert np.array_equal(loaded.reconstruct(pixels), tuned.reconstruct(pixels))
    assert loaded.fingerprint == tuned.fingerprint
