"""Truncation against a slow reference, and draws by inversion."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geovq.priors.sampling import SamplingRule, draw, sampling_uniforms

weights_1d = arrays(np.float64, st.integers(1, 8), elements=st.integers(0, 5).map(float))
logits_1d = arrays(np.float64, st.integers(1, 12), elements=st.integers(-6, 6).map(float))


def reference(logits, temperature, top_k, top_p):
    """Temperature, top-k and top-p by sorting and loops."""
    p = np.exp((logits - logits.max()) / temperature)
    ranked = sorted(range(len(p)), key=lambda k: (-p[k], k))
    if top_k:
        ranked = ranked[:top_k]
    mass = sum(p[k] for k in ranked)
    kept, reached = [], 0.0
    for k in ranked:
        if kept and reached >= top_p:
            break
        kept.append(k)
        reached += p[k] / mass
    truncated = np.zeros(len(p))
    truncated[kept] = p[kept]
    return truncated / truncated.sum()


@given(
    logits_1d,
    st.sampled_from([0.2, 0.9, 1.0, 3.0]),
    st.integers(0, 14),
    st.sampled_from([0.05, 0.37, 0.93, 1.0]),
)
def test_probabilities_equal_the_slow_reference(logits, temperature, top_k, top_p):
    found = SamplingRule(temperature, top_k, top_p).probabilities(torch.from_numpy(logits))
    np.testing.assert_allclose(found.numpy(), reference(logits, temperature, top_k, top_p), atol=1e-12)


@given(logits_1d, st.integers(1, 12))
def test_top_k_keeps_exactly_k(logits, top_k):
    found = SamplingRule(top_k=top_k).probabilities(torch.from_numpy(logits))
    assert (found > 0).sum() == min(top_k, len(logits))
    assert found.sum() == pytest.approx(1)


@given(logits_1d, st.floats(1e-6, 1.0))
def test_nucleus_keeps_one_at_least_and_none_too_many(logits, top_p):
    full = torch.from_numpy(logits).softmax(-1)
    kept = full[SamplingRule(top_p=top_p).probabilities(torch.from_numpy(logits)) > 0]
    assert len(kept) >= 1
    assert kept.sum() >= top_p - 1e-12
    assert kept.sum() - kept.min() < top_p + 1e-12


def test_rows_are_independent():
    logits = torch.tensor([[0.0, 1.0, 2.0], [5.0, 0.0, 0.0]])
    rule = SamplingRule(0.7, 2, 0.9)
    found = rule.probabilities(logits)
    for row, expected in zip(found, map(rule.probabilities, logits), strict=True):
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("temperature", [1e-308, 1e-30, 1e300])
def test_extreme_temperatures_stay_finite(temperature):
    found = SamplingRule(temperature).probabilities(torch.tensor([-40.0, 3.0, 3.5]))
    assert found.isfinite().all()
    expected = [1 / 3] * 3 if temperature > 1 else [0, 0, 1]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@given(weights_1d.filter(lambda weights: weights.sum() > 0), st.floats(0, 1, exclude_max=True))
def test_draw_inverts_the_cumulative_distribution(weights, uniform):
    probabilities = weights / weights.sum()
    code = int(draw(torch.from_numpy(probabilities), torch.tensor([uniform], dtype=torch.float64))[0])
    assert probabilities[code] > 0
    below, upto = probabilities[:code].sum(), probabilities[: code + 1].sum()
    assert below - 1e-12 <= uniform <= upto + 1e-12


@given(arrays(np.float64, st.integers(1, 8), elements=st.floats(1e-9, 1)), st.integers(0, 3))
def test_the_largest_uniform_draws_the_last_possible_code(weights, n_impossible):
    weights = torch.from_numpy(np.append(weights, np.zeros(n_impossible)))
    uniform = torch.tensor([np.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert weights[draw(weights, uniform)] > 0


def test_a_nucleus_that_is_reached_exactly_is_complete():
    equal = torch.zeros(4)  # probabilities of exactly 1/4
    assert SamplingRule(top_p=0.25).probabilities(equal).tolist() == [1, 0, 0, 0]
    assert SamplingRule(top_p=0.5).probabilities(equal).tolist() == [0.5, 0.5, 0, 0]


def test_equal_codes_of_a_large_alphabet_are_kept_from_the_lowest():
    kept = SamplingRule(top_k=3).probabilities(torch.zeros(2, 4096))
    assert kept.nonzero()[:, 1].tolist() == [0, 1, 2, 0, 1, 2]


def test_rows_draw_from_their_own_distribution():
    probabilities = torch.tensor([0.1, 0.2, 0.7, 0.0, 0.0], dtype=torch.float64)
    uniform = torch.tensor([np.nextafter(1.0, 0.0), 0.0], dtype=torch.float64)
    assert draw(probabilities, uniform).tolist() == [2, 0]
    assert draw(probabilities.flip(0).expand(2, -1), uniform).tolist() == [4, 2]


def test_uniforms_are_keyed_by_seed_slot_and_image():
    uniforms = sampling_uniforms(6, 3, seed=4)
    assert uniforms.shape == (6, 3)
    assert torch.equal(sampling_uniforms(2, 2, seed=4), uniforms[:2, :2])
    assert uniforms.unique().numel() == 18
    assert not torch.equal(sampling_uniforms(6, 3, seed=5), uniforms)
