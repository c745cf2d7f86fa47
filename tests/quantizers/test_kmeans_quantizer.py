"""The Euclidean baseline, and what belongs to saving and to random states."""

import doctest

import numpy as np
import pytest
from quantizer_contract import MEANS, SIGMAS, TEST, TRAIN
from sklearn.cluster import KMeans

import geovq.quantizers.kmeans
from geovq.errors import InputError
from geovq.quantizers import GaussianQuantizer, KMeansQuantizer


def test_codes_are_the_nearest_means():
    quantizer = KMeansQuantizer(16, random_state=0).fit(MEANS[TRAIN])
    expected = np.square(MEANS[TEST][:, None] - quantizer.codebook_).sum(2).argmin(1)
    np.testing.assert_array_equal(quantizer.predict(MEANS[TEST]), expected)


def test_as_good_as_scikit_learn():
    seeds = range(8)
    reference = np.mean([KMeans(32, n_init=1, random_state=seed).fit(MEANS).inertia_ for seed in seeds])
    ours = np.mean([KMeansQuantizer(32, random_state=seed).fit(MEANS).score(MEANS) for seed in seeds])
    assert -ours * len(MEANS) < 1.05 * reference


def test_sigma_changes_nothing():
    plain = KMeansQuantizer(16, random_state=0).fit(MEANS)
    given = KMeansQuantizer(16, random_state=0).fit(MEANS, sigma=SIGMAS)
    np.testing.assert_array_equal(plain.codebook_, given.codebook_)


def test_iterations_lower_the_error():
    scores = [KMeansQuantizer(16, n_iterations=n, random_state=0).fit(MEANS).score(MEANS) for n in (1, 25)]
    assert scores[0] < scores[1]
    with pytest.raises(InputError, match="n_iterations is 0"):
        KMeansQuantizer(n_iterations=0).fit(MEANS)


def test_random_states_are_numbers_generators_or_fresh():
    by_number = [KMeansQuantizer(16, random_state=5).fit(MEANS).codebook_ for _ in range(2)]
    np.testing.assert_array_equal(*by_number)
    by_generator = KMeansQuantizer(16, random_state=np.random.RandomState(5)).fit(MEANS).codebook_
    np.testing.assert_array_equal(by_generator, by_number[0])
    fresh = [KMeansQuantizer(16).fit(MEANS).codebook_ for _ in range(2)]
    assert not np.array_equal(*fresh)
    with pytest.raises(InputError, match="random_state"):
        KMeansQuantizer(random_state="today").fit(MEANS)


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    KMeansQuantizer(8).fit(MEANS)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_loading_another_class_is_refused(tmp_path):
    KMeansQuantizer(random_state=0).fit(MEANS).save(tmp_path / "q")
    with pytest.raises(InputError, match="holds a KMeansQuantizer; expected a GaussianQuantizer"):
        GaussianQuantizer.load(tmp_path / "q")


def test_names_of_columns_survive_saving(tmp_path):
    quantizer = KMeansQuantizer(random_state=0).fit(MEANS)
    # As after fitting a data frame.
    quantizer.feature_names_in_ = np.array(["a", "b", "c", "d"], dtype=object)
    quantizer.save(tmp_path / "q")
    loaded = KMeansQuantizer.load(tmp_path / "q")
    assert loaded.get_feature_names_out().tolist() == ["a", "b", "c", "d"]
    assert loaded.feature_names_in_.dtype == object


def test_example_of_the_docstring():
    result = doctest.testmod(geovq.quantizers.kmeans)
    assert result.attempted > 0
    assert result.failed == 0
