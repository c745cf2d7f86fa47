"""Slots run grid by grid, row by row, level innermost; split and join undo each other."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovq.errors import InputError
from geovq.tokenizer.layout import CodeGrid, CodeLayout

grids = st.builds(
    CodeGrid,
    name=st.sampled_from(["latent", "top", "bottom"]),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    n_codes=st.lists(st.integers(1, 300), min_size=1, max_size=4).map(tuple),
)
layouts = st.lists(grids, min_size=1, max_size=3).map(lambda parts: CodeLayout(tuple(parts)))

TWO_GRIDS = CodeLayout((CodeGrid("top", 1, 2, (3, 5)), CodeGrid("bottom", 2, 2, (7,))))


def random_codes(layout: CodeLayout, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, layout.slot_alphabets, size=(n, layout.n_slots))


def test_the_order_of_slots_is_the_documented_one():
    codes = np.array([[0, 4, 2, 1, 6, 5, 4, 3]])
    top, bottom = TWO_GRIDS.split(codes)
    assert top.tolist() == [[[[0, 4], [2, 1]]]]
    assert bottom.tolist() == [[[[6], [5]], [[4], [3]]]]
    assert TWO_GRIDS.slot_alphabets == (3, 5, 3, 5, 7, 7, 7, 7)


@given(layouts, st.integers(0, 5), st.integers(0, 1000))
def test_every_code_is_found_at_its_place(layout, n, seed):
    codes = random_codes(layout, n, seed)
    parts = layout.split(codes)
    slot = 0
    for grid, part in zip(layout.grids, parts, strict=True):
        assert part.shape == (n, grid.height, grid.width, len(grid.n_codes))
        for row in range(grid.height):
            for column in range(grid.width):
                for level, alphabet in enumerate(grid.n_codes):
                    assert np.array_equal(part[:, row, column, level], codes[:, slot])
                    assert layout.slot_alphabets[slot] == alphabet
                    slot += 1
    assert slot == layout.n_slots == sum(grid.n_slots for grid in layout.grids)
    assert np.array_equal(layout.join(parts), codes)


@given(layouts)
def test_bits_are_those_of_all_slots(layout):
    expected = sum(g.height * g.width * sum(math.log2(k) for k in g.n_codes) for g in layout.grids)
    assert layout.bits == pytest.approx(expected)


def test_bits_of_the_usual_cuts():
    assert CodeLayout((CodeGrid("latent", 2, 4, (256,)),)).bits == 64
    assert CodeLayout((CodeGrid("latent", 1, 1, (256,) * 8),)).bits == 64
    assert CodeLayout((CodeGrid("latent", 7, 7, (256,)),)).bits == 392


@given(layouts)
def test_a_layout_equals_itself_after_json(layout):
    assert CodeLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@given(layouts, st.integers(0, 1000), st.data())
def test_a_code_outside_its_alphabet_is_named(layout, seed, data):
    codes = random_codes(layout, 3, seed)
    slot = data.draw(st.integers(0, layout.n_slots - 1))
    wrong = data.draw(st.sampled_from([-1, layout.slot_alphabets[slot]]))
    codes[1, slot] = wrong
    with pytest.raises(InputError) as caught:
        layout.validate(codes)
    last = layout.slot_alphabets[slot] - 1
    assert str(caught.value) == f"code {wrong} of image 1, slot {slot} is outside its alphabet 0..{last}"


@pytest.mark.parametrize("shape", [(3,), (3, 7), (3, 9), (1, 3, 8)])
def test_codes_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"codes have shape .*; expected \(N, 8\)"):
        TWO_GRIDS.validate(np.zeros(shape, dtype=np.int64))


@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_codes_that_are_not_integers_are_refused(dtype):
    with pytest.raises(InputError, match="expected integers"):
        TWO_GRIDS.split(np.zeros((1, 8), dtype=dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_integers_of_any_width_are_codes(dtype):
    codes = np.array([[2, 4, 2, 4, 6, 6, 6, 6]], dtype=dtype)
    TWO_GRIDS.validate(codes)
    assert TWO_GRIDS.join(TWO_GRIDS.split(codes)).dtype == dtype


@pytest.mark.parametrize(
    ("height", "width", "n_codes"), [(0, 1, (2,)), (1, -1, (2,)), (1, 1, ()), (1, 1, (2, 0))]
)
def test_an_empty_grid_is_refused(height, width, n_codes):
    with pytest.raises(InputError, match="expected at least one position, one level and one code"):
        CodeGrid("latent", height, width, n_codes)
