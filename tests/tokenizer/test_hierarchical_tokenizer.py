"""The tokenizer of a hierarchical model keeps the contract of all tokenizers, with a grid a level."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from geovq.config import PriorConfig, Spec, TrainConfig
from geovq.data.splits import ImageSplits
from geovq.errors import ConfigError, CorruptArtifactError, InputError
from geovq.evaluation.rate import prior_rate
from geovq.models.weights import arrays_of
from geovq.priors import load_prior, save_prior
from geovq.registry import build
from geovq.seeding import seeded_weights, torch_generator
from geovq.storage.artifact import CONFIG, TENSORS, load_artifact, save_artifact, seal
from geovq.tokenizer import (
    HierarchicalTokenizer,
    LatentTokenizer,
    StoredCodes,
    from_pretrained,
    image_module,
    load_codes,
    save_codes,
)
from geovq.training import ImageSource, TensorSource, fit

EMA = {"kind": "ema", "params": {"n_codes": 16}}
RESIDUAL = {"kind": "residual", "params": {"n_levels": 2, "layer": {"kind": "ema", "params": {"n_codes": 4}}}}
PRODUCT = {"kind": "product", "params": {"n_groups": 2, "layer": {"kind": "ema", "params": {"n_codes": 4}}}}
FSQ = {"kind": "fsq", "params": {"levels": [3, 3, 2, 2]}}
LEVELS = {
    "one": [EMA],
    "two": [EMA, EMA],
    "three": [EMA, {"kind": "rotation", "params": {"n_codes": 8}}, EMA],
    "residual above": [RESIDUAL, EMA],
    "product below": [EMA, PRODUCT],
    "fsq below": [EMA, FSQ],
    "standardised": [EMA, EMA],
    "logistic": [EMA, EMA],
}
FURTHER = {"standardised": {"normalization": [[0.3], [0.4]]}, "logistic": {"reconstruction": "logistic"}}
SHAPES = {
    "one": [("bottom", 4, 4, (16,))],
    "two": [("top", 2, 2, (16,)), ("bottom", 4, 4, (16,))],
    "three": [("top", 1, 1, (16,)), ("middle", 2, 2, (8,)), ("bottom", 4, 4, (16,))],
    "residual above": [("top", 2, 2, (4, 4)), ("bottom", 4, 4, (16,))],
    "product below": [("top", 2, 2, (16,)), ("bottom", 4, 4, (4, 4))],
    "fsq below": [("top", 2, 2, (16,)), ("bottom", 4, 4, (36,))],
    "standardised": [("top", 2, 2, (16,)), ("bottom", 4, 4, (16,))],
    "logistic": [("top", 2, 2, (16,)), ("bottom", 4, 4, (16,))],
}
TRAIN = TrainConfig(epochs=12, batch_size=16, learning_rate=5e-3)
PRIORS = {
    "uniform": Spec("uniform"),
    "unigram": Spec("unigram"),
    "transformer": Spec("transformer", {"width": 16, "n_layers": 1, "n_heads": 2, "seed": 0}),
}


def architecture(name: str) -> Spec:
    shared = {"latent_dim": 4, "widths": [8], "blocks": 1, "reconstruction": "bce"}
    return Spec("vqvae2", {**shared, "layers": LEVELS[name], **FURTHER.get(name, {})})


def around(name: str, image_shape) -> HierarchicalTokenizer:
    with seeded_weights(0, name):
        model = build("model", architecture(name), image_shape=image_shape)
    return HierarchicalTokenizer(model, image_shape=image_shape, architecture=architecture(name))


@pytest.fixture(scope="module")
def hierarchical(few: ImageSplits) -> dict[str, HierarchicalTokenizer]:
    made = {}
    for name in LEVELS:
        with seeded_weights(0, name):
            model = build("model", architecture(name), image_shape=few.image_shape)
        fit(model, ImageSource(few.train), ImageSource(few.validation), TRAIN, seed=0)
        made[name] = HierarchicalTokenizer(
            model, image_shape=few.image_shape, architecture=architecture(name)
        )
    return made


@pytest.fixture(params=LEVELS)
def tokenizer(request: pytest.FixtureRequest, hierarchical) -> HierarchicalTokenizer:
    return hierarchical[request.param]


@pytest.fixture(scope="module")
def images(digits: ImageSplits) -> np.ndarray:
    return digits.test.images(slice(0, 50))


def test_codes_lie_in_the_layout(tokenizer, images):
    codes = tokenizer.encode(images)
    assert codes.dtype == np.int64
    assert codes.shape == (50, tokenizer.layout.n_slots)
    tokenizer.layout.validate(codes)
    assert tokenizer.bits_per_image == tokenizer.layout.bits


@pytest.mark.parametrize("name", LEVELS)
def test_the_layout_has_a_grid_a_level_from_the_top_down(hierarchical, name):
    grids = hierarchical[name].layout.grids
    assert [(g.name, g.height, g.width, g.n_codes) for g in grids] == SHAPES[name]
    slots = sum(h * w * np.log2(sizes).sum() for _, h, w, sizes in SHAPES[name])
    assert hierarchical[name].bits_per_image == pytest.approx(slots)


def test_codes_are_those_of_the_layers_level_by_level(tokenizer, images):
    with torch.inference_mode():
        levels, _ = tokenizer.model.quantize(torch.from_numpy(images))
    parts = tokenizer.layout.split(tokenizer.encode(images))
    for part, level in zip(parts, levels, strict=True):
        assert np.array_equal(part.reshape(level.quantized.codes.shape), level.quantized.codes.numpy())


def test_images_come_back(tokenizer, images):
    codes = tokenizer.encode(images)
    decoded = tokenizer.decode(codes)
    assert decoded.dtype == np.float32
    assert decoded.shape == images.shape
    assert (decoded >= 0).all()
    assert (decoded <= 1).all()
    assert np.array_equal(tokenizer.reconstruct(images), decoded)
    with torch.inference_mode():
        assert np.array_equal(tokenizer.model.reconstruct(torch.from_numpy(images)).numpy(), decoded)
    assert np.square(decoded - images).mean() < np.square(images.mean() - images).mean()


def test_batches_do_not_change_codes(tokenizer, images, monkeypatch):
    whole = tokenizer.encode(images)
    monkeypatch.setattr(image_module, "LARGEST_BATCH", 7)
    assert np.array_equal(tokenizer.encode(images), whole)
    assert np.array_equal(np.concatenate([tokenizer.encode(images[i : i + 1]) for i in range(50)]), whole)


def test_tensors_and_arrays_are_alike(tokenizer, images):
    codes = tokenizer.encode(images)
    assert np.array_equal(tokenizer.encode(torch.from_numpy(images)), codes)
    assert np.array_equal(tokenizer.encode(images.astype(np.float64)), codes)


def test_read_only_images_are_taken(tokenizer, images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert np.array_equal(tokenizer.encode(mapped), tokenizer.encode(images))


@pytest.mark.parametrize("name", ["two", "residual above", "fsq below"])
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.uint16, np.int16, np.uint64])
def test_codes_of_any_integer_type_are_decoded(hierarchical, images, name, dtype):
    tokenizer = hierarchical[name]
    codes = tokenizer.encode(images)
    assert np.array_equal(tokenizer.decode(codes.astype(dtype)), tokenizer.decode(codes))
    assert np.array_equal(tokenizer.lookup(codes.astype(dtype)), tokenizer.lookup(codes))


def test_no_codes_decode_to_no_images(tokenizer):
    empty = np.empty((0, tokenizer.layout.n_slots), dtype=np.int64)
    assert tokenizer.decode(empty).shape == (0, 1, 8, 8)
    assert len(tokenizer.lookup(empty)) == 0


def test_encoding_changes_nothing(tokenizer, images):
    before = tokenizer.fingerprint
    tokenizer.decode(tokenizer.encode(images))
    assert tokenizer.fingerprint == before


def test_a_tokenizer_inside_a_model_in_training_does_not_learn(tokenizer, images):
    before, codes = tokenizer.fingerprint, tokenizer.encode(images)
    outer = nn.ModuleList([tokenizer]).train()
    assert outer.training and not any(module.training for module in tokenizer.modules())
    assert np.array_equal(tokenizer.encode(images), codes)
    assert tokenizer.fingerprint == before


def test_a_trip_to_disk_changes_nothing(tokenizer, images, tmp_path):
    tokenizer.save_pretrained(tmp_path / "t")
    codes = tokenizer.encode(images)
    for load in (HierarchicalTokenizer.from_pretrained, from_pretrained):
        loaded = load(tmp_path / "t")
        assert isinstance(loaded, HierarchicalTokenizer)
        assert np.array_equal(loaded.encode(images), codes)
        assert np.array_equal(loaded.decode(codes), tokenizer.decode(codes))
        assert loaded.fingerprint == tokenizer.fingerprint == load_artifact(tmp_path / "t")[0]["fingerprint"]
        assert loaded.layout == tokenizer.layout
        assert not any(module.training for module in loaded.model.modules())
    loaded.save_pretrained(tmp_path / "again")
    for name in (CONFIG, TENSORS):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "t" / name).read_bytes()


def test_every_weight_is_stored(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "t")
    assert load_artifact(tmp_path / "t")[1].keys() == arrays_of(tokenizer).keys()


def test_numbers_of_the_normalization_survive_the_trip(hierarchical, tmp_path):
    hierarchical["standardised"].save_pretrained(tmp_path / "t")
    config = json.loads((tmp_path / "t" / CONFIG).read_text())
    assert config["architecture"]["params"]["normalization"] == [[0.3], [0.4]]
    loaded = from_pretrained(tmp_path / "t")
    assert loaded.model.normalize.mean.item() == pytest.approx(0.3)
    assert loaded.model.normalize.deviation.item() == pytest.approx(0.4)


def test_the_scale_of_the_likelihood_survives_the_trip(hierarchical, tmp_path):
    assert hierarchical["two"].likelihood is None
    tokenizer = hierarchical["logistic"]
    assert tokenizer.likelihood is tokenizer.model.decoder.likelihood
    tokenizer.save_pretrained(tmp_path / "t")
    assert from_pretrained(tmp_path / "t").likelihood.scales == tokenizer.likelihood.scales != (0.1,)


def test_fingerprints_tell_tokenizers_apart(hierarchical, tmp_path):
    fingerprints = {tokenizer.fingerprint for tokenizer in hierarchical.values()}
    assert len(fingerprints) == len(hierarchical)
    hierarchical["two"].save_pretrained(tmp_path / "t")
    changed = from_pretrained(tmp_path / "t")
    with torch.no_grad():
        next(changed.model.upsamplers.parameters()).view(-1)[0] += 1e-6
    assert changed.fingerprint not in fingerprints


def test_latents_are_the_tokens_of_all_levels(tokenizer, images):
    mean, sigma = tokenizer.posterior(images)
    with torch.inference_mode():
        levels, _ = tokenizer.model.quantize(torch.from_numpy(images))
    expected = np.concatenate([level.tokens.numpy().reshape(50, -1) for level in levels], axis=1)
    assert mean.dtype == sigma.dtype == np.float32
    assert np.array_equal(mean, expected)
    assert sigma.shape == mean.shape
    assert not sigma.any()


def test_quantized_latents_are_what_the_layers_give(tokenizer, images):
    mean, _ = tokenizer.posterior(images)
    latents = tokenizer.lookup(tokenizer.encode(images))
    assert latents.dtype == np.float32
    assert latents.shape == mean.shape
    start = 0
    for grid in tokenizer.model.grids:
        size = grid.height * grid.width * 4
        tokens = torch.from_numpy(mean[:, start : start + size]).reshape(50, -1, 4)
        with torch.inference_mode():
            quantized = grid.layer(tokens).z_q.reshape(50, -1).numpy()
        found = latents[:, start : start + size]
        assert np.square(found - mean[:, start : start + size]).sum() == pytest.approx(
            np.square(quantized - mean[:, start : start + size]).sum(), rel=1e-5
        )
        start += size
    assert start == mean.shape[1]


@pytest.mark.parametrize("name", ["one", "two", "residual above"])
def test_the_loss_of_the_layers_is_that_of_training(hierarchical, images, name):
    tokenizer = hierarchical[name]
    with torch.inference_mode():
        terms = tokenizer.model.loss((torch.from_numpy(images),), torch_generator(0, "loss"))
    mean, _ = tokenizer.posterior(images)
    assert tokenizer.layer_loss(mean) == pytest.approx(terms["commitment"].item(), rel=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            np.zeros((2, 1, 8, 7), np.float32),
            r"images have shape \(2, 1, 8, 7\); this tokenizer expects \(N, 1, 8, 8\)",
        ),
        (np.zeros((1, 8, 8), np.float32), r"images have shape \(1, 8, 8\)"),
        (np.zeros((2, 3, 8, 8), np.float32), r"images have shape \(2, 3, 8, 8\)"),
        (np.zeros((0, 1, 8, 8), np.float32), "with N at least 1"),
        (np.zeros((2, 1, 8, 8), np.uint8), "images are uint8; expected floating-point values"),
        (np.full((2, 1, 8, 8), 255, np.float32), r"images run from 255 to 255; expected .* \[0, 1\]"),
        (np.full((2, 1, 8, 8), -0.5, np.float32), "images run from -0.5 to -0.5; expected"),
        (np.full((2, 1, 8, 8), np.nan, np.float32), "images run from nan to nan; expected"),
    ],
)
@pytest.mark.parametrize("method", ["encode", "posterior", "reconstruct"])
def test_images_that_do_not_fit_are_refused(hierarchical, method, given, message):
    with pytest.raises(InputError, match=message):
        getattr(hierarchical["two"], method)(given)


def test_grey_images_are_refused_by_a_model_of_colour(images):
    colour = around("two", (3, 8, 8))
    with pytest.raises(InputError, match=r"\(50, 1, 8, 8\); this tokenizer expects \(N, 3, 8, 8\)"):
        colour.encode(images)


def test_codes_that_do_not_fit_are_refused(tokenizer):
    slots = tokenizer.layout.n_slots
    for method in (tokenizer.decode, tokenizer.lookup):
        with pytest.raises(InputError, match="codes have shape"):
            method(np.zeros((2, slots + 1), np.int64))
        with pytest.raises(InputError, match="expected integers"):
            method(np.zeros((2, slots)))
        with pytest.raises(InputError, match="code 36 of image 0, slot 0 is outside its alphabet"):
            method(np.full((2, slots), 36))


def test_latents_that_are_not_finite_are_refused(images):
    broken = around("two", (1, 8, 8))
    with torch.no_grad():
        broken.model.heads[0].bias.fill_(np.inf)
    with pytest.raises(InputError, match="numbers of z are not finite"):
        broken.posterior(images)


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
@pytest.mark.parametrize("load", [HierarchicalTokenizer.from_pretrained, from_pretrained])
def test_an_altered_folder_is_refused(hierarchical, load, name, tmp_path):
    hierarchical["two"].save_pretrained(tmp_path / "t")
    content = (tmp_path / "t" / name).read_bytes()
    altered = content.replace(b"0.", b"1.") if name == CONFIG else content[:-4] + b"\0\0\0\0"
    altered = altered if altered != content else content + b" "
    (tmp_path / "t" / name).write_bytes(altered)
    with pytest.raises(CorruptArtifactError, match=f"{name}: SHA-256 is"):
        load(tmp_path / "t")


def test_kinds_of_folders_are_not_mixed_up(hierarchical, tokenizers, tmp_path):
    hierarchical["two"].save_pretrained(tmp_path / "hierarchical")
    tokenizers["kmeans"].save_pretrained(tmp_path / "latent")
    save_artifact(tmp_path / "codes", {"kind": "codes"}, {})
    assert isinstance(from_pretrained(tmp_path / "latent"), LatentTokenizer)
    with pytest.raises(CorruptArtifactError, match="holds a 'latent'; expected a hierarchical tokenizer"):
        HierarchicalTokenizer.from_pretrained(tmp_path / "latent")
    with pytest.raises(CorruptArtifactError, match="holds a 'hierarchical'; expected a tokenizer"):
        LatentTokenizer.from_pretrained(tmp_path / "hierarchical")
    for load in (from_pretrained, LatentTokenizer.from_pretrained):
        with pytest.raises(CorruptArtifactError, match="holds a 'codes'; expected a tokenizer"):
            load(tmp_path / "codes")
        with pytest.raises(CorruptArtifactError, match="nowhere: no such folder"):
            load(tmp_path / "nowhere")


def test_an_architecture_of_another_version_is_refused(hierarchical, tmp_path):
    hierarchical["two"].save_pretrained(tmp_path / "t")
    config = json.loads((tmp_path / "t" / CONFIG).read_text())
    config["architecture"]["params"]["lateral"] = 3
    (tmp_path / "t" / CONFIG).write_text(json.dumps(config))
    seal(tmp_path / "t")
    with pytest.raises(ConfigError, match="unknown parameter of model 'vqvae2' 'lateral'"):
        from_pretrained(tmp_path / "t")


def test_weights_of_another_size_are_refused(hierarchical, tmp_path):
    hierarchical["two"].save_pretrained(tmp_path / "t")
    config, _ = load_artifact(tmp_path / "t")
    save_artifact(tmp_path / "t", config, arrays_of(hierarchical["three"]))
    with pytest.raises(CorruptArtifactError, match="stored weights do not fit HierarchicalTokenizer"):
        from_pretrained(tmp_path / "t")


def test_codes_are_stored_with_their_layout(tokenizer, images, tmp_path):
    codes = tokenizer.encode(images)
    save_codes(tmp_path / "c", StoredCodes(tokenizer.layout, tokenizer.fingerprint, {"test": codes}), "data")
    stored = load_codes(tmp_path / "c")
    assert stored.layout == tokenizer.layout
    assert np.array_equal(stored.splits["test"], codes)


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("name", ["two", "three", "residual above"])
def test_priors_learn_its_codes_and_sample_images(hierarchical, few, kind, name, tmp_path):
    tokenizer = hierarchical[name]
    codes = {
        split: tokenizer.encode(getattr(few, split).images(slice(0, 200)))
        for split in ("train", "validation")
    }
    config = PriorConfig(PRIORS[kind], TrainConfig(epochs=3, batch_size=32, learning_rate=1e-2))
    prior = build("prior", config.spec, layout=tokenizer.layout)
    if kind == "transformer":
        sources = [TensorSource(torch.from_numpy(part)) for part in codes.values()]
        fit(prior, *sources, config.train, seed=0)
    elif kind == "unigram":
        prior.fit(codes["train"])
    bits = prior_rate(prior, codes["validation"])["bits_prior"]
    if kind == "uniform":
        assert bits == pytest.approx(tokenizer.bits_per_image)
    else:
        assert bits < tokenizer.bits_per_image
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    save_prior(tmp_path / "prior", prior, tokenizer.fingerprint, tmp_path / "tokenizer")
    loaded, info = load_prior(tmp_path / "prior")
    assert info.tokenizer_fingerprint == from_pretrained(info.tokenizer_path).fingerprint
    drawn = loaded.sample(5, seed=3)
    tokenizer.layout.validate(drawn)
    assert np.array_equal(drawn, prior.sample(5, seed=3))
    assert tokenizer.decode(drawn).shape == (5, 1, 8, 8)


def test_latents_that_do_not_fit_are_refused(tokenizer):
    size = sum(tokenizer.level_sizes)
    for call in (tokenizer.decode_latents, tokenizer.layer_loss):
        with pytest.raises(InputError, match=rf"latents have shape \(2, 7\); .* \(N, {size}\)"):
            call(np.zeros((2, 7), np.float32))
        with pytest.raises(InputError, match="latents have NaN or infinity"):
            call(np.full((2, size), np.nan, np.float32))
