"""Shapes, types and statistics that whoever uses a layer relies on."""

from __future__ import annotations

import math

import torch

from geovq.vq.conformance.candidate import Candidate, books, check, expect
from geovq.vq.layer import QuantizerLayer

SHAPES = ((16,), (8, 4), (4, 2, 3), (1, 16))


@check
def alphabets_and_bits(candidate: Candidate) -> None:
    """``n_codes`` are whole numbers, ``bits`` their information, ``codebook`` vectors of width d a level."""
    layer = candidate.fresh()
    expect(
        isinstance(layer, QuantizerLayer),
        f"a {type(layer).__name__}",
        "a geovq.vq.QuantizerLayer",
        "a class that does not derive from it",
    )
    sizes = layer.n_codes
    expect(
        isinstance(sizes, tuple) and all(isinstance(size, int) and size >= 2 for size in sizes),
        f"n_codes {sizes!r}",
        "a tuple of whole numbers, at least 2 each",
        "a bare number or a tensor",
    )
    bits = sum(math.log2(size) for size in sizes)
    expect(
        math.isclose(layer.bits, bits, rel_tol=1e-6),
        f"{layer.bits} bits",
        bits,
        "bits that are not log2 of n_codes",
    )
    found = [tuple(book.shape) for book in books(layer)]
    expected = [(size, candidate.dim) for size in sizes]
    expect(found == expected, f"codebooks {found}", expected, "a codebook before its projection out")


@check
def shapes_and_types(candidate: Candidate) -> None:
    """``z_q`` float32 like ``z``; ``codes`` int64 within the alphabets, one axis more for several levels."""
    for training in (True, False):
        layer = candidate.fresh().train(training)
        sizes = torch.tensor(layer.n_codes)
        for shape in SHAPES:
            found = layer(candidate.vectors(*shape))
            expect(
                found.z_q.shape == (*shape, candidate.dim) and found.z_q.dtype == torch.float32,
                f"z_q {tuple(found.z_q.shape)} {found.z_q.dtype}",
                f"{(*shape, candidate.dim)} torch.float32",
                "a missing reshape or cast",
            )
            levels = (len(sizes),) if len(sizes) > 1 else ()
            expect(
                found.codes.shape == (*shape, *levels) and found.codes.dtype == torch.int64,
                f"codes {tuple(found.codes.shape)} {found.codes.dtype}",
                f"{(*shape, *levels)} torch.int64",
                "a missing reshape, or codes counted in another type",
            )
            per_level = found.codes.reshape(-1, len(sizes))
            expect(
                bool(((per_level >= 0) & (per_level < sizes)).all()),
                f"codes from {int(per_level.min())} to {int(per_level.max())}",
                f"0 to below n_codes {layer.n_codes}",
                "an offset between levels, or a wrong radix",
            )
            expect(
                found.loss.shape == () and bool(found.loss.isfinite()),
                f"loss {found.loss.detach()}",
                "one finite number",
                "a loss that is not averaged",
            )


@check
def stats_are_detached_numbers(candidate: Candidate) -> None:
    """What a layer watches is finite, one number a name, and holds no graph alive."""
    for training in (True, False):
        layer = candidate.trained().train(training)
        for name, value in layer(candidate.vectors(32, step=4).requires_grad_()).stats.items():
            expect(
                value.shape == () and bool(torch.isfinite(value)),
                f"stats['{name}'] = {value.detach()}",
                "one finite number",
                "a logarithm of 0 or a ratio of nothing",
            )
            expect(
                not value.requires_grad,
                f"stats['{name}'] with a gradient",
                "a detached number",
                "a missing detach(), which keeps every step's graph in memory",
            )
