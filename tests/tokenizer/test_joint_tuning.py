"""Encoder, codebook and decoder tuned together: better than the start, and a tokenizer like any other."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from geovq.config import AwareConfig, TuneConfig
from geovq.errors import InputError
from geovq.models.cut import cut
from geovq.models.weights import arrays_of
from geovq.quantizers import FittedQuantizer
from geovq.seeding import torch_generator
from geovq.tokenizer import LatentMap, LatentTokenizer, finetune
from geovq.tokenizer import joint as module
from geovq.tokenizer.joint import JointModel
from geovq.training import loop

CONFIG = TuneConfig(epochs=3, batch_size=64, learning_rate=3e-3, parts="all")
STARTS = ["kmeans", "residual", "product", "geodesic", "kmeans mapped", "ema", "all parts"]


def error(tokenizer, images) -> float:
    pixels = images.images(slice(None))
    return float(np.square(tokenizer.reconstruct(pixels) - pixels).mean())


def tune(tokenizer, digits, config=CONFIG, **options):
    return finetune(tokenizer.changed(aware=None), digits.train, digits.validation, config, **options)


def logged(result, name: str, split: str = "validation") -> list[float]:
    return [row["value"] for row in result.log if (row["split"], row["name"]) == (split, name)]


@pytest.mark.parametrize("name", STARTS)
def test_encoder_codebook_and_decoder_are_tuned_and_lower_the_error(name, tokenizers, digits, tmp_path):
    tokenizer = tokenizers[name].changed(aware=None)
    before, fingerprint = arrays_of(tokenizer), tokenizer.fingerprint
    tuned, result = tune(tokenizer, digits)
    assert error(tuned, digits.validation) < error(tokenizer, digits.validation)
    assert error(tuned, digits.test) < error(tokenizer, digits.test)
    assert tokenizer.fingerprint == fingerprint
    assert tuned.layout == tokenizer.layout
    after = arrays_of(tuned)
    changed = {n.split(".")[0] for n in after if n not in before or not np.array_equal(after[n], before[n])}
    assert changed == {"encoder", "quantizer", "decoder"}
    pixels = digits.test.images(slice(None))
    tuned.save_pretrained(tmp_path / "t")
    loaded = LatentTokenizer.from_pretrained(tmp_path / "t")
    assert loaded.fingerprint == tuned.fingerprint
    assert np.array_equal(loaded.encode(pixels), tuned.encode(pixels))
    assert np.array_equal(loaded.reconstruct(pixels), tuned.reconstruct(pixels))
    assert result.epochs == 3


def test_the_encoder_helps_beyond_the_codebook_and_decoder(tokenizers, digits):
    config = replace(CONFIG, epochs=6)
    jointly, _ = tune(tokenizers["kmeans"], digits, config)
    decoded, _ = tune(tokenizers["kmeans"], digits, replace(config, parts="decoder+codebook", rounds=2))
    assert error(jointly, digits.validation) < error(decoded, digits.validation)


def test_codes_are_the_nearest_of_the_tuned_latents_in_the_tuned_codebook(tokenizers, digits):
    pixels = digits.test.images(slice(None))
    tuned, _ = tune(tokenizers["kmeans mapped"], digits)
    mapped = tuned.latent_map(torch.from_numpy(tuned.posterior(pixels)[0]))
    distances = torch.cdist(cut(mapped, (2, 2)).double(), tuned.quantizer.codebook.double())
    assert np.array_equal(tuned.encode(pixels), distances.argmin(2))
    assert isinstance(tuned.quantizer, FittedQuantizer) and tuned.vectors is None


@pytest.mark.parametrize("loss", ["mse", "bce"])
@pytest.mark.parametrize("name", ["residual", "ema"])
def test_the_log_holds_the_error_that_evaluation_measures(name, loss, tokenizers, few):
    tuned, result = tune(tokenizers[name], few, replace(CONFIG, loss=loss))
    errors = logged(result, "mse")
    assert errors[0] == pytest.approx(error(tokenizers[name], few.validation), rel=1e-4)
    assert errors[result.best_epoch] == pytest.approx(error(tuned, few.validation), rel=1e-4)
    totals = logged(result, "total")
    assert totals[result.best_epoch] == min(totals)
    if loss == "mse":
        np.testing.assert_allclose(totals, 64 * np.array(errors), rtol=1e-5)


def test_a_tuning_that_only_harms_keeps_the_weights_before_it(tokenizers, few):
    tokenizer = tokenizers["residual"]
    tuned, result = tune(tokenizer, few, replace(CONFIG, learning_rate=30.0, epochs=1, warmup_epochs=0))
    totals = logged(result, "total")
    assert totals[1] > totals[0] and result.best_epoch == 0
    pixels = few.test.images(slice(None))
    assert error(tuned, few.test) == pytest.approx(error(tokenizer, few.test), rel=1e-4)
    assert np.array_equal(tuned.posterior(pixels)[0], tokenizer.posterior(pixels)[0])


def test_gradients_reach_the_vectors_exactly_and_the_latents_straight_through(tokenizers, digits):
    tokenizer = tokenizers["kmeans"]
    model = JointModel(tokenizer, digits.train, CONFIG).eval()
    images = torch.from_numpy(digits.train.images(slice(0, 32)))
    model.loss((images,), torch_generator(0, "loss", 0))["total"].backward()
    codes = torch.from_numpy(tokenizer.encode(images.numpy()))
    quantized = tokenizer.quantizer.codebook[codes].clone().requires_grad_()
    loss = (tokenizer.decode_tokens(quantized) - images).square().sum() / 32
    (of_tokens,) = torch.autograd.grad(loss, quantized)
    expected = torch.zeros(16, 2).index_add_(0, codes.flatten(), of_tokens.flatten(0, 1))
    torch.testing.assert_close(model.parts["vectors"].levels[0].grad, expected, rtol=1e-3, atol=1e-5)
    encoder = copy.deepcopy(tokenizer.encoder).requires_grad_(True)
    encoder(images)[0].backward(of_tokens.flatten(1))
    torch.testing.assert_close(
        model.parts["encoder"].head.bias.grad, encoder.head.bias.grad, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("scale", [0.1, 10.0])
@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_the_scale_of_the_latents_does_not_matter_to_the_commitment(loss, scale, tokenizers, digits):
    # Latents scaled before they are quantized and scaled back after: the same images, another distance.
    plain = tokenizers["kmeans"]
    scaled = plain.changed(
        latent_map=LatentMap(scale * np.eye(8)),
        quantizer=FittedQuantizer.of_codebook([scale * plain.quantizer.codebook.numpy()], beam=1),
    )
    images = torch.from_numpy(digits.train.images(slice(0, 64)))
    totals = []
    for tokenizer in (plain, scaled):
        model = JointModel(tokenizer, digits.train, replace(CONFIG, loss=loss)).train()
        totals.append(float(model.loss((images,), torch_generator(0, "loss", 0))["total"].detach()))
    assert totals[0] == pytest.approx(totals[1], rel=1e-3)


def test_the_commitment_is_what_the_decoder_makes_of_the_distance_to_the_codes(tokenizers, digits):
    tokenizer = tokenizers["kmeans"]
    images = digits.train.images(slice(0, 256))
    model = JointModel(tokenizer, digits.train, CONFIG).train()
    terms = model.loss((torch.from_numpy(images),), torch_generator(0, "loss", 0))
    latents = tokenizer.posterior(images)[0]
    of_codes = tokenizer.reconstruct(images)
    between = np.square(of_codes - tokenizer.decode_latents(latents)).sum() / 256
    expected = np.square(of_codes - images).sum() / 256 + module.COMMITMENT * between
    assert float(terms["total"].detach()) == pytest.approx(expected, rel=1e-4)


def test_without_commitment_the_latents_run_away_from_their_codes(tokenizers, digits, monkeypatch):
    config = replace(CONFIG, learning_rate=1e-2)
    _, held = tune(tokenizers["residual"], digits, config)
    monkeypatch.setattr(module, "COMMITMENT", 0.0)
    _, free = tune(tokenizers["residual"], digits, config)
    assert logged(free, "distortion")[-1] > 3 * logged(held, "distortion")[-1]


@pytest.mark.parametrize("at", [3, 8, 11])
def test_a_tuning_that_was_interrupted_ends_with_the_same_bytes(at, tokenizers, few, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    whole, result = tune(tokenizers["product"], few)
    steps = []

    def stop(done: int, total: int, message: str) -> None:
        steps.append(done)
        if len(steps) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(tokenizers["product"], few, checkpoints=tmp_path, progress=stop)
    resumed = tune(tokenizers["product"], few, checkpoints=tmp_path)
    assert resumed[0].fingerprint == whole.fingerprint
    assert resumed[1] == result


def test_seeds_draw_the_order_of_images(tokenizers, digits):
    config = replace(CONFIG, epochs=1)
    found = [tune(tokenizers["kmeans"], digits, config, seed=seed)[0].fingerprint for seed in (0, 1, 0)]
    assert found[0] == found[2] != found[1]


def test_a_frozen_encoder_is_tuned_as_a_copy(tokenizers, digits):
    encoder = copy.deepcopy(tokenizers["kmeans"].encoder).requires_grad_(False)
    frozen = tokenizers["kmeans"].changed(encoder=encoder)
    tuned, _ = tune(frozen, digits, replace(CONFIG, epochs=1))
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not torch.equal(tuned.encoder.head.weight, encoder.head.weight)


def test_a_jointly_tuned_tokenizer_encoded_with_its_decoder_in_mind_is_better_still(tokenizers, digits):
    tuned, _ = tune(tokenizers["residual"], digits)
    aware = tuned.changed(aware=AwareConfig("image"))
    assert error(aware, digits.test) < error(tuned, digits.test)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("gaussian precision", "'gaussian' are found with sigma.*'decoder\\+codebook'"),
        ("pullback", "codes of quantizer 'pullback' depend on the decoder"),
        ("decoded-kmeans", "codes of quantizer 'decoded-kmeans' depend on the decoder"),
        ("scalar", r"levels of \[.*\] codes; codes are found anew in levels of one size alone"),
    ],
)
def test_codes_that_cannot_be_found_anew_are_refused(name, match, tokenizers, few):
    with pytest.raises(InputError, match=match):
        tune(tokenizers[name], few, progress=lambda *_: pytest.fail("something was trained"))


def test_an_aware_tokenizer_is_tuned_before_it_is_made_aware(tokenizers, few):
    aware = tokenizers["kmeans"].changed(aware=AwareConfig())
    with pytest.raises(InputError, match="decoder-aware codes depend on the decoder"):
        finetune(aware, few.train, few.validation, CONFIG)


def test_latents_that_lose_nothing_are_refused(tokenizers, few):
    class Constant(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.latent = torch.nn.Parameter(torch.zeros(8))

        def forward(self, images):
            return self.latent.expand(len(images), 8)

    on_codes = tokenizers["kmeans"].changed(
        encoder=Constant(),
        quantizer=FittedQuantizer.of_codebook([np.eye(16, 2, dtype=np.float32)], beam=1),
    )
    with pytest.raises(InputError, match="all latents of the first 256 training images lie on the vectors"):
        tune(on_codes, few)
