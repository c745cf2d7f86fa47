"""k-means of decoded points against k-means of their images."""

import copy

import numpy as np
import pytest
import torch
from quantizer_contract import MEANS, METRICS, SIGMAS, TEST, TRAIN
from sklearn.base import clone
from torch import nn

from geovq.errors import InputError
from geovq.quantizers.base import Quantizer
from geovq.quantizers.decoded_kmeans import DecodedKMeansQuantizer
from geovq.quantizers.kmeans import KMeansQuantizer
from geovq.quantizers.module import FittedQuantizer
from geovq.seeding import seeded_weights

MATRIX = np.random.default_rng(0).normal(size=(9, 4)) * np.array([4.0, 2.0, 1.0, 0.1])


def linear(latents):
    return (latents.double() @ torch.from_numpy(MATRIX).T).reshape(-1, 1, 3, 3)


def network():
    """A decoder that stretches space unevenly; in training mode its images are random."""
    with seeded_weights(0, "decoder"):
        layers = nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 30), nn.Unflatten(1, (2, 3, 5))
    with torch.no_grad():
        layers[0].weight[:, 0] *= 6
    return nn.Sequential(*layers)


def images_of(decoder, points):
    with torch.no_grad():
        return copy.deepcopy(decoder).eval()(torch.from_numpy(points).float()).flatten(1).numpy()


def image_error(decoder, points, vectors):
    return np.square(images_of(decoder, points) - images_of(decoder, vectors)).sum(1).mean()


@pytest.fixture(scope="module")
def decoder():
    return network()


@pytest.fixture
def fitted(decoder):
    return DecodedKMeansQuantizer(16, decoder, random_state=0).fit(MEANS[TRAIN])


def test_without_a_decoder_it_is_kmeans_bit_for_bit():
    plain = DecodedKMeansQuantizer(16, random_state=3).fit(MEANS[TRAIN])
    kmeans = KMeansQuantizer(16, random_state=3).fit(MEANS[TRAIN])
    assert plain.codebook_.tobytes() == kmeans.codebook_.tobytes()
    np.testing.assert_array_equal(plain.predict(MEANS[TEST]), kmeans.predict(MEANS[TEST]))


@pytest.mark.parametrize("seed", range(4))
def test_with_a_linear_decoder_it_is_kmeans_of_the_images(seed):
    # Enough iterations for k-means to stop, so that a mean of a cell is its code.
    decoded = DecodedKMeansQuantizer(16, linear, n_iterations=100, random_state=seed).fit(MEANS[TRAIN])
    images = (MEANS @ MATRIX.T).astype(np.float32)
    kmeans = KMeansQuantizer(16, n_iterations=100, random_state=seed).fit(images[TRAIN])
    np.testing.assert_allclose(decoded.decoded_, kmeans.codebook_, atol=1e-4)
    np.testing.assert_array_equal(decoded.predict(MEANS[TRAIN]), kmeans.predict(images[TRAIN]))
    np.testing.assert_array_equal(decoded.predict(MEANS[TEST]), kmeans.predict(images[TEST]))


def test_points_get_the_code_of_the_nearest_image(fitted, decoder):
    of_codes = images_of(decoder, fitted.codebook_)
    np.testing.assert_allclose(fitted.decoded_, of_codes, atol=1e-6)
    distances = np.square(images_of(decoder, MEANS[TEST])[:, None] - of_codes).sum(2)
    np.testing.assert_array_equal(fitted.predict(MEANS[TEST]), distances.argmin(1))


def test_images_err_less_than_those_of_kmeans(fitted, decoder):
    kmeans = KMeansQuantizer(16, random_state=0).fit(MEANS[TRAIN])
    plain = image_error(decoder, MEANS[TEST], kmeans.transform(MEANS[TEST]))
    assert image_error(decoder, MEANS[TEST], fitted.transform(MEANS[TEST])) < 0.9 * plain


def test_a_code_is_a_point_where_the_mean_of_the_latents_shows_something_else():
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, size=400)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def radius(latents):  # everything on the ring looks the same, and nothing like its centre
        return latents.square().sum(1, keepdim=True)

    far = np.concatenate([ring, 3 * ring])
    codebook = DecodedKMeansQuantizer(2, radius, random_state=0).fit(far).codebook_
    np.testing.assert_allclose(np.sort(np.linalg.norm(codebook, axis=1)), [1, 3])


def test_images_that_are_all_one_need_one_code():
    def constant(latents):
        return torch.ones(len(latents), 5)

    with pytest.warns(UserWarning, match="only 1 points are distinct"):
        quantizer = DecodedKMeansQuantizer(8, constant, random_state=0).fit(MEANS)
    assert (quantizer.predict(MEANS) == 0).all()


def test_the_decoder_runs_in_eval_mode_and_gets_its_mode_back(decoder):
    decoder.train()
    quantizer = DecodedKMeansQuantizer(16, decoder, random_state=0)
    codes = quantizer.fit_predict(MEANS[TRAIN])
    assert decoder.training
    np.testing.assert_array_equal(codes, quantizer.predict(MEANS[TRAIN]))
    assert all(weight.grad is None for weight in decoder.parameters())


def test_scikit_learn_clones_it(fitted):
    again = clone(fitted).fit(MEANS[TRAIN])
    assert again.codebook_.tobytes() == fitted.codebook_.tobytes()
    assert again.decoded_.tobytes() == fitted.decoded_.tobytes()


def test_a_loaded_quantizer_codes_when_it_has_its_decoder_again(fitted, decoder, tmp_path):
    fitted.save(tmp_path / "q")
    loaded = Quantizer.load(tmp_path / "q")
    assert loaded.get_params()["decoder"] is None
    np.testing.assert_array_equal(loaded.inverse_transform([3, 1]), fitted.codebook_[[3, 1]])
    for coding in (loaded.predict, loaded.transform, loaded.score):
        with pytest.raises(InputError, match=r"has none: it is not saved.*set_params\(decoder="):
            coding(MEANS[TEST])
    loaded.set_params(decoder=decoder)
    np.testing.assert_array_equal(loaded.predict(MEANS[TEST]), fitted.predict(MEANS[TEST]))
    assert loaded.decoded_.dtype == np.float32


def test_a_decoder_set_after_a_fit_without_one_is_refused(decoder):
    quantizer = DecodedKMeansQuantizer(random_state=0).fit(MEANS).set_params(decoder=decoder)
    with pytest.raises(InputError, match=r"fitted without a decoder and has one.*set_params\(decoder=None\)"):
        quantizer.predict(MEANS)


def test_another_decoder_is_refused(fitted):
    other = network()
    with torch.no_grad():
        other[3].bias += 1
    with pytest.raises(
        InputError, match="another image, of 30 numbers, of the first code than in fit, of 30"
    ):
        fitted.set_params(decoder=other).predict(MEANS)
    with pytest.raises(InputError, match="another image, of 9 numbers, of the first code than in fit, of 30"):
        fitted.set_params(decoder=linear).predict(MEANS)


def test_a_module_codes_with_the_decoder_and_its_state_is_without(fitted, decoder):
    module = fitted.as_module()
    z = torch.from_numpy(MEANS[TEST]).reshape(10, 20, 4)
    np.testing.assert_array_equal(module(z).codes.flatten(), fitted.predict(MEANS[TEST]))
    assert not any("weight" in name for name in module.state_dict())
    rebuilt = FittedQuantizer.from_state("decoded-kmeans", module.params, module.state_dict())
    assert torch.equal(rebuilt.lookup(module(z).codes), module(z).z_q)
    with pytest.raises(InputError, match="it is not saved"):
        rebuilt(z)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (nn.Linear(5, 3), r"^decoder Linear failed on a latent of shape \(4,\): .*give the decoder of these"),
        (lambda z: z[:1].expand(2, 4), r"^decoder <lambda> returned \(2, 4\) for 1 latents"),
        (lambda z: z.numpy(), "^decoder <lambda> returned ndarray for 1 latents"),
        (lambda z: torch.log(z[:, 2:3] + 1.0), "gave NaN or infinity in the image of latent row 3"),
        ("vae", "^decoder is a str; expected a module or function"),
    ],
)
def test_impossible_decoders_are_refused(decoder, message):
    points = np.abs(MEANS)
    points[3, 2] = -2.0
    with pytest.raises(InputError, match=message):
        DecodedKMeansQuantizer(decoder=decoder).fit(points)


def test_a_point_that_cannot_be_decoded_is_named_when_coding():
    def broken(latents):
        return latents / (latents[:, :1] != 100)

    quantizer = DecodedKMeansQuantizer(decoder=broken, random_state=0).fit(MEANS[TRAIN])
    points = MEANS[TEST].copy()
    points[140, 0] = 100.0
    with pytest.raises(InputError, match="NaN or infinity in the image of latent row 140"):
        quantizer.predict(points)


@pytest.mark.parametrize(("name", "value"), [("MAX_POINTS_PER_CODE", 10), ("MAX_NUMBERS", 160 * 30)])
def test_no_more_points_are_decoded_than_needed(monkeypatch, decoder, name, value):
    decoded = []

    def counting(latents):
        decoded.append(len(latents))
        return images_of_module(latents)

    images_of_module = copy.deepcopy(decoder).eval()
    monkeypatch.setattr(f"geovq.quantizers.decoded_kmeans.{name}", value)
    quantizer = DecodedKMeansQuantizer(16, counting, random_state=0).fit(MEANS)
    assert sum(decoded) == 1 + 160 + 16  # to try the decoder, the points, and the means of cells
    kmeans = KMeansQuantizer(16, random_state=0).fit(MEANS)
    assert image_error(decoder, MEANS, quantizer.transform(MEANS)) < image_error(
        decoder, MEANS, kmeans.transform(MEANS)
    )


def test_sigma_and_metric_change_nothing(fitted, decoder):
    given = clone(fitted).fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN], metric=METRICS[TRAIN])
    np.testing.assert_array_equal(given.codebook_, fitted.codebook_)


def test_iterations_are_whole_and_positive(decoder):
    with pytest.raises(InputError, match="n_iterations is 0; expected a whole number"):
        DecodedKMeansQuantizer(decoder=decoder, n_iterations=0).fit(MEANS)
