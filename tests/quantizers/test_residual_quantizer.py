"""Residual quantization: levels, beams and what they promise."""

import numpy as np
import pytest
from quantizer_contract import MEANS, TEST, TRAIN
from sklearn.base import clone
from sklearn.datasets import load_digits

from geovq.errors import InputError
from geovq.quantizers import KMeansQuantizer, ResidualQuantizer

DIGITS = load_digits().data


def test_one_level_is_kmeans_cells():
    one = ResidualQuantizer(16, n_levels=1, random_state=0).fit(MEANS[TRAIN])
    kmeans = KMeansQuantizer(16, random_state=0)
    kmeans.fit(MEANS[TRAIN])
    assert one.score(MEANS[TEST]) == pytest.approx(kmeans.score(MEANS[TEST]), rel=0.1)
    assert one.predict(MEANS[TEST]).shape == (200, 1)


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


@pytest.mark.parametrize("name", ["n_levels", "beam", "n_iterations"])
def test_numbers_are_whole_and_positive(name):
    with pytest.raises(InputError, match=f"{name} is 0; expected a whole number"):
        ResidualQuantizer(**{name: 0}).fit(MEANS)
