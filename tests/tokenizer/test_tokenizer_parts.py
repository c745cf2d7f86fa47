"""What stands between encoder and decoder: maps, vectors, rectifiers, metrics, decoder-aware encoding."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_tokenizers import AWARE, fitted, seeded, with_all_parts
from torch import nn

from geovq.config import AwareConfig
from geovq.errors import CorruptArtifactError, InputError
from geovq.geometry import pullback_metrics
from geovq.models.cut import cut
from geovq.models.weights import arrays_of, load_arrays
from geovq.tokenizer import LatentMap, LatentTokenizer, image_module, mean_pullback_map
from geovq.tokenizer.mapped_decoder import MappedDecoder
from geovq.tokenizer.vectors import CodeVectors, codebooks

MAPS = {"shared": (3, 3), "site": (4, 3, 3)}


@pytest.fixture(scope="module")
def images(digits):
    return digits.test.images(slice(0, 60))


@pytest.fixture(scope="module")
def of_maps(models, digits):
    """A tokenizer of latent maps for every way to map them, and one without."""
    decoder = models["vae of maps"].decoder
    spec = seeded("kmeans", n_codes=16)
    latents = fitted(models, digits, spec, (2, 2), model="vae of maps").posterior(
        digits.train.images(slice(0, 100))
    )[0]
    maps = {per: mean_pullback_map(decoder, latents, per=per, tokens=(2, 2)) for per in MAPS}
    return {
        per: fitted(models, digits, spec, (2, 2), latent_map, "vae of maps")
        for per, latent_map in {"none": None, **maps}.items()
    }


def image_errors(tokenizer: LatentTokenizer, images: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.square(tokenizer.decode(codes).astype(np.float64) - images).sum((1, 2, 3))


def same(first: LatentTokenizer, second: LatentTokenizer, images: np.ndarray) -> bool:
    codes = first.encode(images)
    return np.array_equal(codes, second.encode(images)) and np.array_equal(
        first.decode(codes), second.decode(codes)
    )


def mapped_tokens(tokenizer: LatentTokenizer, images: np.ndarray) -> torch.Tensor:
    mean = torch.from_numpy(tokenizer.posterior(images)[0])
    return cut(mean if tokenizer.latent_map is None else tokenizer.latent_map(mean), tokenizer.tokens)


def test_codes_of_a_mapped_latent_are_nearest_in_the_map(tokenizers, images):
    tokenizer = tokenizers["kmeans mapped"]
    tokens = mapped_tokens(tokenizer, images)
    expected = torch.cdist(tokens.double(), tokenizer.quantizer.codebook.double()).argmin(2)
    codes = tokenizer.encode(images)
    assert np.array_equal(codes, expected)
    assert not np.array_equal(codes, tokenizers["kmeans"].encode(images))
    quantized = tokenizer.quantizer.codebook[torch.from_numpy(codes)].flatten(1)
    unmapped = np.linalg.solve(tokenizer.latent_map.matrix.double(), quantized.double().numpy().T).T
    np.testing.assert_allclose(tokenizer.lookup(codes), unmapped, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["kmeans", "residual", "gaussian precision"])
def test_the_identity_as_a_map_is_no_map(tokenizers, images, name):
    plain = tokenizers[name]
    mapped = plain.changed(latent_map=LatentMap(np.eye(8)))
    assert same(plain, mapped, images)
    assert mapped.fingerprint != plain.fingerprint


@pytest.mark.parametrize("per", [None, *MAPS])
def test_latent_maps_are_mapped_site_by_site(of_maps, images, per, tmp_path):
    tokenizer = of_maps[per or "none"]
    if per is not None:
        assert tokenizer.latent_map.matrix.shape == MAPS[per]
    tokens = mapped_tokens(tokenizer, images)
    expected = torch.cdist(tokens.double(), tokenizer.quantizer.codebook.double()).argmin(2)
    codes = tokenizer.encode(images)
    assert np.array_equal(codes, expected)
    assert tokenizer.lookup(codes).shape == (60, 3, 2, 2)
    tokenizer.save_pretrained(tmp_path / "t")
    loaded = LatentTokenizer.from_pretrained(tmp_path / "t")
    assert same(tokenizer, loaded, images)
    assert loaded.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("per", ["none", *MAPS])
@pytest.mark.parametrize("by", ["image", "metric"])
def test_all_parts_work_on_latent_maps(of_maps, images, per, by, tmp_path, monkeypatch):
    tokenizer = with_all_parts(of_maps[per]).changed(aware=AwareConfig(by))
    tokenizer.save_pretrained(tmp_path / "t")
    loaded = LatentTokenizer.from_pretrained(tmp_path / "t")
    assert same(tokenizer, loaded, images)
    assert loaded.fingerprint == tokenizer.fingerprint
    codes = tokenizer.encode(images)
    assert not np.array_equal(codes, tokenizer.changed(aware=None).encode(images))
    monkeypatch.setattr(image_module, "LARGEST_BATCH", 7)
    assert np.array_equal(tokenizer.encode(images), codes)


@pytest.mark.parametrize(
    "name", ["kmeans", "residual", "product", "scalar", "kmeans mapped", "all parts", "ema"]
)
@pytest.mark.parametrize("sweeps", [1, 3])
def test_no_images_error_rises_when_codes_are_chosen_by_it(tokenizers, digits, name, sweeps):
    images = digits.test.images(slice(0, 100))
    nearest = tokenizers[name].changed(aware=None)
    aware = nearest.changed(aware=AwareConfig("image", n_candidates=4, sweeps=sweeps))
    before, after = nearest.encode(images), aware.encode(images)
    errors = image_errors(nearest, images, before), image_errors(aware, images, after)
    changed = (before != after).any(1)
    assert (errors[1] <= errors[0] * (1 + 1e-6)).all()
    assert changed.any() and (errors[1][changed] < errors[0][changed]).all()
    assert errors[1].sum() < 0.97 * errors[0].sum()
    assert aware.layout == nearest.layout


@pytest.mark.parametrize("name", ["kmeans", "residual", "product", "kmeans mapped", "all parts"])
def test_no_error_in_the_decoders_metric_rises_when_codes_are_chosen_by_it(tokenizers, digits, name):
    images = digits.test.images(slice(0, 100))
    nearest = tokenizers[name].changed(aware=None, rectifier=None)
    aware = nearest.changed(aware=AwareConfig("metric"))
    mean = nearest.posterior(images)[0]
    metrics = pullback_metrics(nearest.decoder, mean).astype(np.float64)
    errors = []
    for codes in (nearest.encode(images), aware.encode(images)):
        away = nearest.lookup(codes).astype(np.float64) - mean
        errors.append(np.einsum("ni,nij,nj->n", away, metrics, away))
    assert (errors[1] <= errors[0] * (1 + 1e-4)).all()
    assert errors[1].sum() < 0.95 * errors[0].sum()


@pytest.mark.parametrize("name", [name for name, (_, aware) in AWARE.items() if aware.by == "image"])
def test_latents_alone_do_not_say_which_image_to_compare_with(tokenizers, images, name):
    tokenizer = tokenizers[name]
    latents = tokenizer.posterior(images)
    with pytest.raises(InputError, match=r"images of 60 latents, and none are given; pass them as"):
        tokenizer.encode_latents(*latents)
    with pytest.raises(InputError, match=r"images of 60 latents, and 59 are given"):
        tokenizer.encode_latents(*latents, images[:-1])
    assert np.array_equal(tokenizer.encode_latents(*latents, images), tokenizer.encode(images))


def test_a_metric_needs_no_images(tokenizers, images):
    tokenizer = tokenizers["product by metric"]
    assert np.array_equal(tokenizer.encode_latents(*tokenizer.posterior(images)), tokenizer.encode(images))


@pytest.mark.parametrize("name", ["pullback", "pullback mapped"])
def test_a_metric_quantizer_is_given_the_decoders_metric_at_every_latent(tokenizers, images, name):
    tokenizer = tokenizers[name]
    mean = torch.from_numpy(tokenizer.posterior(images)[0])
    decoder = tokenizer.decoder
    if tokenizer.latent_map is not None:
        mean, decoder = tokenizer.latent_map(mean), MappedDecoder(tokenizer.latent_map, decoder)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda z: decoder(z[None]).flatten()))(mean).detach()
    blocks = jacobians.reshape(60, 64, 4, 2).permute(0, 2, 1, 3).double()
    away = cut(mean, (2, 2)).double()[:, :, None] - tokenizer.quantizer.codebook.double()
    costs = torch.einsum("ntpd,ntkd->ntpk", blocks, away).square().sum(2)
    found = costs.gather(2, torch.from_numpy(tokenizer.encode(images))[..., None])[..., 0]
    torch.testing.assert_close(found, costs.amin(2), rtol=1e-3, atol=1e-6)
    nearest = away.square().sum(3).argmin(2)
    assert (costs.gather(2, nearest[..., None])[..., 0] > found * 1.01).any()


def test_another_decoder_gives_a_metric_quantizer_other_codes(tokenizers, images):
    tokenizer = tokenizers["pullback"]
    before = tokenizer.encode(images)
    other = copy.deepcopy(tokenizer.decoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    assert not np.array_equal(tokenizer.changed(decoder=other).encode(images), before)
    assert np.array_equal(tokenizer.encode(images), before)


@pytest.mark.parametrize("name", ["decoded-kmeans", "decoded-kmeans mapped"])
def test_codes_of_decoded_points_are_those_of_the_nearest_decoded_code(tokenizers, images, name):
    tokenizer = tokenizers[name]
    of_codes = tokenizer.decode(np.arange(16)[:, None]).reshape(16, -1).astype(np.float64)
    of_latents = tokenizer.decode_latents(tokenizer.posterior(images)[0]).reshape(60, -1)
    expected = np.square(of_latents[:, None] - of_codes).sum(2).argmin(1)
    assert np.array_equal(tokenizer.encode(images)[:, 0], expected)


@pytest.mark.parametrize("name", ["decoded-kmeans", "decoded-kmeans mapped"])
def test_a_loaded_or_copied_tokenizer_decodes_with_its_own_decoder(tokenizers, images, name, tmp_path):
    tokenizer = tokenizers[name]
    codes = tokenizer.encode(images)
    tokenizer.save_pretrained(tmp_path / "t")
    loaded = LatentTokenizer.from_pretrained(tmp_path / "t")
    assert np.array_equal(loaded.encode(images), codes)
    loaded.load_state_dict(tokenizer.state_dict())
    assert np.array_equal(loaded.encode(images), codes)
    assert np.array_equal(copy.deepcopy(tokenizer).encode(images), codes)


def test_weights_loaded_into_a_tokenizer_reach_the_quantizers_decoder(tokenizers, images):
    tokenizer = tokenizers["decoded-kmeans"]
    other = copy.deepcopy(tokenizer)
    for parameter in other.decoder.parameters():
        parameter.data *= 0
    with pytest.raises(InputError, match="decoder makes another image"):
        other.encode(images)
    load_arrays(other, arrays_of(tokenizer))
    assert same(tokenizer, other, images)


def test_a_changed_decoder_stays_out_of_the_tokenizer_it_was_changed_from(tokenizers, images):
    tokenizer = tokenizers["decoded-kmeans"]
    codes = tokenizer.encode(images)
    other = nn.Sequential(tokenizer.decoder, nn.Softmax(3))
    changed = tokenizer.changed(decoder=other)
    with pytest.raises(InputError, match=r"decoder makes another image.* fit again with this one"):
        changed.encode(images)
    assert np.array_equal(tokenizer.encode(images), codes)


def test_vectors_are_what_codes_are_decoded_to_and_nothing_else(tokenizers, images, tmp_path):
    for name in ("kmeans", "residual", "scalar", "scalar of a coordinate", "product", "ema"):
        tokenizer = tokenizers[name]
        vectors = CodeVectors.of(tokenizer.quantizer)
        shapes = [tuple(level.shape) for level in vectors.levels]
        assert shapes == [tuple(level.shape) for level in codebooks(tokenizer.quantizer)]
        assert [shape[0] for shape in shapes] == list(tokenizer.quantizer.n_codes)
        copied = tokenizer.changed(vectors=vectors)
        assert same(tokenizer, copied, images), name
        with torch.no_grad():
            vectors.levels[0][1] += 1
        codes = tokenizer.encode(images)
        assert np.array_equal(copied.encode(images), codes)
        moved = (copied.lookup(codes) != tokenizer.lookup(codes)).any(1)
        first = codes.reshape(60, -1, len(shapes))[..., 0]
        assert np.array_equal(moved, (first == 1).any(1))
        copied.save_pretrained(tmp_path / name)
        assert same(copied, LatentTokenizer.from_pretrained(tmp_path / name), images)


def test_vectors_add_up_over_levels():
    levels = [torch.eye(3), torch.tensor([[10.0, 0, 0], [0, 20, 0]])]
    vectors = CodeVectors(levels)
    codes = torch.tensor([[[0, 1], [2, 0]]])
    assert vectors(codes).tolist() == [[[1, 20, 0], [10, 0, 1]]]
    assert {name: p.requires_grad for name, p in vectors.named_parameters()} == {
        "levels.0": True,
        "levels.1": True,
    }
    levels[0] += 5
    assert vectors.levels[0].tolist() == torch.eye(3).tolist()
    empty = CodeVectors.empty([(3, 3), (2, 3)])
    empty.load_state_dict(vectors.state_dict())
    assert torch.equal(empty(codes), vectors(codes))


def test_a_rectifier_moves_what_the_decoder_sees_alone(tokenizers, images):
    whole = tokenizers["all parts"].changed(aware=None)
    without = whole.changed(rectifier=None)
    codes = whole.encode(images)
    assert np.array_equal(codes, without.encode(images))
    assert np.array_equal(whole.lookup(codes), without.lookup(codes))
    with torch.no_grad():
        rectified = whole.rectifier(torch.from_numpy(whole.lookup(codes)))
    assert np.array_equal(whole.decode(codes), whole.decode_latents(rectified.numpy()))
    assert not np.allclose(whole.decode(codes), without.decode(codes))


def test_every_part_counts_in_the_fingerprint(tokenizers):
    whole = tokenizers["all parts"]
    others = [whole.changed(**{name: None}) for name in ("latent_map", "vectors", "rectifier", "aware")] + [
        whole.changed(aware=AwareConfig("metric")),
        whole.changed(tokens=(1, 4)),
    ]
    assert len({tokenizer.fingerprint for tokenizer in [whole, *others]}) == 7


def test_weights_of_other_parts_are_refused(tokenizers):
    whole = tokenizers["all parts"]
    for part in ("latent_map", "vectors", "rectifier"):
        with pytest.raises(CorruptArtifactError, match=f"do not fit LatentTokenizer: .*{part}"):
            load_arrays(whole.changed(**{part: None}), arrays_of(whole))


class Broken(nn.Module):
    """A decoder of 8 latents that gives something else than digits."""

    def __init__(self, height: int = 8, value: float = 0.5) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8 * height)
        self.height, self.value = height, value

    def forward(self, latents):
        return (self.linear(latents) * 0 + self.value).reshape(-1, 1, self.height, 8)


@pytest.mark.parametrize(
    ("name", "decoder", "message"),
    [
        (
            "residual by image",
            Broken(7),
            r"decoder Broken returned a tensor \(\d+, 1, 7, 8\) for .*\(\d+, 1, 8, 8\)",
        ),
        ("residual by image", Broken(value=float("nan")), "Broken gave NaN or infinity in .* check the dec"),
        ("residual by image", Broken(value=float("inf")), "Broken gave NaN or infinity in .* check the dec"),
        ("product by metric", Broken(value=float("nan")), "decoder Broken gave NaN or infinity in the"),
        ("pullback", Broken(value=float("nan")), "decoder Broken gave NaN or infinity in the"),
        ("decoded-kmeans", Broken(7), "decoder makes another image, of 56 numbers, .* of 64; expected"),
        ("decoded-kmeans", Broken(value=float("nan")), "decoder Broken gave NaN or infinity in the image"),
    ],
)
def test_a_decoder_that_encoding_cannot_use_is_refused(tokenizers, images, name, decoder, message):
    with pytest.raises(InputError, match=message) as caught:
        tokenizers[name].changed(decoder=decoder).encode(images)
    assert "\n" not in str(caught.value)
