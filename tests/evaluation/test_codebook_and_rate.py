"""Codebook use and code lengths, on codes whose answers are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovq.evaluation.codebook import codebook_use, usage_counts
from geovq.evaluation.rate import code_rate, prior_rate
from geovq.priors import UniformPrior, UnigramPrior
from geovq.tokenizer.layout import CodeGrid, CodeLayout

HIERARCHY = CodeLayout((CodeGrid("top", 1, 1, (4,)), CodeGrid("bottom", 2, 1, (8, 2))))


def test_counts_pool_positions_and_keep_levels_apart() -> None:
    codes = np.array([[3, 7, 1, 7, 0], [3, 0, 1, 7, 1]])
    counts = usage_counts(HIERARCHY, codes)
    assert counts.tolist() == [
        [0, 0, 0, 2, -1, -1, -1, -1],
        [1, 0, 0, 0, 0, 0, 0, 3],
        [1, 3, -1, -1, -1, -1, -1, -1],
    ]


def test_use_of_codebooks() -> None:
    counts = np.array([[2, 2, 0, 0], [5, -1, -1, -1]])
    use = codebook_use(counts)
    assert use == {
        "utilization": 3 / 5,
        "dead_codes": 2.0,
        "perplexity": pytest.approx((2 + 1) / 2),
        "usage_entropy_bits": pytest.approx((1 + 0) / 2),
    }


@given(st.integers(0, 2**31), st.integers(2, 40))
def test_perplexity_lies_between_one_and_the_codes_in_use(seed: int, n: int) -> None:
    layout = CodeLayout((CodeGrid("latent", 1, 2, (6,)),))
    codes = np.random.default_rng(seed).integers(0, 6, (n, 2))
    use = codebook_use(usage_counts(layout, codes))
    assert 1 <= use["perplexity"] <= use["utilization"] * 6 + 1e-9
    assert use["dead_codes"] == 6 - len(np.unique(codes))


def test_entropy_bits_are_a_cross_entropy_under_the_training_histogram() -> None:
    layout = CodeLayout((CodeGrid("latent", 1, 1, (2,)),))
    train = np.array([[0]] * 99 + [[1]])
    rate = code_rate(layout, train, np.array([[0], [1]]))
    p = (1 + 0.5) / (100 + 1)
    assert rate["bits_entropy"] == pytest.approx(-(math.log2(1 - p) + math.log2(p)) / 2)
    assert rate["bits_nominal"] == 1


def test_prior_rate_stands_beside_its_floors() -> None:
    codes = np.random.default_rng(0).integers(0, [4, 8, 2, 8, 2], (50, 5))
    uniform = prior_rate(UniformPrior(HIERARCHY), codes)
    floors = code_rate(HIERARCHY, codes, codes)
    assert uniform["bits_prior"] == pytest.approx(2 + 3 + 1 + 3 + 1)
    assert uniform["bits_prior"] == pytest.approx(floors["bits_nominal"])
    assert uniform["prior_bits_per_token"] == pytest.approx(uniform["bits_prior"] / 5)
    unigram = prior_rate(UnigramPrior(HIERARCHY).fit(codes), codes)
    assert unigram["bits_prior"] == pytest.approx(floors["bits_entropy"])
