"""Encoding with several additive codebooks: beam search over levels.

Legend of suffixes: n points, b beams, d coordinates, l levels so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.search.nearest import nearest_codes

SCORES_A_CHUNK = 2**20


@torch.no_grad()
def beam_search(points: Tensor, codebooks: Tensor | Sequence[Tensor], beam: int) -> Tensor:
    """Codes whose sum over levels lies near each point: argmin |x - sum_l c_l[k_l]|^2, searched by beam.

    At every level the ``beam`` best partial sums are kept. ``beam=1`` is greedy residual coding. A wider beam
    can lose the greedy path and end farther away, so the greedy codes compete at the end: no point is ever
    farther from its sum than greedily (up to rounding). Equal candidates: the lowest codes of the
    earliest-ranked beam.

    Parameters
    ----------
    points : (n, d)
    codebooks : (L, K, d), or L codebooks (K_l, d)
    beam : partial sums kept, at least 1

    Returns
    -------
    int64 (n, L)

    Raises
    ------
    InputError
        If there is no codebook, ``beam`` is below 1, or a width differs.

    Source: Babenko and Lempitsky, "Additive Quantization for Extreme Vector Compression", CVPR 2014, and the
    residual quantizer of faiss.
    """
    if beam < 1 or len(codebooks) < 1:
        raise InputError(f"beam is {beam} with {len(codebooks)} codebooks; expected at least 1 of each")
    greedy, residual = _greedy(points, codebooks)
    if beam == 1 or len(codebooks) == 1 or len(points) == 0:
        return greedy
    books = [book.to(residual.device, residual.dtype) for book in codebooks]
    rows = max(1, SCORES_A_CHUNK // (beam * max(len(book) for book in books)))
    with torch.autocast(residual.device.type, enabled=False):
        # As in nearest_codes: far from the origin the products below would lose digits.
        offset = books[0].mean(0)
        books[0] = books[0] - offset
        centered = points.to(residual.dtype) - offset
        parts = [_search_chunk(part, books, beam) for part in centered.split(rows)]
    wide = torch.cat([codes for codes, _ in parts])
    errors = torch.cat([error for _, error in parts])
    better = errors < residual.square().sum(1)
    return torch.where(better[:, None], wide, greedy)


def _greedy(points: Tensor, codebooks: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Greedy codes (n, L) and what they leave over (n, d)."""
    dtype = torch.float32
    for tensor in (points, *codebooks):
        dtype = torch.promote_types(dtype, tensor.dtype)
    residual, levels = points.to(dtype), []
    for book in codebooks:
        codes = nearest_codes(residual, book)
        residual = residual - book.to(residual.device, dtype)[codes]
        levels.append(codes)
    return torch.stack(levels, dim=1), residual


def _search_chunk(points: Tensor, books: Sequence[Tensor], beam: int) -> tuple[Tensor, Tensor]:
    """Best codes (n, L) of a chunk and their squared errors (n,)."""
    residual_nbd = points[:, None, :]
    codes_nbl = torch.empty(len(points), 1, 0, dtype=torch.int64, device=points.device)
    for level, book in enumerate(books):
        keep = 1 if level == len(books) - 1 else beam
        residual_nbd, parent_nb, code_nb = extend_beams(residual_nbd, book, keep)
        kept = codes_nbl.gather(1, parent_nb[:, :, None].expand(-1, -1, level))
        codes_nbl = torch.cat([kept, code_nb[:, :, None]], dim=2)
    return codes_nbl[:, 0], residual_nbd[:, 0].square().sum(1)


@torch.no_grad()
def extend_beams(residual_nbd: Tensor, book: Tensor, beam: int) -> tuple[Tensor, Tensor, Tensor]:
    """One level of beam search: of all residuals less a code, the ``beam`` shortest of every point.

    Parameters
    ----------
    residual_nbd : (n, b, d), what b partial sums leave over of every point
    book : (K, d)
    beam : residuals kept, at most b K

    Returns
    -------
    residual : (n, beam, d), shortest first
    parent : int64 (n, beam), which of the b each one extends
    code : int64 (n, beam)
    """
    n, width, d = residual_nbd.shape
    keep = min(beam, width * len(book))
    rows = max(1, min(n, SCORES_A_CHUNK // (width * len(book))))
    scores = residual_nbd.new_empty(rows * width, len(book))
    residuals = residual_nbd.new_empty(n, keep, d)
    parents = torch.empty(n, keep, dtype=torch.int64, device=residual_nbd.device)
    codes = torch.empty_like(parents)
    # Half the squared error of every extension, |r|^2 / 2 - r.c + |c|^2 / 2, as one matrix product.
    half_norms = book.square().sum(1) / 2
    features = torch.cat([-book, torch.ones_like(book[:, :1])], dim=1).T
    for start in range(0, n, rows):
        part = residual_nbd[start : start + rows]
        with_error = torch.cat([part, part.square().sum(2, keepdim=True) / 2], dim=2)
        part_scores = scores[: len(part) * width]
        torch.addmm(half_norms, with_error.reshape(-1, d + 1), features, out=part_scores)
        chosen = _smallest(part_scores.view(len(part), -1), keep)
        parent, code = chosen // len(book), chosen % len(book)
        extended = part.gather(1, parent[:, :, None].expand(-1, -1, d)) - book[code]
        residuals[start : start + rows] = extended
        parents[start : start + rows] = parent
        codes[start : start + rows] = code
    return residuals, parents, codes


def _smallest(scores: Tensor, count: int) -> Tensor:
    """Columns of the ``count`` smallest scores of each row, in order of (score, column)."""
    if count == 1:
        return scores.argmin(1, keepdim=True)
    values, columns = scores.topk(min(count + 1, scores.shape[1]), dim=1, largest=False)
    # topk picks freely among scores equal to the last it keeps; those rows are sorted in full.
    tied = values[:, -1] == values[:, count - 1]
    columns = columns[:, :count]
    if bool(tied.any()):
        columns[tied] = scores[tied].argsort(dim=1, stable=True)[:, :count]
    columns = columns.sort(dim=1).values
    order = scores.gather(1, columns).argsort(dim=1, stable=True)
    return columns.gather(1, order)
