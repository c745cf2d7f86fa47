"""What every registered prior promises, on every kind of layout."""

import numpy as np
import pytest
import torch
from prior_cases import KINDS, LAYOUTS, all_codes, example, random_codes
from scipy.stats import chisquare

from geovq.errors import InputError
from geovq.priors import Prior, transformer

pytestmark = pytest.mark.parametrize("kind", KINDS)
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
HIERARCHICAL = LAYOUTS["hierarchical"]


@each_layout
def test_it_is_a_prior_and_its_probabilities_sum_to_one(kind, layout):
    prior = example(kind, layout)
    assert isinstance(prior, Prior)
    nats = prior.nll(all_codes(layout))
    assert nats.dtype == np.float64
    assert nats.shape == (np.prod(layout.slot_alphabets),)
    assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-5)


@each_layout
def test_sampled_frequencies_match_the_likelihood(kind, layout):
    prior = example(kind, layout)
    sequences = all_codes(layout)
    n = 4000
    expected = n * np.exp(-prior.nll(sequences))
    samples = prior.sample(n, seed=3)
    assert samples.dtype == np.int64
    assert samples.shape == (n, layout.n_slots)
    index = np.ravel_multi_index(tuple(samples.T), layout.slot_alphabets)
    observed = np.bincount(index, minlength=len(sequences))
    # Sequences too rare for the chi-square approximation share the cell of the most frequent one.
    cell = np.where(expected < 5, expected.argmax(), np.arange(len(expected)))
    observed, expected = (np.bincount(cell, weights=counts) for counts in (observed, expected))
    kept = expected > 0
    expected *= n / expected.sum()  # away with the rounding of float32 logits
    assert observed.sum() == n
    assert chisquare(observed[kept], expected[kept]).pvalue > 1e-3


@each_layout
def test_the_first_samples_do_not_depend_on_how_many_follow_nor_on_batches(kind, layout, monkeypatch):
    prior = example(kind, layout)
    samples = prior.sample(50, seed=1, temperature=0.8, top_k=3, top_p=0.95)
    np.testing.assert_array_equal(prior.sample(7, seed=1, temperature=0.8, top_k=3, top_p=0.95), samples[:7])
    monkeypatch.setattr(transformer, "NUMBERS_A_BATCH", 3000)
    np.testing.assert_array_equal(prior.sample(50, seed=1, temperature=0.8, top_k=3, top_p=0.95), samples)


def test_the_seed_decides_the_samples(kind):
    prior = example(kind, HIERARCHICAL)
    np.testing.assert_array_equal(prior.sample(30, seed=5), prior.sample(30, seed=5))
    assert (prior.sample(30, seed=5) != prior.sample(30, seed=6)).any()


@each_layout
def test_nll_does_not_depend_on_how_codes_are_batched(kind, layout, monkeypatch):
    prior = example(kind, layout)
    codes = random_codes(layout, 40)
    nats = prior.nll(codes)
    one_by_one = np.concatenate([prior.nll(codes[i : i + 1]) for i in range(len(codes))])
    np.testing.assert_allclose(one_by_one, nats, rtol=1e-5)
    monkeypatch.setattr(transformer, "NUMBERS_A_BATCH", 3000)
    np.testing.assert_allclose(prior.nll(codes), nats, rtol=1e-5)


@each_layout
def test_top_k_of_one_is_greedy(kind, layout):
    prior = example(kind, layout)
    samples = prior.sample(5, top_k=1, seed=8)
    assert (samples == samples[0]).all()
    sequences = all_codes(layout)
    probabilities = np.exp(-prior.nll(sequences))
    prefix = np.ones(len(sequences), dtype=bool)
    for slot, n_codes in enumerate(layout.slot_alphabets):
        mass = [probabilities[prefix & (sequences[:, slot] == k)].sum() for k in range(n_codes)]
        assert mass[samples[0, slot]] >= max(mass) * (1 - 1e-4)
        prefix &= sequences[:, slot] == samples[0, slot]


def test_a_low_temperature_makes_samples_more_probable(kind):
    prior = example(kind, HIERARCHICAL)
    warm, cool = (prior.nll(prior.sample(300, temperature=t)).mean() for t in (1.0, 0.3))
    assert cool < warm or (kind == "uniform" and cool == warm)


def test_codes_come_as_any_integers_from_numpy_or_torch(kind):
    prior = example(kind, HIERARCHICAL)
    codes = random_codes(HIERARCHICAL, 9)
    read_only = codes.copy()
    read_only.flags.writeable = False
    nats = prior.nll(codes)
    narrow = codes.astype(np.uint16), torch.from_numpy(codes).to(torch.int32)
    for same in (*narrow, read_only, torch.from_numpy(codes), codes.tolist()):
        np.testing.assert_array_equal(prior.nll(same), nats)


def test_no_images_cost_nothing(kind):
    nats = example(kind, HIERARCHICAL).nll(np.empty((0, HIERARCHICAL.n_slots), dtype=np.int64))
    assert nats.shape == (0,)
    assert nats.dtype == np.float64


def test_codes_are_left_as_they_are(kind):
    codes = random_codes(HIERARCHICAL, 9)
    before = codes.copy()
    example(kind, HIERARCHICAL).nll(codes)
    np.testing.assert_array_equal(codes, before)


def test_no_global_generator_is_touched(kind):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    prior = example(kind, HIERARCHICAL)
    prior.nll(prior.sample(4))
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002


def test_codes_outside_the_layout_are_refused(kind):
    prior = example(kind, HIERARCHICAL)
    codes = random_codes(HIERARCHICAL, 3)
    codes[1, 2] = 1
    with pytest.raises(InputError, match=r"code 1 of image 1, slot 2 is outside its alphabet 0\.\.0"):
        prior.nll(codes)
    codes[1, 2] = -1
    with pytest.raises(InputError, match="code -1 of image 1, slot 2"):
        prior.nll(codes)
    with pytest.raises(InputError, match=r"shape \(3, 5\); expected \(N, 7\)"):
        prior.nll(codes[:, :5])
    with pytest.raises(InputError, match="codes are float64; expected integers"):
        prior.nll(codes.astype(float))


def test_labels_without_classes_are_refused(kind):
    prior = example(kind, HIERARCHICAL)
    with pytest.raises(InputError, match="this prior has no classes"):
        prior.nll(random_codes(HIERARCHICAL, 3), labels=[0, 1, 2])
    with pytest.raises(InputError, match="this prior has no classes"):
        prior.sample(3, labels=[0, 1, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature is 0; expected a finite number above 0 .* give top_k=1"),
        ({"temperature": -1.0}, r"temperature is -1\.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 1.5}, r"top_k is 1\.5"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.01}, r"top_p is 1\.01"),
        ({"top_p": float("nan")}, "top_p is nan"),
    ],
)
def test_sampling_options_out_of_range_are_refused(kind, options, message):
    with pytest.raises(InputError, match=message):
        example(kind, HIERARCHICAL).sample(2, **options)


@pytest.mark.parametrize("n", [0, -3])
def test_sampling_needs_at_least_one_image(kind, n):
    with pytest.raises(InputError, match=f"n is {n}; expected at least 1"):
        example(kind, HIERARCHICAL).sample(n)


def test_state_names_and_shapes_do_not_depend_on_fitting(kind):
    fitted = example(kind, HIERARCHICAL)
    fresh = type(fitted)(HIERARCHICAL, **fitted.params)
    shapes = [{name: array.shape for name, array in p.tensors().items()} for p in (fitted, fresh)]
    assert shapes[0] == shapes[1]
