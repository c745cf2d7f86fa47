"""Product quantization: groups, and what their independence promises."""

import itertools

import numpy as np
import pytest
from quantizer_contract import MEANS, METRICS, SIGMAS, TEST, TRAIN
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from geovq.errors import InputError
from geovq.quantizers.kmeans import KMeansQuantizer
from geovq.quantizers.product import ProductQuantizer, coordinate_groups
from geovq.quantizers.residual import ResidualQuantizer

DIGITS = load_digits().data
WIDE = PCA(8, random_state=0).fit_transform(DIGITS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_one_group_is_kmeans_and_one_residual_level_bit_for_bit(seed, dtype):
    means = MEANS.astype(dtype)
    kmeans = KMeansQuantizer(16, random_state=seed).fit(means[TRAIN])
    for one in (
        ProductQuantizer(16, n_groups=1, random_state=seed),
        ResidualQuantizer(16, n_levels=1, random_state=seed),
    ):
        one.fit(means[TRAIN])
        assert one.codebook_[0].tobytes() == kmeans.codebook_.tobytes()
        np.testing.assert_array_equal(one.predict(means[TEST])[:, 0], kmeans.predict(means[TEST]))
        assert one.score(means[TEST]) == kmeans.score(means[TEST])


def test_codes_give_the_nearest_of_all_products():
    quantizer = ProductQuantizer(4, n_groups=3, random_state=0).fit(WIDE[:400, :7])
    points = WIDE[400:600, :7]
    every = np.array(list(itertools.product(range(4), repeat=3)))
    distances = np.square(points[:, None] - quantizer.inverse_transform(every)).sum(2)
    found = np.square(points - quantizer.transform(points)).sum(1)
    np.testing.assert_allclose(found, distances.min(1), rtol=1e-12)


def test_every_group_is_coded_by_its_own_kmeans():
    quantizer = ProductQuantizer(16, n_groups=2, random_state=0).fit(MEANS[TRAIN])
    for level, group in enumerate((slice(0, 2), slice(2, 4))):
        book = quantizer.codebook_[level]
        assert not np.delete(book, np.r_[group], axis=1).any()
        part = MEANS[TRAIN, group]
        error = np.square(part - quantizer.transform(MEANS[TRAIN])[:, group]).sum(1).mean()
        alone = KMeansQuantizer(16, random_state=0).fit(part)
        assert error == pytest.approx(-alone.score(part), rel=0.1)


def test_groups_start_differently():
    twice = np.concatenate([MEANS, MEANS], axis=1)
    quantizer = ProductQuantizer(16, random_state=0).fit(twice)
    assert not np.array_equal(quantizer.codebook_[0, :, :4], quantizer.codebook_[1, :, 4:])


@pytest.mark.parametrize(
    ("d", "n_groups", "sizes"), [(8, 2, [4, 4]), (7, 3, [3, 2, 2]), (3, 3, [1, 1, 1]), (2, 5, [1, 1])]
)
def test_groups_are_consecutive_and_as_equal_as_possible(d, n_groups, sizes):
    groups = coordinate_groups(d, n_groups)
    assert [group.stop - group.start for group in groups] == sizes
    assert np.concatenate([np.arange(d)[group] for group in groups]).tolist() == list(range(d))


@pytest.mark.parametrize("d", [1, 2, 3, 5, 8])
def test_the_planned_sizes_are_those_of_the_codes(d):
    quantizer = ProductQuantizer(8, n_groups=3, random_state=0)
    planned = quantizer.planned_sizes(d)
    quantizer.fit(WIDE[:100, :d])
    assert planned == (8,) * min(3, d) == quantizer.as_module().n_codes
    assert quantizer.predict(WIDE[:100, :d]).shape == (100, len(planned))


def test_more_groups_lower_the_error():
    scores = [ProductQuantizer(16, n_groups=n, random_state=0).fit(DIGITS).score(DIGITS) for n in (1, 2, 4)]
    assert scores == sorted(scores)
    assert scores[-1] > 0.7 * scores[0]


def test_sigma_and_metric_change_nothing():
    plain = ProductQuantizer(random_state=0).fit(MEANS)
    given = ProductQuantizer(random_state=0).fit(MEANS, sigma=SIGMAS, metric=METRICS)
    np.testing.assert_array_equal(plain.codebook_, given.codebook_)


def test_a_warning_names_the_group_whose_codes_are_too_many():
    points = MEANS.copy()
    points[:, 2:] = 1.0
    with pytest.warns(UserWarning, match=r"coordinates 2\.\.3: .* only 1 points are distinct"):
        quantizer = ProductQuantizer(random_state=0).fit(points)
    assert np.unique(quantizer.predict(points)[:, 1]).tolist() == [0]


@pytest.mark.parametrize("name", ["n_groups", "n_iterations"])
def test_numbers_are_whole_and_positive(name):
    with pytest.raises(InputError, match=f"{name} is 0; expected a whole number"):
        ProductQuantizer(**{name: 0}).fit(MEANS)
