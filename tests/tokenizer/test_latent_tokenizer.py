"""Every kind of tokenizer: codes in its layout, the same after a trip to disk, clear refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from geovq.config import Spec
from geovq.errors import ConfigError, CorruptArtifactError, InputError
from geovq.models.weights import arrays_of
from geovq.quantizers import KMeansQuantizer
from geovq.storage.artifact import CONFIG, TENSORS, load_artifact, save_artifact, seal
from geovq.tokenizer import Autoencoder, LatentTokenizer, image_module
from geovq.vq import EMAVQ


class Blocks(nn.Module):
    """A fixed encoder without weights: the image's 4x4 corners as a latent map (4, 2, 2)."""

    def forward(self, images):
        return nn.functional.pixel_unshuffle(nn.functional.avg_pool2d(images, 2), 2)


class Unblocks(nn.Module):
    """The decoder of ``Blocks``, with one weight."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, latents):
        coarse = nn.functional.pixel_shuffle(latents, 2) * self.gain
        return nn.functional.interpolate(coarse, scale_factor=2).clamp(0, 1)


@pytest.fixture(scope="module")
def images(digits):
    return digits.test.images(slice(0, 50))


@pytest.fixture
def foreign(digits):
    points = Blocks()(torch.from_numpy(digits.train.images(slice(0, 300)))).permute(0, 2, 3, 1).reshape(-1, 4)
    quantizer = KMeansQuantizer(n_codes=8, random_state=0).fit(points.numpy())
    return LatentTokenizer(
        Blocks(),
        Unblocks(0.9),
        quantizer.as_module(),
        image_shape=(1, 8, 8),
        latent_shape=(4, 2, 2),
        tokens=(2, 2),
    )


def test_codes_lie_in_the_layout(tokenizer, images):
    codes = tokenizer.encode(images)
    assert codes.dtype == np.int64
    assert codes.shape == (50, tokenizer.layout.n_slots)
    tokenizer.layout.validate(codes)
    assert tokenizer.bits_per_image == tokenizer.layout.bits
    assert all(len(np.unique(codes[:, slot])) > 1 for slot in range(codes.shape[1]))


def test_layouts_follow_from_cut_and_quantizer(tokenizers):
    shapes = {
        name: [(g.height, g.width, g.n_codes) for g in t.layout.grids] for name, t in tokenizers.items()
    }
    assert shapes == {
        "ema": [(2, 2, (16,))],
        "kmeans": [(2, 2, (16,))],
        "gaussian wasserstein": [(2, 2, (16,))],
        "gaussian precision": [(4, 1, (16,))],
        "geodesic": [(2, 2, (16,))],
        "residual": [(1, 1, (12, 12, 12))],
        "scalar": shapes["scalar"],
        "scalar kl": shapes["scalar kl"],
        "scalar of a coordinate": [(4, 2, (4,))],
        "product": [(1, 1, (16, 16, 16))],
        "pullback": [(2, 2, (16,))],
        "decoded-kmeans": [(1, 1, (16,))],
        "residual by image": [(1, 1, (12, 12, 12))],
        "product by metric": [(1, 1, (16, 16, 16))],
        "ema by image": [(2, 2, (16,))],
        "kmeans mapped": [(2, 2, (16,))],
        "pullback mapped": [(2, 2, (16,))],
        "decoded-kmeans mapped": [(1, 1, (16,))],
        "all parts": [(2, 2, (16,))],
    }
    for name in ("scalar", "scalar kl"):  # levels of sizes that the data decide on
        assert len(set(tokenizers[name].quantizer.n_codes)) > 1
        assert tokenizers[name].bits_per_image == int(8 * np.log2(3))
    assert tokenizers["kmeans"].bits_per_image == 16


def test_images_come_back(tokenizer, images):
    codes = tokenizer.encode(images)
    decoded = tokenizer.decode(codes)
    assert decoded.dtype == np.float32
    assert decoded.shape == images.shape
    assert (decoded >= 0).all()
    assert (decoded <= 1).all()
    assert np.array_equal(tokenizer.reconstruct(images), decoded)
    error = np.square(decoded - images).mean()
    assert error < 0.9 * np.square(images.mean(0) - images).mean()


def test_codes_of_a_vae_are_those_of_its_quantizer(tokenizers, images):
    tokenizer = tokenizers["gaussian precision"]
    mean, sigma = tokenizer.posterior(images)
    direct = tokenizer.quantizer(
        torch.from_numpy(mean.reshape(-1, 2)), torch.from_numpy(sigma.reshape(-1, 2))
    ).codes
    assert np.array_equal(tokenizer.encode(images), direct.reshape(50, 4))
    assert (sigma > 0).all()


def test_quantized_latents_are_the_decoders_input(tokenizer, images):
    codes = tokenizer.encode(images)
    latents = tokenizer.lookup(codes)
    assert latents.shape == (50, 8)
    assert latents.dtype == np.float32
    with torch.inference_mode():
        given = torch.from_numpy(latents)
        rectified = given if tokenizer.rectifier is None else tokenizer.rectifier(given)
        decoded = tokenizer.decoder(rectified).numpy()
    assert np.array_equal(tokenizer.decode(codes), decoded)


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.uint64])
def test_codes_of_any_integer_type_are_decoded(tokenizer, images, dtype):
    codes = tokenizer.encode(images)
    assert np.array_equal(tokenizer.decode(codes.astype(dtype)), tokenizer.decode(codes))


def test_no_codes_decode_to_no_images(tokenizer):
    empty = np.empty((0, tokenizer.layout.n_slots), dtype=np.int64)
    assert tokenizer.decode(empty).shape == (0, 1, 8, 8)
    assert tokenizer.lookup(empty).shape == (0, 8)


def test_encoding_changes_nothing(tokenizer, images):
    before = tokenizer.fingerprint
    tokenizer.decode(tokenizer.encode(images))
    assert tokenizer.fingerprint == before


def test_a_trip_to_disk_changes_nothing(tokenizer, images, tmp_path):
    tokenizer.save_pretrained(tmp_path / "t")
    loaded = LatentTokenizer.from_pretrained(tmp_path / "t")
    codes = tokenizer.encode(images)
    assert np.array_equal(loaded.encode(images), codes)
    assert np.array_equal(loaded.decode(codes), tokenizer.decode(codes))
    assert loaded.fingerprint == tokenizer.fingerprint == load_artifact(tmp_path / "t")[0]["fingerprint"]
    assert loaded.layout == tokenizer.layout
    loaded.save_pretrained(tmp_path / "again")
    for name in (CONFIG, TENSORS):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "t" / name).read_bytes()


def test_fingerprints_tell_tokenizers_apart(tokenizers):
    fingerprints = {t.fingerprint for t in tokenizers.values()}
    assert len(fingerprints) == len(tokenizers)
    changed = tokenizers["kmeans"].changed(decoder=Unblocks())
    assert changed.fingerprint not in fingerprints


def test_one_changed_weight_changes_the_fingerprint(foreign):
    before = foreign.fingerprint
    with torch.no_grad():
        foreign.decoder.gain += 1e-6
    assert foreign.fingerprint != before


def test_another_decoder_leaves_codes_and_original(tokenizers, images):
    tokenizer = tokenizers["kmeans"]
    before = tokenizer.reconstruct(images)
    changed = tokenizer.changed(
        decoder=nn.Sequential(nn.Linear(8, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))
    )
    assert np.array_equal(changed.encode(images), tokenizer.encode(images))
    assert not np.array_equal(changed.reconstruct(images), before)
    assert np.array_equal(tokenizer.reconstruct(images), before)


def test_a_foreign_pair_is_a_tokenizer(foreign, images, tmp_path):
    codes = foreign.encode(images)
    assert codes.shape == (50, 4)
    foreign.save_pretrained(tmp_path / "t")
    loaded = LatentTokenizer.from_pretrained(tmp_path / "t", encoder=Blocks(), decoder=Unblocks())
    assert loaded.decoder.gain == 0.9
    assert np.array_equal(loaded.encode(images), codes)
    assert np.array_equal(loaded.decode(codes), foreign.decode(codes))
    assert loaded.fingerprint == foreign.fingerprint


@pytest.mark.parametrize("given", [{}, {"encoder": Blocks()}, {"decoder": Unblocks()}])
def test_a_foreign_pair_must_be_passed_in(foreign, given, tmp_path):
    foreign.save_pretrained(tmp_path / "t")
    with pytest.raises(
        InputError, match=r"t: was saved around .* pass them as from_pretrained\(folder, encoder=\.\.\."
    ):
        LatentTokenizer.from_pretrained(tmp_path / "t", **given)


def test_another_foreign_pair_is_refused(foreign, tmp_path):
    foreign.save_pretrained(tmp_path / "t")
    with pytest.raises(CorruptArtifactError, match=r"stored weights do not fit LatentTokenizer: .*decoder"):
        LatentTokenizer.from_pretrained(tmp_path / "t", encoder=Blocks(), decoder=nn.Linear(4, 4))


def test_a_layer_without_its_model_is_not_stored(tokenizers, images, tmp_path):
    layer = EMAVQ(4, 8)
    alone = LatentTokenizer(
        Blocks(), Unblocks(), layer, image_shape=(1, 8, 8), latent_shape=(4, 2, 2), tokens=(2, 2)
    )
    assert alone.encode(images).shape == (50, 4)
    vae = tokenizers["kmeans"]
    inside = LatentTokenizer(
        vae.encoder,
        vae.decoder,
        EMAVQ(2, 8),
        image_shape=(1, 8, 8),
        latent_shape=(8,),
        tokens=(2, 2),
        architecture=vae.architecture,
    )
    for tokenizer in (alone, inside):
        with pytest.raises(InputError, match=r"a layer \(EMAVQ\) is stored with the model it was trained in"):
            tokenizer.save_pretrained(tmp_path / "t")
        assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_a_damaged_folder_is_refused(tokenizer, name, tmp_path):
    tokenizer.save_pretrained(tmp_path / "t")
    content = bytearray((tmp_path / "t" / name).read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "t" / name).write_bytes(content)
    with pytest.raises(CorruptArtifactError, match=f"{name}: SHA-256 is"):
        LatentTokenizer.from_pretrained(tmp_path / "t")


def test_another_kind_of_artefact_is_refused(tmp_path):
    save_artifact(tmp_path / "x", {"kind": "codes"}, {})
    with pytest.raises(CorruptArtifactError, match="holds a 'codes'; expected a tokenizer"):
        LatentTokenizer.from_pretrained(tmp_path / "x")
    with pytest.raises(CorruptArtifactError, match="nowhere: no such folder"):
        LatentTokenizer.from_pretrained(tmp_path / "nowhere")


def test_an_architecture_of_another_version_is_refused(tokenizers, tmp_path):
    tokenizers["kmeans"].save_pretrained(tmp_path / "t")
    config = json.loads((tmp_path / "t" / CONFIG).read_text())
    config["architecture"]["params"]["lateral"] = 3
    (tmp_path / "t" / CONFIG).write_text(json.dumps(config))
    seal(tmp_path / "t")
    with pytest.raises(ConfigError, match="unknown parameter of model 'vae' 'lateral'"):
        LatentTokenizer.from_pretrained(tmp_path / "t")


def with_value(value: float) -> np.ndarray:
    images = np.zeros((2, 1, 8, 8), np.float32)
    images[1, 0, 3, 3] = value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((2, 1, 8, 7), np.float32),
            r"images have shape \(2, 1, 8, 7\); this tokenizer expects \(N, 1, 8, 8\)",
        ),
        (np.zeros((1, 8, 8), np.float32), r"images have shape \(1, 8, 8\)"),
        (np.zeros((2, 3, 8, 8), np.float32), r"images have shape \(2, 3, 8, 8\)"),
        (np.zeros((0, 1, 8, 8), np.float32), "with N at least 1"),
        (np.zeros((2, 1, 8, 8), np.uint8), "images are uint8; expected floating-point values"),
        (
            torch.zeros((2, 1, 8, 8), dtype=torch.int64),
            r"images are torch\.int64; expected floating-point values",
        ),
        (with_value(255), r"images run from 0 to 255; expected finite values in \[0, 1\]"),
        (with_value(-0.5), "images run from -0.5 to 0; expected"),
        (with_value(np.nan), "images run from nan to nan; expected"),
        (with_value(np.inf), "images run from 0 to inf; expected"),
    ],
)
def test_images_that_do_not_fit_are_refused(tokenizers, images, message):
    for tokenizer in (tokenizers["ema"], tokenizers["kmeans"]):
        with pytest.raises(InputError, match=message):
            tokenizer.encode(images)


def test_codes_that_do_not_fit_are_refused(tokenizer):
    slots = tokenizer.layout.n_slots
    with pytest.raises(InputError, match="codes have shape"):
        tokenizer.decode(np.zeros((2, slots + 1), np.int64))
    with pytest.raises(InputError, match="expected integers"):
        tokenizer.decode(np.zeros((2, slots)))
    with pytest.raises(InputError, match="code 16 of image 0, slot 0 is outside its alphabet"):
        tokenizer.lookup(np.full((2, slots), 16))


def test_latents_of_another_shape_are_refused(tokenizer):
    mean, sigma = np.zeros((2, 8), np.float32), np.ones((2, 8), np.float32)
    with pytest.raises(
        InputError, match=r"latents' mean has shape \(2, 4, 2\); this tokenizer expects \(N, 8\)"
    ):
        tokenizer.encode_latents(mean.reshape(2, 4, 2), sigma)
    with pytest.raises(InputError, match=r"latents' sigma has shape \(2, 7\)"):
        tokenizer.encode_latents(mean, sigma[:, :7])


def test_an_encoder_of_another_latent_is_refused(foreign, images):
    wrong = LatentTokenizer(
        Blocks(), Unblocks(), foreign.quantizer, image_shape=(1, 8, 8), latent_shape=(16,), tokens=(2, 2)
    )
    with pytest.raises(
        InputError, match=r"latents' mean has shape \(50, 4, 2, 2\); this tokenizer expects \(N, 16\)"
    ):
        wrong.encode(images)


def test_an_uneven_cut_is_refused(tokenizers):
    vae = tokenizers["kmeans"]
    with pytest.raises(ConfigError, match="8 dimensions cannot be cut into 1x3"):
        LatentTokenizer(
            vae.encoder, vae.decoder, vae.quantizer, image_shape=(1, 8, 8), latent_shape=(8,), tokens=(1, 3)
        )


def test_the_floor_decodes_posterior_means(models, digits, images):
    floor = Autoencoder(models["vae"].encoder, models["vae"].decoder, digits.image_shape)
    mean, sigma = floor.posterior(images)
    assert mean.shape == sigma.shape == (50, 8)
    with torch.inference_mode():
        expected = models["vae"].decoder(models["vae"].encoder(torch.from_numpy(images))[0]).numpy()
    assert np.array_equal(floor.reconstruct(images), expected)
    assert np.array_equal(floor.decode_latents(mean.astype(np.float64)), expected)


def test_the_floor_is_below_its_quantizers(models, tokenizers, digits):
    images = digits.train.images(slice(0, 600))
    floor = Autoencoder(models["vae"].encoder, models["vae"].decoder, digits.image_shape)
    best = np.square(floor.reconstruct(images) - images).mean()
    for name in ("kmeans", "geodesic", "residual"):
        assert np.square(tokenizers[name].reconstruct(images) - images).mean() > best, name


def test_an_encoder_of_points_has_no_deviation(images):
    floor = Autoencoder(Blocks(), Unblocks(), (1, 8, 8))
    mean, sigma = floor.posterior(images)
    assert mean.shape == (50, 4, 2, 2)
    assert not sigma.any()


def test_halves_without_weights_are_an_autoencoder(images):
    decoder = nn.Sequential(nn.PixelShuffle(2), nn.Upsample(scale_factor=2))
    assert Autoencoder(Blocks(), decoder, (1, 8, 8)).reconstruct(images).shape == (50, 1, 8, 8)


def test_dropout_is_off(foreign, images):
    noisy = foreign.changed(decoder=nn.Sequential(nn.Dropout(0.5), Unblocks()).train())
    codes = foreign.encode(images)
    assert np.array_equal(noisy.decode(codes), noisy.decode(codes))
    assert not noisy.decoder.training


def test_every_weight_is_stored(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "t")
    assert load_artifact(tmp_path / "t")[1].keys() == arrays_of(tokenizer).keys()


def test_a_quantizer_that_is_not_a_codebook_is_refused(tokenizers, tmp_path):
    tokenizers["kmeans"].save_pretrained(tmp_path / "t")
    config, arrays = load_artifact(tmp_path / "t")
    del arrays["quantizer.codebook_"]
    save_artifact(tmp_path / "t", config, arrays)
    with pytest.raises(InputError, match="no codebook_"):
        LatentTokenizer.from_pretrained(tmp_path / "t")


def test_an_unknown_model_is_refused(tokenizers, tmp_path):
    vae = tokenizers["kmeans"]
    vae.save_pretrained(tmp_path / "t")
    config, arrays = load_artifact(tmp_path / "t")
    save_artifact(tmp_path / "t", {**config, "architecture": {"kind": "vea", "params": {}}}, arrays)
    with pytest.raises(ConfigError, match="unknown model 'vea'; did you mean 'vae'"):
        LatentTokenizer.from_pretrained(tmp_path / "t")
    assert vae.architecture == Spec("vae", {"latent_dim": 8, "widths": [8, 16], "beta": 0.2})


def test_a_tokenizer_inside_a_model_in_training_does_not_learn(tokenizers, digits):
    """``encode`` of a moving-average layer in training mode would move its codebook, silently."""
    tokenizer = tokenizers["ema"]
    images = digits.test.images(slice(0, 50))
    before, codes = tokenizer.fingerprint, tokenizer.encode(images)
    outer = nn.ModuleList([tokenizer]).train()
    assert outer.training and not any(module.training for module in tokenizer.modules())
    assert np.array_equal(tokenizer.encode(images), codes)
    assert tokenizer.fingerprint == before
