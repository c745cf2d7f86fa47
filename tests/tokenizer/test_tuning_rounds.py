"""Rounds of tuning: codes are found anew with the tuned codebook, as long as that helps."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from geovq.config import TuneConfig
from geovq.errors import ConfigError, InputError
from geovq.quantizers import FittedQuantizer
from geovq.tokenizer import LatentTokenizer, finetune
from geovq.training import TrainingResult, loop

CONFIG = TuneConfig(epochs=2, batch_size=64, learning_rate=3e-3, parts="decoder+codebook", rounds=3)
ONCE = replace(CONFIG, rounds=1)
module = sys.modules[finetune.__module__]  # the package exports the function by its name


def error(tokenizer, images) -> float:
    pixels = images.images(slice(None))
    return float(np.square(tokenizer.reconstruct(pixels) - pixels).mean())


def tune(tokenizer, digits, config=CONFIG, **options):
    return finetune(tokenizer, digits.train, digits.validation, config, **options)


def logged(result, split: str, name: str) -> dict[int, float]:
    return {r["epoch"]: r["value"] for r in result.log if (r["split"], r["name"]) == (split, name)}


@pytest.mark.parametrize(
    "name", ["kmeans", "gaussian wasserstein", "product", "residual", "kmeans mapped", "ema"]
)
def test_rounds_find_codes_anew_and_lower_the_error(name, tokenizers, digits, tmp_path):
    tokenizer = tokenizers[name]
    pixels = digits.test.images(slice(None))
    codes, fingerprint = tokenizer.encode(pixels), tokenizer.fingerprint
    once, _ = tune(tokenizer, digits, ONCE)
    tuned, result = tune(tokenizer, digits)
    assert error(tuned, digits.validation) < error(once, digits.validation)
    assert not np.array_equal(tuned.encode(pixels), codes)
    assert tuned.layout == tokenizer.layout
    assert np.array_equal(tokenizer.encode(pixels), codes) and tokenizer.fingerprint == fingerprint
    errors = logged(result, "validation", "mse")
    assert errors[result.best_epoch] == pytest.approx(error(tuned, digits.validation), rel=1e-4)
    tuned.save_pretrained(tmp_path / "t")
    loaded = LatentTokenizer.from_pretrained(tmp_path / "t")
    assert loaded.fingerprint == tuned.fingerprint
    assert np.array_equal(loaded.reconstruct(pixels), tuned.reconstruct(pixels))


def test_the_epochs_of_all_rounds_are_one_log(tokenizers, digits):
    _, first = tune(tokenizers["product"], digits, ONCE)
    _, result = tune(tokenizers["product"], digits)
    assert result.epochs == 6
    assert list(logged(result, "validation", "total")) == list(range(7))
    assert list(logged(result, "train", "total")) == list(range(1, 7))
    assert result.log[: len(first.log)] == first.log
    totals = logged(result, "validation", "total")
    assert totals[result.best_epoch] == min(totals.values())
    assert result.best_epoch > first.best_epoch


def test_codes_of_a_further_round_are_the_nearest_in_the_codebook_of_the_last(tokenizers, digits):
    pixels = digits.test.images(slice(None))
    once, _ = tune(tokenizers["kmeans"], digits, ONCE)
    tuned, _ = tune(tokenizers["kmeans"], digits, replace(CONFIG, rounds=2))
    tokens = torch.from_numpy(tuned.posterior(pixels)[0]).reshape(-1, 4, 2).double()
    expected = torch.cdist(tokens, once.vectors.levels[0].detach().double()).argmin(2)
    assert np.array_equal(tuned.encode(pixels), expected)
    assert isinstance(tuned.quantizer, FittedQuantizer) and tuned.quantizer.kind == "residual"
    assert not torch.equal(tuned.vectors.levels[0], once.vectors.levels[0])


def test_a_round_that_does_not_help_is_dropped_and_the_last(tokenizers, digits, monkeypatch):
    once, first = tune(tokenizers["kmeans"], digits, ONCE)
    calls = []

    def useless(tokenizer: LatentTokenizer) -> FittedQuantizer:
        calls.append(tokenizer)
        return FittedQuantizer.of_codebook([np.full((16, 2), 50, np.float32)], beam=1)

    monkeypatch.setattr(module, "_with_tuned_codebook", useless)
    kept, result = tune(tokenizers["kmeans"], digits)
    assert len(calls) == 1
    assert kept.fingerprint == once.fingerprint
    assert (result.best_epoch, result.epochs) == (first.best_epoch, 4)
    assert list(logged(result, "validation", "total")) == list(range(5))


@pytest.mark.parametrize(
    ("losses", "best_epoch", "rounds", "kept"),
    [
        ([[9, 8, 7], [6, 5, 5.5], [4, 3, 2]], 6, 3, 3),
        ([[9, 8, 7], [6, 7, 8], [6.5, 6.4, 6.6]], 2, 3, 2),  # better by its new codes alone
        ([[9, 8, 7], [7, 7, 7], [1, 1, 1]], 2, 2, 1),
        ([[9, 8, 7], [8, 7.5, 6], [7, 6, 5]], 6, 3, 3),
    ],
)
def test_rounds_are_compared_by_the_lowest_loss_so_far(
    losses, best_epoch, rounds, kept, tokenizers, digits, monkeypatch
):
    done = []

    def scripted(tokenizer, train, validation, config, seed, checkpoints, progress):
        values = losses[len(done)]
        log = [
            {"epoch": epoch, "split": "validation", "name": "total", "value": value}
            for epoch, value in enumerate(values)
        ]
        done.append(tokenizer.changed(decoder=copy.deepcopy(tokenizer.decoder), vectors=None))
        return done[-1], TrainingResult(log, int(np.argmin(values)), len(values) - 1)

    monkeypatch.setattr(module, "_one_round", scripted)
    monkeypatch.setattr(module, "_with_tuned_codebook", lambda tokenizer: tokenizer.quantizer)
    best, result = tune(tokenizers["kmeans"], digits)
    assert len(done) == rounds
    assert best is done[kept - 1]
    assert result.best_epoch == best_epoch
    assert [row["epoch"] for row in result.log] == list(range(2 * rounds + 1))


@pytest.mark.parametrize("at", [3, 8, 11, 16])
def test_rounds_that_were_interrupted_end_with_the_same_bytes(at, tokenizers, few, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    config = replace(CONFIG, rounds=2)
    whole, result = tune(tokenizers["product"], few, config)
    steps = []

    def stop(done: int, total: int, message: str) -> None:
        steps.append(done)
        if len(steps) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(tokenizers["product"], few, config, checkpoints=tmp_path, progress=stop)
    interrupted = len(steps)
    resumed = tune(
        tokenizers["product"], few, config, checkpoints=tmp_path, progress=lambda done, *_: steps.append(done)
    )
    assert len(steps) - interrupted == 2 * 2 * 4 - at + 1  # the step that was cut short, and those after it
    assert resumed[0].fingerprint == whole.fingerprint
    assert resumed[1] == result


def test_levels_of_different_sizes_are_refused_before_anything_is_trained(tokenizers, digits):
    def trained(*_: object) -> None:
        pytest.fail("something was trained")

    with pytest.raises(InputError, match=r"levels of \[.*\] codes, and rounds is 3; .* set rounds to 1"):
        tune(tokenizers["scalar"], digits, progress=trained)


@pytest.mark.parametrize("parts", ["decoder", "rectifier"])
def test_rounds_need_a_tuned_codebook(parts):
    with pytest.raises(ConfigError, match=f"rounds is 2 with parts '{parts}'; codes are found anew with"):
        TuneConfig(epochs=1, parts=parts, rounds=2)
    with pytest.raises(ConfigError, match="rounds is 0; expected at least 1"):
        TuneConfig(epochs=1, rounds=0)
