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
    "gaussian": [
        {"metric": metric} for metric in ("wasserstein", "precision", "m-projection", "i-projection")
    ],
    "geodesic": [
        {"edges": edges, "centers": centers, "assignment": assignment}
        for edges in DATA_EDGES
        for centers, assignment in (("medoid", "graph"), ("mean", "graph"), ("mean", "nearest"))
    ],
    "kmedoids": [{}, {"power": 1, "polish": True}],
    "residual": [{}, {"n_levels": 4, "beam": 1}],
    "scalar": [{}, {"allotment": "equal"}],
}
FIXED_CODEBOOKS = ("gaussian-quant", "tokenbridge")
"""Quantizers whose codebook does not depend on the points, which a few points therefore do not become."""

NOT_ALL_SUMS = ("scalar",)
"""Quantizers that have whole bits an axis: 30 codes are too few for 30 points that differ on every axis."""


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


def digit_metrics() -> np.ndarray:
    """Metric tensors (n, 4, 4) that turn from point to point."""
    factors = np.random.default_rng(0).normal(size=(len(MEANS), 4, 4)) * np.array([2.0, 1.0, 0.5, 0.25])
    return factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(4)


MEANS, SIGMAS = digit_latents()
METRICS = digit_metrics()
TRAIN, TEST = slice(0, 400), slice(400, 600)


class QuantizerContract:
    @pytest.fixture(params=["points", "sigma"])
    def given(self, request, spec):
        """What is given beside the points: nothing, or sigma and whatever else the quantizer looks at."""
        if request.param == "points":
            return {}
        takes_metric = build("quantizer", spec).takes_metric
        return {"sigma": SIGMAS, "metric": METRICS} if takes_metric else {"sigma": SIGMAS}

    @pytest.fixture
    def quantizer(self, spec, given) -> Quantizer:
        quantizer = build("quantizer", spec, n_codes=16, random_state=0)
        return quantizer.fit(MEANS[TRAIN], **part(given, TRAIN))

    def test_codes_and_vectors_have_the_agreed_shapes(self, quantizer, given):
        codes = quantizer.predict(MEANS[TEST], **part(given, TEST))
        levels = levels_of(quantizer.codebook_)
        assert codes.shape == ((200,) if codes.ndim == 1 else (200, len(levels)))
        assert codes.dtype == np.int64
        assert codes.min() >= 0
        sizes = [len(level) for level in levels]
        assert (codes.reshape(200, -1) < sizes).all()
        assert all(level.shape == (size, 4) for level, size in zip(levels, sizes, strict=True))
        planned = np.log2(quantizer.planned_sizes(4)).sum()
        assert planned - 1 < np.log2(sizes).sum() <= planned
        assert quantizer.transform(MEANS[TEST], **part(given, TEST)).shape == (200, 4)

    def test_transform_looks_the_codes_up(self, quantizer, given):
        codes = quantizer.predict(MEANS[TEST], **part(given, TEST))
        quantized = quantizer.transform(MEANS[TEST], **part(given, TEST))
        np.testing.assert_array_equal(quantizer.inverse_transform(codes), quantized)

    def test_score_is_minus_the_mean_squared_distortion(self, quantizer, given):
        quantized = quantizer.transform(MEANS[TEST], **part(given, TEST))
        expected = -np.square(MEANS[TEST] - quantized).sum(1).mean()
        assert quantizer.score(MEANS[TEST], **part(given, TEST)) == pytest.approx(expected, rel=1e-12)

    def test_coding_is_better_than_one_mean(self, quantizer, given):
        of_one_mean = -np.square(MEANS[TEST] - MEANS[TRAIN].mean(0)).sum(1).mean()
        assert quantizer.score(MEANS[TEST], **part(given, TEST)) > 0.8 * of_one_mean

    def test_fitting_and_coding_in_one_call(self, quantizer, given):
        again = clone(quantizer)
        beside = part(given, TRAIN)
        codes = quantizer.predict(MEANS[TRAIN], **beside)
        quantized = quantizer.transform(MEANS[TRAIN], **beside)
        np.testing.assert_array_equal(again.fit_predict(MEANS[TRAIN], **beside), codes)
        np.testing.assert_array_equal(again.fit_transform(MEANS[TRAIN], **beside), quantized)

    def test_float32_stays_and_everything_else_becomes_float64(self, spec, given):
        beside = part(given, TRAIN)
        narrow = build("quantizer", spec, random_state=0).fit(MEANS[TRAIN].astype(np.float32), **beside)
        assert narrow.transform(MEANS[TRAIN].astype(np.float32), **beside).dtype == np.float32
        assert narrow.transform(MEANS[TRAIN], **beside).dtype == np.float64
        whole = (10 * MEANS[TRAIN]).astype(np.int32)
        assert build("quantizer", spec, random_state=0).fit_transform(whole, **beside).dtype == np.float64

    def test_same_random_state_same_bytes(self, quantizer, given):
        again = clone(quantizer).fit(MEANS[TRAIN], **part(given, TRAIN))
        repeated = again.fitted_state()[0]
        for name, array in quantizer.fitted_state()[0].items():
            assert repeated[name].tobytes() == array.tobytes(), name

    def test_a_new_fit_leaves_nothing_of_the_one_before(self, spec):
        quantizer = build("quantizer", spec, random_state=0).fit(MEANS[TRAIN], sigma=SIGMAS[TRAIN])
        arrays, values = quantizer.fit(MEANS[TEST]).fitted_state()
        fresh = clone(quantizer).fit(MEANS[TEST])
        assert values == fresh.fitted_state()[1]
        assert arrays.keys() == fresh.fitted_state()[0].keys()

    def test_codes_of_a_point_do_not_depend_on_the_others(self, quantizer, given):
        codes = quantizer.predict(MEANS[TEST], **part(given, TEST))
        order = np.random.default_rng(0).permutation(200)
        shuffled = part(part(given, TEST), order)
        np.testing.assert_array_equal(quantizer.predict(MEANS[TEST][order], **shuffled), codes[order])
        one = slice(400, 401)
        np.testing.assert_array_equal(quantizer.predict(MEANS[one], **part(given, one)), codes[:1])

    def test_saved_and_loaded_it_gives_the_same_codes(self, quantizer, given, tmp_path):
        quantizer.save(tmp_path / "q")
        loaded = type(quantizer).load(tmp_path / "q")
        assert loaded.get_params() == quantizer.get_params()
        beside = part(given, TEST)
        np.testing.assert_array_equal(
            loaded.predict(MEANS[TEST], **beside), quantizer.predict(MEANS[TEST], **beside)
        )
        assert type(Quantizer.load(tmp_path / "q")) is type(quantizer)
        arrays, values = quantizer.fitted_state()
        loaded_arrays, loaded_values = loaded.fitted_state()
        assert loaded_values == values
        assert loaded_arrays.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded_arrays[name], array, strict=True)

    def test_what_was_fitted_in_float32_gives_the_same_codes_wherever_it_is(self, spec, given, tmp_path):
        means = MEANS.astype(np.float32)
        quantizer = build("quantizer", spec, n_codes=16, random_state=0).fit(
            means[TRAIN], **part(given, TRAIN)
        )
        codes = quantizer.predict(means[TEST], **part(given, TEST))
        quantizer.save(tmp_path / "q")
        loaded = Quantizer.load(tmp_path / "q")
        np.testing.assert_array_equal(loaded.predict(means[TEST], **part(given, TEST)), codes)
        assert loaded.transform(means[TEST], **part(given, TEST)).dtype == np.float32
        narrow = {name: array.astype(np.float32) for name, array in given.items()}
        output = quantizer.as_module()(torch.from_numpy(means[TEST]), *tensors(narrow, TEST, (200,)))
        np.testing.assert_array_equal(output.codes, codes)
        assert output.z_q.dtype == torch.float32

    def test_another_number_of_codes_is_for_the_next_fit(self, quantizer, given):
        codes = quantizer.predict(MEANS[TEST], **part(given, TEST))
        quantizer.set_params(n_codes=2)
        np.testing.assert_array_equal(quantizer.predict(MEANS[TEST], **part(given, TEST)), codes)

    def test_units_do_not_matter(self, spec):
        if spec.kind in FIXED_CODEBOOKS:
            pytest.skip("the codebook is not learnt")
        plain = build("quantizer", spec, n_codes=16, random_state=0)

        def error(unit):
            means = (unit * MEANS).astype(np.float32)
            # Without sigma all sigmas are 1, which means something else in every unit.
            given = {"sigma": unit * SIGMAS} if plain.takes_sigma else {}
            given |= {"metric": METRICS} if plain.takes_metric else {}
            quantizer = clone(plain).fit(means[TRAIN], **part(given, TRAIN))
            return -quantizer.score(means[TEST], **part(given, TEST)) / unit**2

        expected = error(1.0)
        assert [error(2.0**exponent) for exponent in (-100, 100)] == pytest.approx([expected] * 2, rel=0.03)

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

    def test_as_a_module_it_gives_the_same_codes(self, quantizer, given):
        module = quantizer.as_module()
        z = torch.from_numpy(MEANS[TEST]).reshape(10, 20, 4).requires_grad_()
        output = module(z, *tensors(given, TEST, (10, 20)))
        codes = quantizer.predict(MEANS[TEST], **part(given, TEST))
        assert output.codes.shape == (10, 20, *codes.shape[1:])
        np.testing.assert_array_equal(output.codes.reshape(codes.shape), codes)
        assert torch.equal(module.lookup(output.codes), output.z_q)
        quantized = quantizer.transform(MEANS[TEST], **part(given, TEST))
        np.testing.assert_array_equal(output.z_q.detach().reshape(200, 4), quantized)
        assert output.loss == 0
        (gradient,) = torch.autograd.grad((output.z_q * torch.arange(4.0)).sum(), z)
        assert torch.equal(gradient, torch.arange(4.0).double().expand_as(z))

    def test_module_codes_narrow_floats_and_no_points(self, quantizer, given):
        module = quantizer.as_module()
        narrow = torch.from_numpy(MEANS[TEST]).bfloat16()
        beside = [None if tensor is None else tensor.bfloat16() for tensor in tensors(given, TEST, (200,))]
        wide = [None if tensor is None else tensor.float() for tensor in beside]
        codes = module(narrow.float(), *wide).codes
        output = module(narrow, *beside)
        assert torch.equal(output.codes, codes)
        assert output.z_q.dtype == torch.bfloat16
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(module(narrow, *beside).codes, codes)
        none = module(narrow[:0], *(None if tensor is None else tensor[:0] for tensor in beside))
        assert none.codes.shape == (0, *codes.shape[1:])

    def test_module_states_its_rate(self, quantizer):
        module = quantizer.as_module()
        levels = levels_of(quantizer.codebook_)
        assert module.n_codes == tuple(len(level) for level in levels)
        assert module.bits == pytest.approx(sum(np.log2(size) for size in module.n_codes))
        for mine, theirs in zip(levels_of(module.codebook), levels, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert list(module.parameters()) == []

    def test_module_is_rebuilt_from_its_state(self, quantizer, given):
        module = quantizer.as_module()
        z = torch.from_numpy(MEANS[TEST])
        beside = tensors(given, TEST, (200,))
        kind = kind_of("quantizer", quantizer)
        rebuilt = FittedQuantizer.from_state(kind, module.params, module.state_dict())
        assert torch.equal(rebuilt(z, *beside).codes, module(z, *beside).codes)
        # A module of other data takes over everything with the state.
        other = clone(quantizer).fit(-MEANS[TRAIN], **part(given, TRAIN)).as_module()
        other.load_state_dict(module.state_dict())
        assert torch.equal(other(z, *beside).codes, module(z, *beside).codes)
        assert torch.equal(other(z, *beside).z_q, module(z, *beside).z_q)

    @pytest.mark.parametrize("name", ["sigma", "metric"])
    def test_what_is_given_to_fit_is_given_to_coding(self, quantizer, given, name):
        full = {"sigma": SIGMAS, "metric": METRICS}
        wrong = {key: array for key, array in given.items() if key != name}
        if name not in given:
            wrong[name] = full[name]
        beside = part(wrong, TEST)
        for method in (quantizer.predict, quantizer.transform, quantizer.score):
            with pytest.raises(InputError, match=f"give {name} to both or to neither"):
                method(MEANS[TEST], **beside)
        with pytest.raises(InputError, match=f"give {name} to both or to neither"):
            quantizer.as_module()(torch.from_numpy(MEANS[TEST]), *tensors(wrong, TEST, (200,)))

    def test_a_metric_is_accepted_by_all(self, spec):
        quantizer = build("quantizer", spec, random_state=0)
        codes = quantizer.fit_predict(MEANS[TRAIN], metric=METRICS[TRAIN])
        if not quantizer.takes_metric:
            np.testing.assert_array_equal(codes, clone(quantizer).fit_predict(MEANS[TRAIN]))

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (METRICS[:3], r"metric has shape \(3, 4, 4\); expected \(n, d, d\) for X \(400, 4\)"),
            (METRICS[TRAIN] + np.triu(np.ones((4, 4)), 1), "metric is not symmetric in row 0"),
            (METRICS[TRAIN] - 50 * np.eye(4), "metric has the eigenvalue -.* in row 0; expected positive"),
            (0 * METRICS[TRAIN], "metric has the eigenvalue 0 in row 0"),
            (np.where(METRICS[TRAIN] == METRICS[9, 0, 0], np.nan, METRICS[TRAIN]), "first in row 9"),
        ],
    )
    def test_impossible_metrics_are_refused(self, spec, bad, message):
        with pytest.raises(InputError, match=message):
            build("quantizer", spec).fit(MEANS[TRAIN], metric=bad)

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

    def test_points_that_are_not_finite_are_named(self, quantizer, spec, given):
        bad = MEANS[TRAIN].copy()
        bad[[5, 9], 1] = np.nan, np.inf
        for method in (build("quantizer", spec).fit, quantizer.predict):
            with pytest.raises(InputError, match="X has NaN or infinity in 2 of 400 rows, first in row 5"):
                method(bad, **part(given, TRAIN))

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

    def test_codes_that_do_not_exist_are_refused(self, quantizer, given):
        codes = quantizer.predict(MEANS[TEST], **part(given, TEST))
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

    def test_constant_columns_are_kept(self, spec, given):
        if spec.kind in FIXED_CODEBOOKS:
            pytest.skip("the codebook is not learnt")
        if "metric" in given:
            pytest.skip("with metric tensors an error in one column makes up for another's")
        points = MEANS.copy()
        points[:, [0, 2]] = 3.0, 0.0
        quantizer = build("quantizer", spec, n_codes=16, random_state=0)
        quantizer.fit(points[TRAIN], **part(given, TRAIN))
        quantized = quantizer.transform(points[TEST], **part(given, TEST))
        np.testing.assert_allclose(quantized[:, [0, 2]], points[TEST][:, [0, 2]], atol=1e-6)
        assert len(np.unique(quantized, axis=0)) > 8

    def test_few_distinct_points_are_coded_exactly(self, spec):
        if spec.kind in FIXED_CODEBOOKS:
            pytest.skip("the codebook is not learnt")
        points = np.repeat(MEANS[:3], 5, axis=0)
        with pytest.warns(UserWarning, match="codes will never be used"):
            quantizer = build("quantizer", spec, random_state=0).fit(points)
        np.testing.assert_allclose(quantizer.transform(points), points, atol=1e-6)

    def test_one_code_is_enough(self, spec, given):
        quantizer = build("quantizer", spec, n_codes=1, random_state=0)
        quantizer.fit(MEANS[TRAIN], **part(given, TRAIN))
        assert (quantizer.predict(MEANS[TEST], **part(given, TEST)) == 0).all()

    def test_a_code_for_every_point_codes_it_exactly(self, spec, given):
        if spec.kind in FIXED_CODEBOOKS + NOT_ALL_SUMS:
            pytest.skip("the codebook is not learnt, or has whole bits an axis")
        first = slice(0, 30)
        quantizer = build("quantizer", spec, n_codes=30, random_state=0)
        quantized = quantizer.fit_transform(MEANS[first], **part(given, first))
        np.testing.assert_allclose(quantized, MEANS[first], atol=1e-6)


def part(given, rows):
    return {name: array[rows] for name, array in given.items()}


def levels_of(codebook) -> list[np.ndarray]:
    """The codebooks (K_l, d) of every level."""
    return [codebook] if not isinstance(codebook, list) and codebook.ndim == 2 else list(codebook)


def tensors(given, rows, shape):
    """``given`` as the further arguments of a module: sigma and metric, ``shape`` in place of n."""
    found = (given.get(name) for name in ("sigma", "metric"))
    return [None if a is None else torch.from_numpy(a[rows]).reshape(*shape, *a.shape[1:]) for a in found]
