"""Encoding with several additive codebooks: beam search over levels.

Legend of suffixes: n points, b beams, d coordinates, l levels so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.search.nearest import lowest_of_rows, nearest_codes, unit_of

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
        centered, books, unit = _relative_to_first(points.to(residual.dtype), books)
        parts = [_search_chunk(part, books, beam, 1) for part in centered.split(rows)]
    wide = torch.cat([codes[:, 0] for codes, _ in parts])
    errors = torch.cat([left_over[:, 0].square().sum(1) for _, left_over in parts])
    better = errors < (residual / unit).square().sum(1)
    return torch.where(better[:, None], wide, greedy)


@torch.no_grad()
def beam_sums(points: Tensor, codebooks: Sequence[Tensor], beam: int) -> Tensor:
    """The sums that a beam search over the levels ends with, where ``beam_search`` gives the best one.

    Holds what every beam leaves over, n x beam x d numbers.

    Parameters
    ----------
    points : (n, d)
    codebooks : L codebooks (K_l, d), in the dtype of the points and on their device
    beam : sums wanted a point, at least 1; all there are if they are no more

    Returns
    -------
    int64 (n, b, L), nearest first
    """
    with torch.autocast(points.device.type, enabled=False):
        centered, books, _ = _relative_to_first(points, codebooks)
        return _search_chunk(centered, books, beam, beam)[0]


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


def _relative_to_first(points: Tensor, books: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], float]:
    """Points and the first book relative to its mean, where the products of ``extend_beams`` keep their
    digits, and all in units of which float32 has the squares; and the unit.
    """
    offset = books[0].mean(0)
    points, books = points - offset, [books[0] - offset, *books[1:]]
    unit = unit_of(float(torch.stack([book.abs().max() for book in books]).max()))
    return (points, books, unit) if unit == 1 else (points / unit, [book / unit for book in books], unit)


def _search_chunk(points: Tensor, books: Sequence[Tensor], beam: int, n_sums: int) -> tuple[Tensor, Tensor]:
    """Codes (n, b, L) of at most ``n_sums`` sums near each point, nearest first, and what they leave over."""
    residual_nbd = points[:, None, :]
    codes_nbl = torch.empty(len(points), 1, 0, dtype=torch.int64, device=points.device)
    for level, book in enumerate(books):
        keep = n_sums if level == len(books) - 1 else beam
        residual_nbd, parent_nb, code_nb = extend_beams(residual_nbd, book, keep)
        kept = codes_nbl.gather(1, parent_nb[:, :, None].expand(-1, -1, level))
        codes_nbl = torch.cat([kept, code_nb[:, :, None]], dim=2)
    return codes_nbl, residual_nbd


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
    scores = residual_nbd.new_empty(rows, width, len(book))
    residuals = residual_nbd.new_empty(n, keep, d)
    parents = torch.empty(n, keep, dtype=torch.int64, device=residual_nbd.device)
    codes = torch.empty_like(parents)
    # Half the squared error of every extension, |r|^2 / 2 - r.c + |c|^2 / 2, as one matrix product.
    half_norms = book.square().sum(1) / 2
    features = torch.cat([-book, torch.full_like(book[:, :1], 0.5)], dim=1).T
    first_beam = torch.arange(rows, device=residual_nbd.device)[:, None] * width
    for start in range(0, n, rows):
        part = residual_nbd[start : start + rows]
        m = len(part)
        with_error = torch.cat([part, part.square().sum(2, keepdim=True)], dim=2)
        torch.addmm(half_norms, with_error.view(-1, d + 1), features, out=scores[:m].view(-1, len(book)))
        parent, code = _smallest(scores[:m], keep)
        extended = part.reshape(-1, d).index_select(0, (first_beam[:m] + parent).flatten())
        extended -= book.index_select(0, code.flatten())
        residuals[start : start + rows] = extended.view(m, keep, d)
        parents[start : start + rows] = parent
        codes[start : start + rows] = code
    return residuals, parents, codes


def _smallest(scores_nbk: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Beams and codes (n, count) of the smallest scores of every point, in order of (score, beam, code)."""
    n, width, size = scores_nbk.shape
    scores = scores_nbk.view(n, -1)
    if count == 1:
        column = lowest_of_rows(scores)[:, None]
        return column // size, column % size
    found = min(count + 1, scores.shape[1])
    if width >= 8 and size > 2 * found:
        # The smallest few lie with the few codes whose best beam is smallest: fewer scores to choose among,
        # which pays from about 8 beams.
        near = scores_nbk.amin(1).topk(found, dim=1, largest=False, sorted=False).indices
        among = scores_nbk.gather(2, near[:, None, :].expand(-1, width, -1)).view(n, -1)
        values, place = among.topk(found, dim=1, largest=False)
        columns = place // found * size + near.gather(1, place % found)
    else:
        values, columns = scores.topk(found, dim=1, largest=False)
    # topk orders equal scores as it likes and picks freely among those equal to the last it keeps.
    tied = (values[:, 1:] == values[:, :-1]).any(1)
    columns = columns[:, :count]
    if bool(tied.any()):
        columns[tied] = _smallest_with_ties(scores[tied], values[tied, count - 1], count)
    return columns // size, columns % size


def _smallest_with_ties(scores: Tensor, last: Tensor, count: int) -> Tensor:
    """Columns of the ``count`` smallest scores of each row, in order of (score, column).

    ``last`` (n,) is the largest score to keep.
    """
    n_columns = scores.shape[1]
    # Different keys that put smaller scores before equal ones before larger ones, and each in order.
    rank = (scores >= last[:, None]).long() + (scores > last[:, None])
    keys = rank * n_columns + torch.arange(n_columns, device=scores.device)
    columns = keys.topk(count, dim=1, largest=False).values % n_columns
    order = scores.gather(1, columns).argsort(dim=1, stable=True)
    return columns.gather(1, order)
