"""Beam search over additive codebooks."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.errors import InputError
from geovq.search import beam_search, beam_sums, extend_beams, nearest_codes


def draw(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def errors(points, books, codes):
    total = sum(book[codes[:, level]] for level, book in enumerate(books))
    return (points - total).square().sum(1)


def greedy(points, books):
    residual, levels = points, []
    for book in books:
        levels.append(nearest_codes(residual, book))
        residual = residual - book[levels[-1]]
    return torch.stack(levels, 1)


settings_of_problems = {
    "seed": st.integers(0, 10**6),
    "sizes": st.lists(st.integers(1, 6), min_size=1, max_size=4),
    "d": st.integers(1, 5),
}


@settings(max_examples=40, deadline=None)
@given(**settings_of_problems)
def test_beam_1_is_greedy(seed, sizes, d):
    points = draw(seed, 30, d)
    books = [draw(seed + 1 + level, size, d) for level, size in enumerate(sizes)]
    assert torch.equal(beam_search(points, books, 1), greedy(points, books))


@settings(max_examples=40, deadline=None)
@given(**settings_of_problems)
def test_a_beam_that_holds_every_sum_finds_the_best(seed, sizes, d):
    points = draw(seed, 20, d)
    books = [draw(seed + 1 + level, size, d) for level, size in enumerate(sizes)]
    every = torch.tensor(list(itertools.product(*map(range, sizes))))
    sums = sum(book[every[:, level]] for level, book in enumerate(books))
    best = torch.cdist(points, sums).min(1).values.square()
    found = errors(points, books, beam_search(points, books, len(every)))
    torch.testing.assert_close(found, best, rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(**settings_of_problems, beam=st.integers(2, 9))
def test_no_point_is_farther_than_greedily(seed, sizes, d, beam):
    points = draw(seed, 30, d)
    books = [draw(seed + 1 + level, size, d) for level, size in enumerate(sizes)]
    wide = errors(points, books, beam_search(points, books, beam))
    assert (wide <= errors(points, books, greedy(points, books)) + 1e-12).all()


def test_codes_do_not_depend_on_the_chunk(monkeypatch):
    points, books = draw(0, 200, 6), draw(1, 3, 16, 6)
    expected = beam_search(points, books, 8)
    monkeypatch.setattr("geovq.search.beam.SCORES_A_CHUNK", 16 * 8 * 7)
    assert torch.equal(beam_search(points, books, 8), expected)


def test_equal_codes_and_equal_sums_go_to_the_lowest():
    book = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    assert beam_search(torch.zeros(2, 1), [book, book], 4).tolist() == [[0, 2], [0, 2]]
    assert beam_search(torch.zeros(2, 1), [book, book], 2).tolist() == [[0, 2], [0, 2]]


def test_data_far_from_the_origin_keep_their_digits():
    points, books = draw(0, 200, 4, dtype=torch.float32), draw(1, 3, 16, 4, dtype=torch.float32)
    points = (points * 2**10).round() / 2**10  # so that adding 4096 loses nothing
    books = (books * 2**10).round() / 2**10
    shifted = books.clone()
    shifted[0] += 4096
    assert torch.equal(beam_search(points + 4096, shifted, 8), beam_search(points, books, 8))


def test_extending_keeps_the_shortest_first():
    residual = draw(0, 40, 1, 3)
    book = draw(1, 12, 3)
    kept, parent, code = extend_beams(residual, book, 5)
    assert kept.shape == (40, 5, 3)
    assert (parent == 0).all()
    torch.testing.assert_close(kept, residual - book[code])
    torch.testing.assert_close(kept.square().sum(2), (residual - book).square().sum(2).sort(1).values[:, :5])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.sampled_from([1, 3, 8, 16]),
    size=st.sampled_from([1, 5, 40, 90]),
    beam=st.sampled_from([1, 2, 7, 16, 1000]),
    values=st.sampled_from([2, 5, 1000]),
)
def test_extensions_are_in_order_of_error_then_beam_then_code(seed, width, size, beam, values):
    generator = torch.Generator().manual_seed(seed)
    residual, book = (  # whole numbers: sums are exact, and equal errors are common
        torch.randint(values, shape, generator=generator).double() for shape in ((6, width, 3), (size, 3))
    )
    every = residual[:, :, None] - book
    order = every.square().sum(3).flatten(1).argsort(dim=1, stable=True)[:, :beam]
    kept, parent, code = extend_beams(residual, book, beam)
    assert torch.equal(parent * size + code, order)
    assert torch.equal(kept, every.flatten(1, 2).gather(1, order[:, :, None].expand(-1, -1, 3)))


def test_a_beam_wider_than_all_sums_finds_the_best():
    points, books = draw(0, 50, 3), draw(1, 2, 2, 3)
    every = (books[0][:, None] + books[1]).view(4, 3)
    assert torch.equal(beam_search(points, books, 64) @ torch.tensor([2, 1]), nearest_codes(points, every))


def test_no_points_give_no_codes():
    assert beam_search(torch.empty(0, 3), torch.ones(2, 4, 3), 4).shape == (0, 2)


@pytest.mark.parametrize(("n_books", "beam"), [(0, 4), (2, 0)])
def test_nothing_to_search_is_refused(n_books, beam):
    with pytest.raises(InputError, match="expected at least 1 of each"):
        beam_search(torch.zeros(3, 2), torch.zeros(n_books, 4, 2), beam)


@settings(max_examples=40, deadline=None)
@given(**settings_of_problems, beam=st.integers(1, 9))
def test_sums_come_nearest_first_and_the_best_of_them_or_greedy_is_the_answer(seed, sizes, d, beam):
    points = draw(seed, 20, d) + 100
    books = [draw(seed + 1 + level, size, d) for level, size in enumerate(sizes)]
    books[0] = books[0] + 100
    sums = beam_sums(points, books, beam)
    found = torch.stack([errors(points, books, codes) for codes in sums.unbind(1)], dim=1)
    assert (found.diff(dim=1) >= -1e-9).all()
    assert all(len(codes.unique(dim=0)) == len(codes) for codes in sums)
    best = torch.minimum(found[:, 0], errors(points, books, greedy(points, books)))
    answer = errors(points, books, beam_search(points, books, beam))
    torch.testing.assert_close(answer, best, rtol=1e-9, atol=1e-9)


def test_all_sums_are_found_by_a_beam_that_holds_them():
    points, books = draw(0, 5, 3), draw(1, 2, 4, 3)
    sums = beam_sums(points, list(books), 99)
    assert sums.shape == (5, 16, 2)
    assert all(len(codes.unique(dim=0)) == 16 for codes in sums)


@pytest.mark.parametrize("exponent", [-110, -60, 60, 110])
def test_the_unit_of_the_data_does_not_matter(exponent):
    points, books = draw(0, 200, 4, dtype=torch.float32), draw(1, 3, 8, 4, dtype=torch.float32)
    unit = 2.0**exponent
    assert torch.equal(beam_search(unit * points, unit * books, 8), beam_search(points, books, 8))
    assert torch.equal(beam_sums(unit * points, list(unit * books), 4), beam_sums(points, list(books), 4))
