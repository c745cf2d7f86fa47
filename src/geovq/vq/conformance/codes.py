"""Codes and vectors belong together: both ways, in every precision, however the batch is cut."""

from __future__ import annotations

import copy
from unittest import SkipTest

import torch
from torch import Tensor

from geovq.vq.conformance.candidate import (
    N_VECTORS,
    Candidate,
    books,
    check,
    chooses_its_codebook,
    count_unequal,
    evaluated,
    every_code,
    expect,
    holds,
)
from geovq.vq.layer import QuantizerLayer

MANY_CODES = 320  # bfloat16 counts to 256, and its next number is 258
HALF_PRECISIONS = (torch.bfloat16, torch.float16)


@check
def output_is_the_codes_vectors(candidate: Candidate) -> None:
    """In eval mode ``z_q`` is ``lookup(codes)``, bit for bit."""
    layer = candidate.trained().eval()
    for z in (candidate.vectors(8, 5, step=6), 100 * candidate.vectors(40, step=7)):
        _is_lookup(layer, z)


@check
def training_output_is_the_codes_vectors(candidate: Candidate) -> None:
    """In training ``z_q`` is ``lookup(codes)`` too, in the codebook before it moves.

    Layers whose ``z_q`` depends on their ``seed`` draw noise, and are skipped.
    """
    layer = candidate.trained()
    z = candidate.vectors(N_VECTORS, step=6)
    if is_stochastic(candidate):
        raise SkipTest("its z_q depends on its seed in training")
    _is_lookup(layer, z)


@check
def codebook_is_what_lookup_gives(candidate: Candidate) -> None:
    """``lookup(codes)`` is the sum over levels of the rows of ``codebook``, for every code."""
    layer = candidate.trained().eval()
    codes = every_code(layer)
    levels = codes.reshape(len(codes), -1).unbind(1)
    expected = sum(book[index] for book, index in zip(books(layer), levels, strict=True))
    found = layer.lookup(codes).detach()
    distance = float((found - expected).abs().max())
    expect(
        distance <= 1e-5 * (1 + float(found.abs().max())),
        f"lookup(codes) up to {distance:.3g} from codebook[codes]",
        "no difference",
        "a normalisation or a projection in one of the two alone",
    )


@check
def nearest_code_of_a_code_is_itself(candidate: Candidate) -> None:
    """A row of the codebook gets its own code, or that of the first row equal to it.

    For layers of one level that can start from a fitted codebook, if their own gives them the same again,
    or else choose the nearest row.
    """
    layer = candidate.trained().eval()
    if len(layer.n_codes) > 1:
        raise SkipTest("it has several levels, whose sums may be reached in other ways")
    if chooses_its_codebook(layer):
        if not holds(layer, books(layer)):
            raise SkipTest("a start from its own codebook gives another: there are projections in between")
        rows = candidate.vectors(layer.n_codes[0], step=8)
        rows[-1] = rows[0]
        layer.start_from(rows)
    elif not _chooses_the_nearest(layer, candidate.vectors(200, step=8)):
        raise SkipTest("its codes are not the nearest rows of its codebook")
    (rows,) = books(layer)
    _, group = rows.unique(dim=0, return_inverse=True)
    index = torch.arange(len(rows))
    first = torch.full_like(index, len(rows)).scatter_reduce(0, group, index, "amin")[group]
    found = evaluated(layer, rows).codes
    expect(
        torch.equal(found, first),
        f"{count_unequal(found, first)} among the codes of {len(rows)} rows",
        "every row's own code, the lowest if rows are equal",
        "distances that are not those of lookup's vectors, or ties broken at random",
    )


@check
def codes_survive_half_precision(candidate: Candidate) -> None:
    """Under autocast and for bfloat16 and float16 vectors: codes and ``z_q`` as in float32.

    With ``n_codes`` among the arguments of ``make`` the layer gets more codes than bfloat16 can count.
    """
    layer = candidate.trained(**candidate.taken(n_codes=MANY_CODES)).eval()
    z = candidate.vectors(500, step=9)
    exact = evaluated(layer, z)
    for dtype in HALF_PRECISIONS:
        halves = z.to(dtype)
        exact_of_halves = evaluated(layer, halves.float())
        with torch.autocast("cpu", dtype=dtype):
            compared = {"under autocast": (evaluated(layer, z), exact)}
        compared["as input"] = (evaluated(layer, halves), exact_of_halves)
        for how, (found, expected) in compared.items():
            for what, ours, theirs in (
                ("codes", found.codes, expected.codes),
                ("numbers of z_q", found.z_q, expected.z_q),
                ("losses", found.loss, expected.loss),
            ):
                expect(
                    torch.equal(ours, theirs) or (what == "losses" and torch.allclose(ours, theirs)),
                    f"{count_unequal(ours, theirs)} among the {what}, {dtype} {how}",
                    "those of float32",
                    "distances, averages or indices in half precision",
                )


@check
def training_survives_half_precision(candidate: Candidate) -> None:
    """A training step under autocast moves the codebook as one in float32 does."""
    layer = candidate.trained()
    z = candidate.vectors(N_VECTORS, step=9)
    for dtype in HALF_PRECISIONS:
        exact, mixed = copy.deepcopy(layer), copy.deepcopy(layer)
        exact(z)
        with torch.autocast("cpu", dtype=dtype):
            mixed(z)
        for ours, theirs in zip(books(mixed), books(exact), strict=True):
            expect(
                torch.equal(ours, theirs),
                f"{count_unequal(ours, theirs)} among the codebook's numbers, {dtype} under autocast",
                "those of float32",
                "moving averages in half precision, which stall",
            )


@check
def codes_do_not_depend_on_the_batch(candidate: Candidate) -> None:
    """In eval mode a vector's code is the same in any batch."""
    layer, z = candidate.trained().eval(), candidate.vectors(101, step=7)
    whole = evaluated(layer, z)
    for size in (1, 7, 50, 100):
        parts = [evaluated(layer, part) for part in z.split(size)]
        codes = torch.cat([part.codes for part in parts])
        expect(
            torch.equal(codes, whole.codes),
            f"{count_unequal(codes, whole.codes)} among the codes, in batches of {size} and of 101",
            "the same codes",
            "statistics of the batch, as of a normalisation, in eval mode",
        )
        distance = float((torch.cat([part.z_q for part in parts]) - whole.z_q).detach().abs().max())
        expect(
            distance <= 1e-5,
            f"z_q up to {distance:.3g} apart, in batches of {size} and of 101",
            "the same vectors",
            "statistics of the batch in eval mode",
        )


def is_stochastic(candidate: Candidate) -> bool:
    """Whether the output in training depends on the layer's ``seed``, past the start of its codebook."""
    if not candidate.takes("seed"):
        return False
    layer, other = candidate.trained(seed=0), candidate.fresh(seed=1).train()
    other.load_state_dict(layer.state_dict())
    z = candidate.vectors(N_VECTORS, step=6)
    ours, theirs = layer(z), other(z)
    return not (torch.equal(ours.z_q, theirs.z_q) and torch.equal(ours.codes, theirs.codes))


def _is_lookup(layer: QuantizerLayer, z: Tensor) -> None:
    before = copy.deepcopy(layer)
    found = layer(z)
    expected = before.lookup(found.codes)
    if layer.training and torch.equal(found.z_q, layer.lookup(found.codes)):
        likely = "a codebook that moves before it quantizes"
    else:
        likely = "an estimator that changes the value, such as a rotation without its scale, or z + sg(e - z)"
    expect(
        torch.equal(found.z_q, expected),
        f"{count_unequal(found.z_q, expected)} among the numbers of z_q",
        "lookup(codes)",
        likely,
    )


def _chooses_the_nearest(layer: QuantizerLayer, z: Tensor) -> bool:
    (rows,) = books(layer)
    distances = torch.cdist(z.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    found = distances.gather(1, evaluated(layer, z).codes[:, None])[:, 0]
    return torch.allclose(found, distances.amin(1), rtol=1e-4)
