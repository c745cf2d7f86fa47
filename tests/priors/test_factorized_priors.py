"""The floors: their values in closed form."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prior_cases import LAYOUTS, random_codes

from geovq.errors import InputError
from geovq.priors import UniformPrior, UnigramPrior
from geovq.tokenizer.layout import CodeGrid, CodeLayout

HIERARCHICAL = LAYOUTS["hierarchical"]

layouts = st.lists(
    st.builds(
        CodeGrid,
        st.just("grid"),
        st.integers(1, 2),
        st.integers(1, 2),
        st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=2,
).map(lambda grids: CodeLayout(tuple(grids)))


@given(layouts)
def test_uniform_costs_the_nominal_bits(layout):
    nats = UniformPrior(layout).fit(random_codes(layout, 3)).nll(random_codes(layout, 5))
    np.testing.assert_allclose(nats, layout.bits * math.log(2), rtol=1e-12, atol=1e-12)


@given(layouts, st.integers(1, 12))
def test_unigram_is_the_krichevsky_trofimov_estimate_of_each_slot(layout, n):
    seen, new = random_codes(layout, n, seed=1), random_codes(layout, 4, seed=2)
    expected = np.zeros(len(new))
    for slot, n_codes in enumerate(layout.slot_alphabets):
        counts = Counter(seen[:, slot].tolist())
        for image, code in enumerate(new[:, slot].tolist()):
            expected[image] -= math.log((counts[code] + 0.5) / (n + n_codes / 2))
    np.testing.assert_allclose(UnigramPrior(layout).fit(seen).nll(new), expected, rtol=1e-12, atol=1e-12)


def test_slots_of_one_alphabet_have_histograms_of_their_own():
    layout = CodeLayout((CodeGrid("codes", 1, 2, (2,)),))
    prior = UnigramPrior(layout).fit(np.tile([0, 1], (50, 1)))
    assert prior.nll([[0, 1]])[0] == pytest.approx(2 * math.log(51 / 50.5))
    assert prior.nll([[1, 0]])[0] == pytest.approx(2 * math.log(51 / 0.5))


def test_fitting_again_forgets():
    first, second = random_codes(HIERARCHICAL, 30, seed=1), random_codes(HIERARCHICAL, 30, seed=2)
    np.testing.assert_array_equal(
        UnigramPrior(HIERARCHICAL).fit(first).fit(second).nll(first),
        UnigramPrior(HIERARCHICAL).fit(second).nll(first),
    )


def test_uniform_checks_the_codes_it_has_no_use_for():
    with pytest.raises(InputError, match="code 9 of image 0, slot 0"):
        UniformPrior(HIERARCHICAL).fit(np.full((1, 7), 9))


def test_unigram_must_have_counted_something():
    with pytest.raises(InputError, match=r"has counted no codes; call fit\(codes\) first"):
        UnigramPrior(HIERARCHICAL).nll(random_codes(HIERARCHICAL, 2))
    with pytest.raises(InputError, match="codes hold no image"):
        UnigramPrior(HIERARCHICAL).fit(np.empty((0, 7), dtype=int))
    with pytest.raises(InputError, match="code 9 of image 0, slot 0"):
        UnigramPrior(HIERARCHICAL).fit(np.full((1, 7), 9))
