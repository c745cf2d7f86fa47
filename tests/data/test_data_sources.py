"""Names of sources, options they do not take, and the bundled digits."""

import numpy as np
import pytest

from geovq.config import DataConfig
from geovq.data import load
from geovq.errors import ConfigError, DataError, InputError


@pytest.mark.parametrize(
    "source, hint",
    [
        ("digit", "did you mean 'digits'"),
        ("minst", "did you mean 'mnist'"),
        ("fashion_mnist", "did you mean 'fashion-mnist'"),
        (
            "np:faces.npy",
            "Valid: cifar-bin:PATH, cifar10, digits, fashion-mnist, folder:PATH, idx:PATH, mnist, npy:PATH",
        ),
        ("mnist:somewhere", "unknown data source"),
        ("", "unknown data source ''"),
    ],
)
def test_an_unknown_source_is_refused_with_the_nearest(source, hint):
    with pytest.raises(ConfigError, match=hint):
        load(DataConfig(source))


@pytest.mark.parametrize("source", ["npy", "npy:", "idx", "folder:"])
def test_a_kind_without_a_path_is_refused(source):
    with pytest.raises(ConfigError, match=r"has no path; expected .*:PATH"):
        load(DataConfig(source))


@pytest.mark.parametrize("kind", ["npy", "idx", "folder"])
@pytest.mark.parametrize("name", ["missing", "x" * 5_000])
def test_a_missing_path_is_named(kind, name, tmp_path):
    with pytest.raises(DataError, match=f"{name}: "):
        load(DataConfig(f"{kind}:{tmp_path / name}"))


@pytest.mark.parametrize("kind", ["npy", "folder"])
def test_a_folder_is_no_file_and_a_file_no_folder(kind, tmp_path):
    (tmp_path / "file").write_text("x")
    path = tmp_path if kind == "npy" else tmp_path / "file"
    with pytest.raises(DataError, match=r"not a (file|folder); expected one"):
        load(DataConfig(f"{kind}:{path}"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"image_size": -1}, "data.image_size is -1"),
        ({"channels": 2}, "data.channels is 2; expected 0 .* 1 or 3"),
        ({"image_size": 16}, "data.image_size is 16, but images of digits are 8x8"),
        ({"channels": 3}, "data.channels is 3, but images of digits have 1"),
    ],
)
def test_a_conversion_that_would_be_ignored_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load(DataConfig("digits", **options))


def test_naming_the_size_that_images_have_is_allowed():
    assert load(DataConfig("digits", image_size=8, channels=1)).image_shape == (1, 8, 8)


def test_digits(digit_pixels, digit_labels):
    splits = load(DataConfig("digits"))
    parts = (splits.train, splits.validation, splits.test)
    assert splits.name == "digits"
    assert splits.image_shape == (1, 8, 8)
    assert splits.n_classes == 10
    assert [len(part) for part in parts] == [1197, 300, 300]
    rows = np.concatenate([part.rows for part in parts])
    np.testing.assert_array_equal(np.sort(rows), np.arange(1797))
    for part in parts:
        images = part.images(slice(None))
        assert images.dtype == np.float32
        assert images.shape == (len(part), 1, 8, 8)
        np.testing.assert_array_equal(images[:, 0] * 240, digit_pixels[part.rows])
        np.testing.assert_array_equal(part.labels, digit_labels[part.rows])
        assert part.labels.dtype == np.int64
        counts = np.bincount(part.labels)
        assert counts.max() / counts.min() < 1.15  # as even as the 1,797 are


def test_the_split_of_digits_is_fixed_for_good():
    splits = load(DataConfig("digits"))
    assert splits.test.rows[:5].tolist() == [0, 1, 4, 8, 11]
    assert splits.fingerprint == "85a862286ca70bedc729ee56a90cc116a4a57b693989e95a6ce20cc5c2d2bd52"


@pytest.mark.parametrize("source", ["nothing", "npy:/nothing/here", "npy", "idx:/nothing/here"])
def test_every_refusal_is_one_line_and_the_user_s_to_mend(source):
    with pytest.raises(InputError) as caught:
        load(DataConfig(source))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
