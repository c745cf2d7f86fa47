"""Bad input is refused where it comes in, with an error that names it, before it spoils a codebook."""

from __future__ import annotations

import functools
from collections.abc import Callable
from unittest import SkipTest

import torch

from geovq.vq.conformance.candidate import (
    Candidate,
    Mismatch,
    books,
    changed,
    check,
    chooses_its_codebook,
    every_code,
    expect,
    state_of,
)


@check
def bad_vectors_are_refused(candidate: Candidate) -> None:
    """Vectors of another width, none at all, or not finite: a ``ValueError`` that says so, and no update."""
    width = candidate.dim + 2
    good = candidate.vectors(16, step=5)
    nan, infinite = good.clone(), good.clone()
    nan[3, 0], infinite[3, 0] = torch.nan, torch.inf
    inputs = {
        f"z of shape (4, {width})": (torch.zeros(4, width), ("z", str(width), str(candidate.dim))),
        f"z of shape (0, {candidate.dim})": (good[:0], ("z", "0")),
        "z with a NaN": (nan, ("z", "finite")),
        "z with an infinite number": (infinite, ("z", "finite")),
    }
    for training in (True, False):
        layer = candidate.trained().train(training)
        before = state_of(layer)
        for what, (z, words) in inputs.items():
            refused(functools.partial(layer, z), what, words)
            spoiled = changed(before, state_of(layer))
            expect(
                not spoiled,
                f"{', '.join(spoiled)} changed by {what}",
                "no change",
                "an update before the refusal",
            )


@check
def bad_settings_are_refused(candidate: Candidate) -> None:
    """Fewer than two codes or a negative commitment: a ``ValueError`` with the argument and its value."""
    settings = candidate.taken(n_codes=1, commitment=-1.0)
    if not settings:
        raise SkipTest("make takes neither 'n_codes' nor 'commitment'")
    for name, value in settings.items():
        refused(functools.partial(candidate.fresh, **{name: value}), f"{name}={value}", (name, str(value)))


@check
def bad_codebooks_are_refused(candidate: Candidate) -> None:
    """``start_from`` of codebooks with a code too many: a ``ValueError`` with both sizes, and no change."""
    layer = candidate.trained()
    if not chooses_its_codebook(layer):
        raise SkipTest("its codebook is fixed by construction")
    before = state_of(layer)
    larger = [torch.cat([book, book[:1]]) for book in books(layer)]
    size = len(larger[0])
    refused(
        functools.partial(layer.start_from, larger), f"a codebook of {size} codes", (str(size), str(size - 1))
    )
    spoiled = changed(before, state_of(layer))
    expect(not spoiled, f"{', '.join(spoiled)} changed by it", "no change", "an update before the refusal")


@check
def bad_codes_are_refused(candidate: Candidate) -> None:
    """``lookup`` of -1, which Python takes for the last code, or of K: a ``ValueError`` with the number."""
    layer = candidate.trained().eval()
    for bad in (-1, layer.n_codes[-1]):
        codes = every_code(layer)
        codes.reshape(-1)[-1] = bad  # a view, so of the last level
        refused(functools.partial(layer.lookup, codes), f"a code {bad}", ("code", str(bad)))


def refused(call: Callable[[], object], what: str, words: tuple[str, ...]) -> None:
    """Raise ``Mismatch`` unless ``call`` raises a ``ValueError`` whose message has all ``words``."""
    likely = "an argument that is not checked"
    try:
        call()
    except ValueError as error:
        missing = [word for word in words if word not in str(error)]
        expect(
            not missing,
            f"'{error}' for {what}",
            f"a message with {', '.join(missing)}",
            "an error from deep inside, not the layer's own",
        )
    except Exception as error:
        raise Mismatch(f"{type(error).__name__} for {what}", "a ValueError that names it", likely) from None
    else:
        raise Mismatch(f"{what} accepted", "a ValueError that names it", likely)
