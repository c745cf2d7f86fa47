"""Residual quantization: levels, beams, joint refinement and what they promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_contract import MEANS, TEST, TRAIN
from sklearn.base import clone
from sklearn.datasets import load_digits

from geovq.errors import InputError
from geovq.quantizers import KMeansQuantizer, ResidualQuantizer
from geovq.quantizers.additive import RIDGE, least_squares_codebooks, refine_codebooks
from geovq.search import beam_search

DIGITS = load_digits().data


def problem(seed, n, n_levels, n_codes, d):
    rng = np.random.default_rng(seed)
    codes = rng.integers(n_codes, size=(n, n_levels))
    return rng.normal(size=(n, d)), codes, rng.normal(size=(n_levels, n_codes, d))


def stacked(codes, n_codes):
    """B (n, L K), one 1 a level."""
    return np.concatenate([np.eye(n_codes)[codes_n] for codes_n in codes.T], axis=1)


def squared_error(points, codes, codebooks):
    return np.square(points - ResidualQuantizer.look_up(codebooks, codes)).sum()


@pytest.mark.parametrize("per_code", [1024, 20])
def test_one_level_is_kmeans_to_the_bit(per_code, monkeypatch):
    monkeypatch.setattr("geovq.quantizers.residual.MAX_POINTS_PER_CODE", per_code)
    one = ResidualQuantizer(16, n_levels=1, random_state=3).fit(MEANS[TRAIN])
    kmeans = KMeansQuantizer(16, random_state=3).fit(MEANS[TRAIN])
    np.testing.assert_array_equal(one.codebook_, kmeans.codebook_[None])
    np.testing.assert_array_equal(one.predict(MEANS[TEST]), kmeans.predict(MEANS[TEST])[:, None])


def test_every_level_lowers_the_error():
    quantizers = [ResidualQuantizer(16, n_levels=n, random_state=0).fit(DIGITS) for n in (1, 2, 3, 4)]
    scores = [quantizer.score(DIGITS) for quantizer in quantizers]
    assert scores == sorted(scores)
    assert scores[-1] > 0.6 * scores[0]


def test_a_wider_beam_codes_every_point_at_least_as_well_as_a_greedy_one():
    quantizer = ResidualQuantizer(16, n_levels=4, beam=1, random_state=0).fit(DIGITS[:1000])

    def errors(beam):
        wide = quantizer.set_params(beam=beam)
        return np.square(DIGITS[1000:] - wide.transform(DIGITS[1000:])).sum(1)

    greedy, two, sixteen = errors(1), errors(2), errors(16)
    assert (two <= greedy + 1e-9).all()
    assert (sixteen <= greedy + 1e-9).all()
    assert sixteen.mean() < 0.98 * greedy.mean()


def test_training_with_the_beam_pays_when_coding_with_it():
    wide = ResidualQuantizer(16, n_levels=4, beam=8, random_state=0).fit(DIGITS)
    greedy = clone(wide).set_params(beam=1).fit(DIGITS).set_params(beam=8)
    assert wide.score(DIGITS) > greedy.score(DIGITS)


def test_two_levels_beat_one_codebook_of_the_same_storage():
    residual = ResidualQuantizer(32, n_levels=2, random_state=0).fit(DIGITS)
    flat = KMeansQuantizer(64, random_state=0).fit(DIGITS)
    assert residual.score(DIGITS) > flat.score(DIGITS)


def test_more_points_than_needed_are_sampled(monkeypatch):
    monkeypatch.setattr("geovq.quantizers.residual.MAX_POINTS_PER_CODE", 20)
    sampled = ResidualQuantizer(16, random_state=0).fit(DIGITS)
    monkeypatch.undo()
    full = ResidualQuantizer(16, random_state=0).fit(DIGITS)
    assert not np.array_equal(sampled.codebook_, full.codebook_)
    assert sampled.score(DIGITS) > 1.2 * full.score(DIGITS)


def test_without_refinements_the_first_level_is_kmeans():
    quantizer = ResidualQuantizer(16, n_refinements=0, random_state=3).fit(DIGITS)
    np.testing.assert_array_equal(
        quantizer.codebook_[0], KMeansQuantizer(16, random_state=3).fit(DIGITS).codebook_
    )
    assert not hasattr(quantizer, "objectives_")


def test_refinement_lowers_the_error_of_points_that_were_not_fitted():
    plain = ResidualQuantizer(16, n_levels=4, n_refinements=0, random_state=0).fit(DIGITS[:1300])
    refined = clone(plain).set_params(n_refinements=5).fit(DIGITS[:1300])
    assert refined.score(DIGITS[:1300]) > 0.97 * plain.score(DIGITS[:1300])
    assert refined.score(DIGITS[1300:]) > 0.985 * plain.score(DIGITS[1300:])


@pytest.mark.parametrize("beam", [1, 8])
def test_every_refinement_taken_lowers_what_the_fitted_quantizer_scores(beam):
    quantizer = ResidualQuantizer(8, n_levels=3, beam=beam, n_refinements=4, random_state=0).fit(DIGITS)
    objectives = quantizer.objectives_
    assert len(objectives) == 5
    assert (np.diff(objectives) < 0).all()
    assert objectives[-1] == pytest.approx(-quantizer.score(DIGITS))
    start = clone(quantizer).set_params(n_refinements=0).fit(DIGITS)
    assert objectives[0] == pytest.approx(-start.score(DIGITS))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), beam=st.integers(1, 4))
def test_refinement_stops_before_the_error_rises_and_keeps_the_best(seed, beam):
    points, _, codebooks = problem(seed, 60, 3, 4, 2)
    refined, objectives = refine_codebooks(points, codebooks, beam, n_refinements=200)
    assert len(objectives) < 201
    assert (np.diff(objectives) < 0).all()
    codes = beam_search(torch.from_numpy(points), torch.from_numpy(refined), beam).numpy()
    assert squared_error(points, codes, refined) == pytest.approx(60 * objectives[-1])


def test_more_refinements_go_on_where_fewer_stop():
    two, four = (
        ResidualQuantizer(16, n_levels=3, n_refinements=n, random_state=0).fit(DIGITS) for n in (2, 4)
    )
    np.testing.assert_array_equal(four.objectives_[:3], two.objectives_)


def test_codebooks_that_code_every_point_exactly_stay():
    codebooks = np.array([[[0.0, 0.0], [4.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    points = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 1.0], [4.0, 1.0]])
    refined, objectives = refine_codebooks(points, codebooks, beam=4, n_refinements=3)
    np.testing.assert_array_equal(refined, codebooks)
    np.testing.assert_array_equal(objectives, [0.0])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 60),
    n_levels=st.integers(1, 4),
    n_codes=st.integers(1, 6),
    d=st.integers(1, 3),
)
def test_codebooks_solve_their_least_squares(seed, n, n_levels, n_codes, d):
    points, codes, codebooks = problem(seed, n, n_levels, n_codes, d)
    solved = least_squares_codebooks(points, codes, codebooks)
    # The same system, from B itself: B'(X - B C') = ridge (C' - C).
    b = stacked(codes, n_codes)
    flat, start = solved.reshape(-1, d), codebooks.reshape(-1, d)
    np.testing.assert_allclose(b.T @ (points - b @ flat), RIDGE * (flat - start), atol=1e-9)
    assert squared_error(points, codes, solved) <= squared_error(points, codes, codebooks) + 1e-9
    np.testing.assert_array_equal(flat[b.sum(0) == 0], start[b.sum(0) == 0])


def test_without_a_ridge_no_codebooks_are_better(monkeypatch):
    monkeypatch.setattr("geovq.quantizers.additive.RIDGE", 1e-9)
    points, codes, codebooks = problem(0, 300, 3, 5, 4)
    solved = least_squares_codebooks(points, codes, codebooks)
    best = np.linalg.lstsq(stacked(codes, 5), points)[0].reshape(3, 5, 4)
    assert squared_error(points, codes, solved) == pytest.approx(squared_error(points, codes, best))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), together=st.integers(1, 3))
def test_a_few_levels_at_a_time_never_raise_the_error(seed, together):
    points, codes, codebooks = problem(seed, 50, 4, 5, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geovq.quantizers.additive.UNKNOWNS_AT_ONCE", 5 * together)
        in_parts = least_squares_codebooks(points, codes, codebooks)
    whole = least_squares_codebooks(points, codes, codebooks)
    assert squared_error(points, codes, in_parts) < squared_error(points, codes, codebooks)
    assert squared_error(points, codes, whole) < squared_error(points, codes, codebooks)


def test_far_from_the_origin_float32_points_are_coded_as_near_it():
    near = (DIGITS / 16).astype(np.float32)  # sixteenths, which 4096 leaves as they are
    of_near = ResidualQuantizer(16, n_levels=3, random_state=0).fit(near)
    of_far = clone(of_near).fit(near + 4096)
    assert of_far.score(near + 4096) == pytest.approx(of_near.score(near), rel=0.02)
    assert of_far.codebook_.dtype == np.float32


def test_a_beam_may_be_wider_than_all_sums():
    quantizer = ResidualQuantizer(2, n_levels=2, beam=64, random_state=0).fit(MEANS[TRAIN])
    sums = (quantizer.codebook_[0][:, None] + quantizer.codebook_[1]).reshape(4, 4)
    nearest = np.square(MEANS[TEST][:, None] - sums).sum(2).argmin(1)
    np.testing.assert_array_equal(quantizer.predict(MEANS[TEST]) @ [2, 1], nearest)


def test_one_code_a_level_is_the_mean():
    quantizer = ResidualQuantizer(1, n_levels=3, random_state=0).fit(MEANS[TRAIN])
    np.testing.assert_allclose(quantizer.codebook_.sum(0), MEANS[TRAIN].mean(0)[None], atol=1e-12)
    assert (quantizer.predict(MEANS[TEST]) == 0).all()


@pytest.mark.parametrize("name", ["n_levels", "beam", "n_iterations"])
def test_numbers_are_whole_and_positive(name):
    with pytest.raises(InputError, match=f"{name} is 0; expected a whole number"):
        ResidualQuantizer(**{name: 0}).fit(MEANS)


@pytest.mark.parametrize("n_refinements", [-1, 1.5, True])
def test_refinements_are_whole_and_not_negative(n_refinements):
    with pytest.raises(InputError, match=r"n_refinements is .*; expected a whole number of at least 0"):
        ResidualQuantizer(n_refinements=n_refinements).fit(MEANS)
