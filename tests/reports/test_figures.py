"""Contact sheets show the right pixels; use is relative to uniform; numbers keep three digits."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from geovq.reports.comparison import labelled_rows
from geovq.reports.costs import cost_table
from geovq.reports.figures import error_figure, relative_use, training_figure, usage_figure
from geovq.reports.numbers import duration, rounded
from geovq.reports.pictures import FEWEST, GAP, MOST, SIDE, contact_sheet, images_a_row
from geovq.reports.run_files import LogRow, StageCost


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.png)))


def test_small_digits_are_enlarged_without_smoothing():
    digits = (load_digits().images[:5] / 16 * 255).astype(np.uint8)
    sheet = pixels(contact_sheet(digits[:, None], 3, "digits"))
    factor = SIDE // 8
    for i, digit in enumerate(digits):
        top, left = (i // 3) * (SIDE + GAP), (i % 3) * (SIDE + GAP)
        tile = sheet[top : top + SIDE, left : left + SIDE]
        np.testing.assert_array_equal(tile, np.kron(digit, np.ones((factor, factor), np.uint8)))


@pytest.mark.parametrize(("shape", "tile"), [((3, 32, 32), 64), ((1, 28, 28), 56), ((3, 256, 128), 56)])
def test_any_image_becomes_about_the_same_size(shape, tile):
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    picture = contact_sheet(images, 2, "noise")
    assert picture.height == tile and pixels(picture).shape[:2] == (picture.height, picture.width)
    assert pixels(picture).ndim == (3 if shape[0] == 3 else 2)


@given(st.sampled_from([1, 3]), st.integers(1, 512), st.integers(1, 512), st.integers(1, 60))
def test_images_a_row_is_bounded_and_falls_with_rows(channels, height, width, rows):
    shape = (channels, height, width)
    assert FEWEST <= images_a_row(shape, rows + 1) <= images_a_row(shape, rows) <= MOST


def test_use_is_relative_to_uniform_over_all_levels():
    counts = np.array([[4, 0, 0, 0], [3, 3, -1, -1]])
    np.testing.assert_allclose(relative_use(counts), [4, 1, 1, 0, 0, 0])


def test_a_codebook_that_nobody_used_can_be_drawn():
    picture = usage_figure({"dead": np.zeros((1, 4), np.int64), "alive": np.array([[1, 2, 3, 4]])})
    assert "dead 0 %, alive 100 %" in picture.alt


def test_the_error_figure_lists_arms_by_error(build):
    picture = error_figure(build["records"](), {})
    assert [word for word in picture.alt.replace(",", "").split() if word in build["kinds"]] == [
        "residual+tuned", "ema", "residual", "kmeans",
    ]  # fmt: skip
    assert error_figure([], {}) is None


def test_training_falls_back_to_the_value_that_there_is():
    rows = [LogRow("prior", 0, epoch, "train", "nats", 3.0 - epoch) for epoch in (0.5, 1.0)]
    assert "nats by epoch" in training_figure("prior", rows).alt


@given(st.floats(1e-5, 1e9))
def test_rounding_keeps_three_digits(value):
    shown = float(rounded(value).replace(",", ""))
    assert abs(shown - value) <= max(0.0051 * value, 0)
    assert rounded(-value).lstrip("-") == rounded(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.5e-9, "1.50e-09"), (0.9999, "1.00"), (-2.0, "-2"), (1234.5, "1,234"), (1e18, "1.00e+18")],
)
def test_rounding_of_particular_values(value, text):
    assert rounded(value) == text


def test_a_bound_that_rounds_to_nothing_has_no_sign():
    assert rounded(-1e-9, like=0.5) == "0.000"


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.94, "59.9 s"), (119.7, "2 min 0 s"), (7199.0, "2 h 0 min")]
)
def test_durations_carry_over(seconds, text):
    assert duration(seconds) == text


def test_costs_are_grouped_by_stage_and_arm():
    stages = [
        StageCost("train", 2.0, "vae", 0, 100.0),
        StageCost("fit", 1.0, "kmeans", 0),
        StageCost("train", 4.0, "vae", 1, 300.0),
    ]
    rows = cost_table(stages).rows
    assert [(r.label, r.note, [c.text for c in r.cells]) for r in rows] == [
        ("train", "vae", ["2", "3 s", "6 s", "300"]),
        ("fit", "kmeans", ["1", "1 s", "1 s", "–"]),
    ]


def test_labelled_rows_keep_every_pixel():
    digits = (load_digits().images[:4] / 16 * 255).astype(np.uint8)[:, None]
    rows = [(label, contact_sheet(digits[i:], 4, label)) for i, label in enumerate(("original", "k-means"))]
    sheet = labelled_rows(rows)
    shown = pixels(sheet)
    assert shown.shape == (sheet.height, sheet.width, 3)
    first = np.repeat(pixels(rows[0][1])[:, :, None], 3, axis=2)
    left = sheet.width - 14 - first.shape[1]
    np.testing.assert_array_equal(shown[14 : 14 + first.shape[0], left : left + first.shape[1]], first)
    assert (shown[14 : 14 + first.shape[0], :left] < 128).any()  # the label is there
    assert sheet.alt == "The same test images in 2 rows: original, k-means."


def test_stages_of_an_earlier_run_have_no_time_of_this_one() -> None:
    stages = (
        StageCost("train", 0.01, "vae", 0, reused=True),
        StageCost("train", 8.0, "vae", 1, 300.0),
        StageCost("latents", 0.02, "vae", 0, reused=True),
    )
    train, latents = cost_table(stages).rows
    assert [cell.text for cell in train.cells] == ["1", "8 s", "8 s", "300"]
    assert [cell.text for cell in latents.cells] == ["0", "taken from an earlier run", "–", "–"]
