"""Reconstruction metrics against their definitions and an independent implementation."""

import numpy as np
import pytest

from geovq.config import DataConfig
from geovq.data import ImageSet, load
from geovq.data.images import ArrayStore
from geovq.evaluation.reconstruction import evaluate_reconstruction


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load(DataConfig("digits")).test


def noisy(images: ImageSet, scale: float) -> np.ndarray:
    pixels = images.images(slice(None))
    noise = np.random.default_rng(0).normal(size=pixels.shape).astype(np.float32)
    return np.clip(pixels + scale * noise, 0, 1)


def test_values_follow_their_definitions(digits: ImageSet) -> None:
    decoded, original = np.clip(noisy(digits, 0.2), 0.01, 0.99), digits.images(slice(None))
    measured = evaluate_reconstruction(digits, lambda rows: decoded[rows])
    errors = ((decoded.astype(np.float64) - original) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(measured.errors, errors, rtol=1e-6)
    assert measured.values["mse"] == pytest.approx(errors.mean(), rel=1e-6)
    assert measured.values["psnr"] == pytest.approx(-10 * np.log10(errors.mean()), rel=1e-6)
    p = decoded.astype(np.float64)
    bce = -(original * np.log(p) + (1 - original) * np.log(1 - p)).sum() / len(original)
    assert measured.values["bce_nats"] == pytest.approx(bce, rel=1e-4)


def test_ssim_equals_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(1)
    pixels = rng.random((3, 1, 28, 28)).astype(np.float32)
    decoded = np.clip(pixels + 0.1 * rng.normal(size=pixels.shape), 0, 1).astype(np.float32)
    images = ImageSet(ArrayStore(pixels), np.arange(3), None)
    measured = evaluate_reconstruction(images, lambda rows: decoded[rows])
    expected = [
        # The mean over the whole image: its own mean leaves out the border, where paddings differ.
        metrics.structural_similarity(
            a[0].astype(np.float64),
            b[0].astype(np.float64),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )[1].mean()
        for a, b in zip(pixels, decoded, strict=True)
    ]
    assert measured.values["ssim"] == pytest.approx(np.mean(expected), abs=2e-3)


def test_a_saturated_wrong_pixel_costs_finitely(digits: ImageSet) -> None:
    measured = evaluate_reconstruction(digits, lambda rows: 1 - np.round(digits.images(rows)))
    assert 100 < measured.values["bce_nats"] < 64 * 14


def test_perfect_reconstruction(digits: ImageSet) -> None:
    measured = evaluate_reconstruction(digits, digits.images)
    assert measured.values["mse"] == 0
    assert measured.values["ssim"] == pytest.approx(1)
    assert measured.values["psnr"] == pytest.approx(120)  # the floor of 1e-12 keeps it finite


def test_more_noise_is_worse_in_every_metric(digits: ImageSet) -> None:
    little, much = (
        evaluate_reconstruction(digits, noisy(digits, scale).__getitem__).values for scale in (0.05, 0.3)
    )
    assert little["mse"] < much["mse"] and little["bce_nats"] < much["bce_nats"]
    assert little["psnr"] > much["psnr"] and little["ssim"] > much["ssim"]
