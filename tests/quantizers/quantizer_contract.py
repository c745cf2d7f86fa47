"""What every post-hoc quantizer promises, as tests that a class inherits.

A subclass provides the fixture ``spec``. The suite knows no quantizer by name.
"""

import json

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from geovq.config import Spec
from geovq.errors import CorruptArtifactError, InputError
from geovq.geometry import DATA_EDGES
from geovq.quantizers.base import Quantizer
from geovq.quantizers.module import FittedQuantizer
from geovq.registry import FAMILIES, build, kind_of

SETTINGS = {
    "gaussian": [{"metric": "wasserstein"}, {"metric": "precision"}],
    "geodesic": [
        {"edges": edges, "centers": centers, "assignment": assignment}
        for edges in DATA_EDGES
        for centers, assignment in (("medoid", "graph"), ("mean", "graph"), ("mean", "nearest"))
    ],
    "kmedoids": [{}, {"power": 1, "polish": True}],
    "residual": [{}, {"n_levels": 4, "beam": 1}],
}


def registered_specs() -> list[Spec]:
    """Every registered quantizer in all its settings."""
    return [Spec(kind, params) for kind in FAMILIES["quantizer"] for params in SETTINGS.get(kind, [{}])]


def name_of(spec: Spec) -> str:
    return "-".join([spec.kind, *map(str, spec.params.values())])


def digit_latents() -> tuple[np.ndarray, np.ndarray]:
    """Means (n, 4) of real digits, and sigmas that differ from point to point and from axis to axis."""
    images = load_digits().data
    means = PCA(4, whiten=True, random_state=0).fit_transform(images)
    spread = images.std(1, keepdims=True) / images.std()
    return means[:600], (0.2 * spread * np.array([1.0, 0.5, 2.0, 1.5]))[:600]


MEANS, SIGMAS = digit_latents()
TRAIN, TEST = slice(0, 400), slice(400, 600)


class QuantizerContract:
    @pytest.fixture(params=["points", "gaussians"])
    def sigma(self, request):
        return SIGMAS if request.param == "gaussians" else None

    @pytest.fixture
    def quantizer(self, spec, sigma) -> Quantizer:
        quantizer = build("quantizer", spec, n_codes=16, random_state=0)
        return quantizer.fit(MEANS[TRAIN], **part(sigma, TRAIN))

    def test_codes_and_vectors_have_the_agreed_shapes(self, quantizer, sigma):
        codes = quantizer.predict(MEANS[TEST], **part(sigma, TEST))
        levels = quantizer.codebook_.shape[:-2]
        assert codes.shape == (200, *levels)
        assert codes.dtype == np.int64
        assert codes.min() >= 0
        assert codes.max() < 16
        assert quantizer.codebook_.shape == (*levels, 16, 4)
        assert quantizer.transform(MEANS[TEST], **part(sigma, TEST)).shape == (200, 4)

    def test_transform_looks_the_codes_up(self, quantizer, sigma):
        codes = quantizer.predict(MEANS[TEST], **part(sigma, TEST))
        quantized = quantizer.transform(MEANS[TEST], **part(sigma, TEST))
        np.testing.assert_array_equal(quantizer.inverse_transform(codes), quantized)

    def test_score_is_minus_the_mean_squared_distortion(self, quantizer, sigma):
        quantized = quantizer.transform(MEANS[TEST], **part(sigma, TEST))
        expected = -np.square(MEANS[TEST] - quantized).sum(1).mean()
        assert quantizer.score(MEANS[TEST], **part(sigma, TEST)) == pytest.approx(expected, rel=1e-12)

    def test_coding_is_better_than_one_mean(self, quantizer, sigma):
        of_one_mean = -np.square(MEANS[TEST] - MEANS[TRAIN].mean(0)).sum(1).mean()
        assert quantizer.score(MEANS[TEST], **part(sigma, TEST)) > 0.8 * of_one_mean

    def test_fitting_and_coding_in_one_call(self, quantizer, sigma):
        again = clone(quantizer)
        given = part(sigma, TRAIN)
        codes = quantizer.predict(MEANS[TRAIN], **given)
        quantized = quantizer.transform(MEANS[TRAIN], **given)
        np.testing.assert_array_equal(again.fit_predict(MEANS[TRAIN], **given), codes)
        np.testing.assert_array_equal(again.fit_transform(MEANS[TRAIN], **given), quantized)

    def test_float32_stays_and_everything_else_becomes_float64(self, spec, sigma):
        given = part(sigma, TRAIN)
        narrow = build("quantizer", spec, random_state=0).fit(MEANS[TRAIN].astype(np.float32), **given)
        assert narrow.transform(MEANS[TRAIN].astype(np.float32), **given).dtype == np.float32
        assert narrow.transform(MEANS[TRAIN], **given).dtype == np.float64
        whole = (10 * MEANS[TRAIN]).astype(np.int32)
        assert build("quantizer", spec, random_state=0).fit_transform(whole, **given).dtype == np.float64

    def test_same_random_state_same_bytes(self, quantizer, sigma):
        again = clone(quantizer).fit(MEANS[TRAIN], **part(sigma, TRAIN))
        for name, array in quantizer.fitted_state()[0].items():
            assert getattr(again, name).tobytes() == array.tobytes(), name

    def test_a_new_fit_leaves_nothing_of_the_one_before(self, spec):
        quantizer = build("quantizer", spec, random_state=0).fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
        arrays, values = quantizer.fit(MEANS[TEST]).fitted_state()
        fresh = clone(quantizer).fit(MEANS[TEST])
        assert values == fresh.fitted_state()[1]
        assert arrays.keys() == fresh.fitted_state()[0].keys()

    def test_codes_of_a_point_do_not_depend_on_the_others(self, quantizer, sigma):
        codes = quantizer.predict(MEANS[TEST], **part(sigma, TEST))
        order = np.random.default_rng(0).permutation(200)
        shuffled = None if sigma is None else {"sigma": sigma[TEST][order]}
        np.testing.assert_array_equal(quantizer.predict(MEANS[TEST][order], **(shuffled or {})), codes[order])
        one = slice(400, 401)
        np.testing.assert_array_equal(quantizer.predict(MEANS[one], **part(sigma, one)), codes[:1])

    def test_saved_and_loaded_it_gives_the_same_codes(self, quantizer, sigma, tmp_path):
        quantizer.save(tmp_path / "q")
        loaded = type(quantizer).load(tmp_path / "q")
        assert loaded.get_params() == quantizer.get_params()
        given = part(sigma, TEST)
        np.testing.assert_array_equal(
            loaded.predict(MEANS[TEST], **given), quantizer.predict(MEANS[TEST], **given)
        )
        assert type(Quantizer.load(tmp_path / "q")) is type(quantizer)
        arrays, values = quantizer.fitted_state()
        loaded_arrays, loaded_values = loaded.fitted_state()
        assert loaded_values == values
        assert loaded_arrays.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded_arrays[name], array, strict=True)

    def test_damaged_files_are_refused(self, quantizer, tmp_path):
        quantizer.save(tmp_path / "q")
        path = tmp_path / "q" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CorruptArtifactError, match="altered or truncated"):
            Quantizer.load(tmp_path / "q")

    def test_config_on_disk_is_plain_json(self, spec, tmp_path):
        state = np.random.RandomState(0)
        quantizer = build("quantizer", spec, n_codes=np.int64(9), random_state=state)
        quantizer.fit(MEANS[TRAIN]).save(tmp_path / "q")
        config = json.loads((tmp_path / "q" / "config.json").read_text())
        assert config["kind"] == spec.kind
        assert config["params"]["n_codes"] == 9
        assert config["params"]["random_state"] is None

    def test_as_a_module_it_gives_the_same_codes(self, quantizer, sigma):
        module = quantizer.as_module()
        z = torch.from_numpy(MEANS[TEST]).reshape(10, 20, 4).requires_grad_()
        s = None if sigma is None else torch.from_numpy(SIGMAS[TEST]).reshape(10, 20, 4)
        output = module(z, s)
        codes = quantizer.predict(MEANS[TEST], **part(sigma, TEST))
        assert output.codes.shape == (10, 20, *codes.shape[1:])
        np.testing.assert_array_equal(output.codes.reshape(codes.shape), codes)
        assert torch.equal(module.lookup(output.codes), output.z_q)
        quantized = quantizer.transform(MEANS[TEST], **part(sigma, TEST))
        np.testing.assert_array_equal(output.z_q.detach().reshape(200, 4), quantized)
        assert output.loss == 0
        (gradient,) = torch.autograd.grad((output.z_q * torch.arange(4.0)).sum(), z)
        assert torch.equal(gradient, torch.arange(4.0).double().expand_as(z))

    def test_module_states_its_rate(self, quantizer):
        module = quantizer.as_module()
        levels = quantizer.codebook_.shape[0] if quantizer.codebook_.ndim == 3 else 1
        assert module.n_codes == (16,) * levels
        assert module.bits == 4 * levels
        np.testing.assert_array_equal(module.codebook, quantizer.codebook_)
        assert list(module.parameters()) == []

    def test_module_is_rebuilt_from_its_state(self, quantizer, sigma):
        module = quantizer.as_module()
        z = torch.from_numpy(MEANS[TEST])
        s = None if sigma is None else torch.from_numpy(SIGMAS[TEST])
        kind = kind_of("quantizer", quantizer)
        rebuilt = FittedQuantizer.from_state(kind, module.params, module.state_dict())
        assert torch.equal(rebuilt(z, s).codes, module(z, s).codes)
        # A module of other data takes over everything with the state.
        other = clone(quantizer).fit(-MEANS[TRAIN], **part(sigma, TRAIN)).as_module()
        other.load_state_dict(module.state_dict())
        assert torch.equal(other(z, s).codes, module(z, s).codes)
        assert torch.equal(other(z, s).z_q, module(z, s).z_q)

    def test_sigma_is_given_to_fit_and_to_coding_or_to_neither(self, quantizer, sigma):
        wrong = {} if sigma is not None else {"sigma": SIGMAS[TEST]}
        for method in (quantizer.predict, quantizer.transform, quantizer.score):
            with pytest.raises(InputError, match="give sigma to both or to neither"):
                method(MEANS[TEST], **wrong)
        with pytest.raises(InputError, match="give sigma to both or to neither"):
            quantizer.as_module()(torch.ones(1, 4), None if sigma is not None else torch.ones(1, 4))

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (SIGMAS[:3], r"sigma has shape \(3, 4\); expected that of X, \(400, 4\)"),
            (np.where(MEANS[TRAIN] == MEANS[7, 2], 0.0, SIGMAS[TRAIN]), "0 or less in row 7"),
            (np.where(MEANS[TRAIN] == MEANS[9, 1], np.nan, SIGMAS[TRAIN]), "sigma has NaN .* first in row 9"),
            ("text", "sigma is not an array of numbers"),
        ],
    )
    def test_impossible_sigmas_are_refused(self, spec, bad, message):
        with pytest.raises(InputError, match=message):
            build("quantizer", spec).fit(MEANS[TRAIN], sigma=bad)

    def test_points_that_are_not_finite_are_named(self, quantizer, spec, sigma):
        bad = MEANS[TRAIN].copy()
        bad[[5, 9], 1] = np.nan, np.inf
        for method in (build("quantizer", spec).fit, quantizer.predict):
            with pytest.raises(InputError, match="X has NaN or infinity in 2 of 400 rows, first in row 5"):
                method(bad, **part(sigma, TRAIN))

    def test_a_wrong_width_is_refused(self, quantizer):
        with pytest.raises(InputError, match=r"X has 3 features, but .* expecting 4"):
            quantizer.predict(MEANS[TEST, :3])
        with pytest.raises(InputError, match="z has width 3; expected 4"):
            quantizer.as_module()(torch.ones(2, 3))

    def test_more_codes_than_points_are_refused(self, spec):
        with pytest.raises(InputError, match="n_codes is 8, but X has n_samples=7"):
            build("quantizer", spec).fit(MEANS[:7])

    @pytest.mark.parametrize("n_codes", [0, -1, 2.5, True, "many"])
    def test_numbers_of_codes_are_whole_and_positive(self, spec, n_codes):
        with pytest.raises(InputError, match=r"n_codes is .*; expected a whole number of at least 1"):
            build("quantizer", spec, n_codes=n_codes).fit(MEANS[TRAIN])

    def test_codes_that_do_not_exist_are_refused(self, quantizer, sigma):
        codes = quantizer.predict(MEANS[TEST], **part(sigma, TEST))
        for wrong, message in (
            (codes + 16, "does not exist; expected 0..15"),
            (codes - 16, "does not exist; expected 0..15"),
            (codes.astype(float), "expected integers"),
            (codes[None], "codes have shape"),
        ):
            with pytest.raises(InputError, match=message):
                quantizer.inverse_transform(wrong)

    def test_unfitted_it_says_so(self, spec, tmp_path):
        quantizer = build("quantizer", spec)
        for call in (
            lambda: quantizer.predict(MEANS[TEST]),
            lambda: quantizer.inverse_transform([0]),
            lambda: quantizer.save(tmp_path / "q"),
            quantizer.as_module,
        ):
            with pytest.raises(NotFittedError):
                call()

    @pytest.mark.parametrize("shape", [(0, 4), (400, 0), (400,), (10, 10, 4)])
    def test_arrays_without_points_are_refused(self, spec, shape):
        with pytest.raises(InputError, match=r"^X: (Found array with|Expected 2D)"):
            build("quantizer", spec).fit(np.zeros(shape))

    def test_constant_columns_are_kept(self, spec, sigma):
        points = MEANS.copy()
        points[:, [0, 2]] = 3.0, 0.0
        quantizer = build("quantizer", spec, n_codes=16, random_state=0)
        quantizer.fit(points[TRAIN], **part(sigma, TRAIN))
        quantized = quantizer.transform(points[TEST], **part(sigma, TEST))
        np.testing.assert_allclose(quantized[:, [0, 2]], points[TEST][:, [0, 2]], atol=1e-6)
        assert len(np.unique(quantized, axis=0)) > 8

    def test_few_distinct_points_are_coded_exactly(self, spec):
        points = np.repeat(MEANS[:3], 5, axis=0)
        with pytest.warns(UserWarning, match="codes will never be used"):
            quantizer = build("quantizer", spec, random_state=0).fit(points)
        np.testing.assert_allclose(quantizer.transform(points), points, atol=1e-6)

    def test_one_code_is_enough(self, spec, sigma):
        quantizer = build("quantizer", spec, n_codes=1, random_state=0)
        quantizer.fit(MEANS[TRAIN], **part(sigma, TRAIN))
        assert (quantizer.predict(MEANS[TEST], **part(sigma, TEST)) == 0).all()

    def test_a_code_for_every_point_codes_it_exactly(self, spec, sigma):
        first = slice(0, 30)
        quantizer = build("quantizer", spec, n_codes=30, random_state=0)
        quantized = quantizer.fit_transform(MEANS[first], **part(sigma, first))
        np.testing.assert_allclose(quantized, MEANS[first], atol=1e-6)


def part(sigma, rows):
    return {} if sigma is None else {"sigma": sigma[rows]}
