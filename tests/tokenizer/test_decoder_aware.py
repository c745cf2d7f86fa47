"""Codes refined by image and by metric: the error never rises, and brute force finds the same."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geovq.errors import InputError
from geovq.quantizers import Quantizer
from geovq.search import nearest_codes
from geovq.seeding import seeded_weights
from geovq.tokenizer import decoder_aware
from geovq.tokenizer.decoder_aware import refine_by_image, refine_by_metric


def draw(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def looked_up(codes, books):
    return torch.stack([book[codes[..., level]] for level, book in enumerate(books)]).sum(0)


def network(n_inputs):
    with seeded_weights(0, "decoder"):
        layers = nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, 20), nn.Tanh(), nn.Linear(20, 12))
    return layers.double().eval()


class Case:
    """N latents of T tokens of d numbers, L codebooks, the codes nearest level by level, and a decoder."""

    def __init__(self, seed, n=6, n_tokens=3, sizes=(5, 4), dim=2, linear=False):
        self.tokens = draw(seed, n, n_tokens, dim)
        self.books = [draw(seed + 1 + level, size, dim) / (level + 1) for level, size in enumerate(sizes)]
        left, codes = self.tokens.reshape(-1, dim), []
        for book in self.books:
            codes.append(nearest_codes(left, book))
            left = left - book[codes[-1]]
        self.codes = torch.stack(codes, dim=1).reshape(n, n_tokens, len(sizes))
        self.jacobian = draw(seed + 9, 12, n_tokens * dim)
        self.decode = (lambda t: t.flatten(1) @ self.jacobian.T) if linear else network(n_tokens * dim)
        with torch.no_grad():
            self.images = self.decode(self.tokens)
        metric = self.jacobian.T @ self.jacobian
        self.metrics = metric.expand(n, *metric.shape)

    def by_image(self, codes=None, **options):
        codes = self.codes if codes is None else codes
        return refine_by_image(codes, self.tokens, self.books, self.decode, self.images, **options)

    def by_metric(self, codes=None, metrics=None, **options):
        codes = self.codes if codes is None else codes
        metrics = self.metrics if metrics is None else metrics
        return refine_by_metric(codes, self.tokens, self.books, metrics, **options)

    @torch.no_grad()
    def image_errors(self, codes):
        return (self.decode(looked_up(codes, self.books)) - self.images).square().sum(1)

    def metric_errors(self, codes, metrics=None):
        away = (looked_up(codes, self.books) - self.tokens).flatten(1)
        return torch.einsum("ni,nij,nj->n", away, self.metrics if metrics is None else metrics, away)


@given(
    st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 3), st.sampled_from([(5,), (5, 4), (3, 2, 4)])
)
@settings(max_examples=25, deadline=None)
def test_no_error_ever_rises_and_more_sweeps_only_lower_it(seed, n_candidates, sweeps, sizes):
    case = Case(seed, sizes=sizes)
    options = {"n_candidates": n_candidates, "sweeps": sweeps}
    for refine, errors in ((case.by_image, case.image_errors), (case.by_metric, case.metric_errors)):
        before, refined = errors(case.codes), refine(**options)
        assert refined.dtype == torch.int64 and refined.shape == case.codes.shape
        changed = (refined != case.codes).flatten(1).any(1)
        assert (errors(refined)[changed] < before[changed]).all()
        further = errors(refine(n_candidates=n_candidates, sweeps=sweeps + 1))
        assert (further <= errors(refined) * (1 + 1e-9)).all()


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_the_metric_of_a_linear_decoder_gives_the_codes_of_its_images(seed, n_candidates, sweeps):
    case = Case(seed, linear=True)
    options = {"n_candidates": n_candidates, "sweeps": sweeps, "beam": 3}
    assert torch.equal(case.by_metric(**options), case.by_image(**options))


@pytest.mark.parametrize("linear", [True, False])
def test_enough_sweeps_over_all_candidates_end_where_no_single_code_can_be_bettered(linear):
    case = Case(0, n=20, linear=linear)
    refined = case.by_image(n_candidates=5, sweeps=50)
    errors = case.image_errors(refined)
    assert (errors.sum() < case.image_errors(case.codes).sum()) and not torch.equal(refined, case.codes)
    for token, level in itertools.product(range(3), range(2)):
        for code in range(len(case.books[level])):
            other = refined.clone()
            other[:, token, level] = code
            assert (case.image_errors(other) >= errors * (1 - 1e-9)).all()


def test_a_sweep_is_coordinate_descent_in_the_order_of_the_slots():
    case = Case(3, n=10, sizes=(7,))
    expected = case.codes.clone()
    for image, token, level in itertools.product(range(10), range(3), range(1)):
        tried = expected[image].repeat(len(case.books[level]), 1, 1)
        tried[:, token, level] = torch.arange(len(tried))
        with torch.no_grad():
            errors = (case.decode(looked_up(tried, case.books)) - case.images[image]).square().sum(1)
        if errors.min() < errors[expected[image, token, level]] * (1 - 1e-12):
            expected[image, token, level] = int(errors.argmin())
    assert torch.equal(case.by_image(n_candidates=7, sweeps=1), expected)


def test_all_candidates_of_a_single_slot_are_nearest_decoded_assignment():
    case = Case(1, n=40, n_tokens=1, sizes=(9,), dim=4)
    with torch.no_grad():
        decoded = case.decode(case.books[0][:, None])
    expected = torch.cdist(case.images, decoded).argmin(1)
    assert torch.equal(case.by_image(n_candidates=9)[:, 0, 0], expected)
    assert not torch.equal(case.codes[:, 0, 0], expected)
    away = case.tokens - case.books[0]
    assigned = torch.einsum("nki,nij,nkj->nk", away, case.metrics, away).argmin(1)
    assert torch.equal(case.by_metric(n_candidates=9)[:, 0, 0], assigned)


def test_candidates_are_the_codes_nearest_to_what_other_levels_leave_over():
    case = Case(2, n=30, n_tokens=1, sizes=(9,), dim=3)
    refined = case.by_image(n_candidates=3)[:, 0, 0]
    three = torch.cdist(case.tokens[:, 0], case.books[0]).argsort(1)[:, :3]
    errors = torch.stack([case.image_errors(three[:, [c], None]) for c in range(3)], dim=1)
    assert torch.equal(refined, three[torch.arange(30), errors.argmin(1)])


def test_a_beam_of_all_sums_finds_the_best_of_all_codes():
    case = Case(3, n=20, n_tokens=1, sizes=(4, 3, 3), dim=4)
    every = torch.tensor(list(itertools.product(range(4), range(3), range(3))))
    errors = torch.stack([case.image_errors(codes.expand(20, 1, 3)) for codes in every], dim=1)
    assert torch.equal(case.by_image(beam=36)[:, 0], every[errors.argmin(1)])
    errors = torch.stack([case.metric_errors(codes.expand(20, 1, 3)) for codes in every], dim=1)
    assert torch.equal(case.by_metric(beam=36)[:, 0], every[errors.argmin(1)])
    assert not torch.equal(case.by_image(beam=1), case.by_image(beam=36))


def test_the_images_judged_are_those_that_decoding_gives_to_the_last_bit():
    """Many levels and a width that no vector register divides: other orders of adding differ here."""
    case, decoded = Case(0, n=5, n_tokens=1, sizes=(4,) * 8, dim=7), []

    def decode(tokens):
        decoded.append(tokens.clone())
        return case.decode(tokens)

    refine_by_image(case.codes, case.tokens, case.books, decode, case.images)
    assert torch.equal(decoded[0], Quantizer.look_up(case.books, case.codes))


def test_sums_of_levels_far_from_the_origin_are_found():
    case = Case(3, n=20, n_tokens=1, sizes=(4, 3, 3), dim=4)
    expected = case.by_metric(beam=8)
    case.tokens, case.books[0] = case.tokens + 1000, case.books[0] + 1000
    assert torch.equal(case.by_metric(beam=8), expected)


def test_blocks_are_a_metric_that_tokens_do_not_share():
    case = Case(4, n=20)
    blocks = draw(5, 20, 3, 2, 2)
    blocks = blocks @ blocks.mT
    whole = torch.stack([torch.block_diag(*tokens) for tokens in blocks])
    assert torch.equal(case.by_metric(metrics=blocks, sweeps=3), case.by_metric(metrics=whole, sweeps=3))
    assert not torch.equal(case.by_metric(metrics=blocks), case.codes)


def test_equal_codes_and_equal_images_keep_the_present_code_then_the_lowest():
    books = [torch.tensor([[0.0], [1.0], [1.0], [5.0]])]
    tokens, codes = torch.full((3, 1, 1), 1.0), torch.tensor([0, 2, 3]).reshape(3, 1, 1)
    found = refine_by_image(codes, tokens, books, lambda t: t, tokens, n_candidates=4)
    assert found.flatten().tolist() == [1, 2, 1]
    blind = refine_by_image(codes, tokens, books, lambda t: 0 * t, tokens, n_candidates=4)
    assert torch.equal(blind, codes)
    metrics = torch.ones(3, 1, 1)
    assert refine_by_metric(codes, tokens, books, metrics).flatten().tolist() == [1, 2, 1]
    assert torch.equal(refine_by_metric(codes, tokens, books, 0 * metrics), codes)


def test_the_present_code_is_not_decoded_again_and_settled_images_are_left_alone():
    case, decoded = Case(6, n=8, n_tokens=2, sizes=(4,)), []

    def counted(tokens):
        decoded.append(len(tokens))
        return case.decode(tokens)

    options = {"n_candidates": 4, "sweeps": 100}
    case_decode = (case.codes, case.tokens, case.books, counted, case.images)
    settled = refine_by_image(*case_decode, **options)
    assert sum(decoded) < 5 * 8 * (1 + 2 * 3)
    decoded.clear()
    again = refine_by_image(settled, *case_decode[1:], **options)
    assert torch.equal(again, settled)
    assert sum(decoded) == 8 * (1 + 2 * 3)  # one sweep: each image as it is, and three others a slot


def test_batches_change_nothing(monkeypatch):
    case = Case(7, n=23)
    expected = case.by_image(sweeps=2), case.by_metric(sweeps=2)
    monkeypatch.setattr(decoder_aware, "IMAGES_A_BATCH", 7)
    monkeypatch.setattr(decoder_aware, "MOVES_A_BATCH", 31)
    assert torch.equal(case.by_image(sweeps=2), expected[0])
    assert torch.equal(case.by_metric(sweeps=2), expected[1])
    kept = case.codes.clone()
    case.by_image()
    assert torch.equal(case.codes, kept)


def test_codebooks_of_another_dtype_take_that_of_the_tokens():
    case = Case(8)
    expected = case.by_image(), case.by_metric()
    case.books = [book.float() for book in case.books]
    assert torch.equal(case.by_image(), expected[0])
    assert torch.equal(case.by_metric(), expected[1])


def test_no_images_have_no_codes():
    case = Case(0)
    none = refine_by_image(case.codes[:0], case.tokens[:0], case.books, case.decode, case.images[:0])
    assert none.shape == (0, 3, 2)


def test_what_does_not_fit_is_refused():
    case = Case(0)
    with pytest.raises(InputError, match=r"codes have shape \(6, 3, 1\) .*expected \(N, T, L\)"):
        case.by_image(case.codes[..., :1])
    with pytest.raises(InputError, match=r"codes of level 1 run from .* to 9; expected 0 to 3"):
        case.by_metric(torch.where(torch.arange(2) == 1, 9, case.codes))
    with pytest.raises(InputError, match=r"metrics have shape \(6, 6\); expected \(6, 6, 6\) or"):
        case.by_metric(metrics=case.metrics[0])
    with pytest.raises(InputError, match="5 images are given for 6 rows of tokens"):
        refine_by_image(case.codes, case.tokens, case.books, case.decode, case.images[:5])
    with pytest.raises(InputError, match=r"decode gave \(6, 3, 2\) for images \(6, 12\)"):
        refine_by_image(case.codes, case.tokens, case.books, lambda t: t, case.images)
    with pytest.raises(InputError, match=r"codebook 0 has shape \(5, 3\); expected \(K, 2\)"):
        refine_by_metric(case.codes, case.tokens, [draw(0, 5, 3), case.books[1]], case.metrics)
    for option in ({"n_candidates": 0}, {"sweeps": 0}, {"beam": 0}):
        with pytest.raises(InputError, match="is 0; expected at least 1"):
            case.by_image(**option)
