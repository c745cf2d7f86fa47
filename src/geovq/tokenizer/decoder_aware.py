"""Codes chosen by what the decoder makes of them, not by distances between latents.

Coordinate descent from the codes that a quantizer gave: slot by slot, codes near what the slot has to cover
are tried with all others fixed, and one is taken only where it lowers the error. The codes keep their layout
and their decoder, so decoding costs what it did.

Suffixes: b images of a batch, t tokens, l levels, d numbers of a token, c candidates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.quantizers import Quantizer
from geovq.search import beam_sums, extend_beams

IMAGES_A_BATCH, NUMBERS_A_BATCH = 512, 2**22  # of images decoded at once: more would leave the cache
MOVES_A_BATCH = 2**20  # numbers of candidates, or of metrics, that are held at once


def refine_by_image(
    codes: Tensor,
    tokens: Tensor,
    codebooks: Sequence[Tensor],
    decode: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    n_candidates: int = 4,
    sweeps: int = 2,
    beam: int = 16,
) -> Tensor:
    """Codes whose decoded image is nearer to the image, in squared error over all its numbers.

    Slot by slot, token by token and level by level, the ``n_candidates`` codes nearest to what the token's
    other levels leave over are decoded with everything else fixed. The best replaces the present code if its
    error is lower; of equal ones the lowest does. So no image's error ever rises.

    Before that, where a token has several levels, its ``beam`` best sums of all levels are tried in the same
    way: they differ in many levels at once, and for what they cost bring more than the levels one by one.

    Parameters
    ----------
    codes : int64 (N, T, L), to start from
    tokens : (N, T, d), the tokens that the codes stand for
    codebooks : L additive codebooks (K_l, d)
    decode : tokens (b, T, d) -> images (b, ...), row by row; in eval mode
    images : (N, ...)
    n_candidates : codes tried a slot; all if there are no more
    sweeps : passes over all slots at most. An image that a pass has not changed is done.
    beam : sums of all levels tried a token

    Returns
    -------
    int64 (N, T, L)

    Raises
    ------
    InputError
        If the shapes do not fit each other, a decoded image is not finite, a code does not exist or a count
        is below 1.
    """
    if len(images) != len(tokens):
        raise InputError(f"{len(images)} images are given for {len(tokens)} rows of tokens; expected as many")
    error = _ImageError(decode, images)
    return _refined(codes, tokens, codebooks, error, n_candidates, sweeps, beam)


def refine_by_metric(
    codes: Tensor,
    tokens: Tensor,
    codebooks: Sequence[Tensor],
    metrics: Tensor,
    *,
    n_candidates: int = 8,
    sweeps: int = 2,
    beam: int = 64,
) -> Tensor:
    """Codes with a lower error (z - z_hat)' M (z - z_hat) in the metric M of each latent z.

    With M = J'J, the decoder's pull-back metric at z, this is to first order the squared error of the decoded
    image; nothing is decoded. The search is that of ``refine_by_image``. Far candidates gain nothing: there
    the first order misjudges the image. So it does where codes are coarse, or the decoder is tuned on codes
    and not on the latents that its metric is taken at: the error of the images can then rise, unlike that in
    the metric. Compare on held-out images.

    Parameters
    ----------
    codes, tokens, codebooks, n_candidates, sweeps, beam : see ``refine_by_image``
    metrics : symmetric, (N, T d, T d) over all numbers of the tokens, token by token; or (N, T, d, d), a
        block for each token, which leaves out what tokens do to each other

    Raises
    ------
    InputError
        As ``refine_by_image``.
    """
    n, n_tokens, dim = tokens.shape
    if metrics.shape not in ((n, n_tokens * dim, n_tokens * dim), (n, n_tokens, dim, dim)):
        raise InputError(
            f"metrics have shape {tuple(metrics.shape)}; expected ({n}, {n_tokens * dim}, {n_tokens * dim}) "
            f"or ({n}, {n_tokens}, {dim}, {dim}) for tokens {tuple(tokens.shape)}"
        )
    error = _MetricError(tokens, metrics)
    return _refined(codes, tokens, codebooks, error, n_candidates, sweeps, beam)


class _Error(ABC):
    """The error of quantized tokens, image by image, and of moving one of them."""

    @abstractmethod
    def batch(self, n_candidates: int) -> int:
        """Images to work on at once."""

    @abstractmethod
    def present(self, rows: Tensor, quantized: Tensor) -> Tensor:
        """Errors float64 (b,) of images ``rows (b,)`` with tokens ``quantized (b, t, d)``."""

    @abstractmethod
    def moved(self, rows: Tensor, quantized: Tensor, present: Tensor, token: int, moves: Tensor) -> Tensor:
        """Errors float64 (b, c) once ``moves (b, c, d)`` are added to a token, given those at present (b,).

        Moves of 0 change nothing, exactly.
        """


class _ImageError(_Error):
    def __init__(self, decode: Callable[[Tensor], Tensor], images: Tensor) -> None:
        self._decode, self._images = decode, images
        size = max(1, images[:1].numel())
        self._decodes = max(1, min(IMAGES_A_BATCH, NUMBERS_A_BATCH // size))

    def batch(self, n_candidates: int) -> int:
        return max(1, self._decodes // n_candidates)

    def present(self, rows: Tensor, quantized: Tensor) -> Tensor:
        errors = []
        for part, tokens in zip(rows.split(self._decodes), quantized.split(self._decodes), strict=True):
            decoded, images = self._decode(tokens), self._images[part]
            if decoded.shape != images.shape:
                raise InputError(
                    f"decode gave {tuple(decoded.shape)} for images {tuple(images.shape)}; expected the same"
                )
            errors.append((decoded - images).square().flatten(1).sum(1, dtype=torch.float64))
        total = torch.cat(errors)
        if not bool(total.isfinite().all()):
            raise InputError(
                f"decode gave NaN or infinity in {int((~total.isfinite()).sum())} of {len(total)} images; "
                "expected finite numbers; check the decoder's weights"
            )
        return total

    def moved(self, rows: Tensor, quantized: Tensor, present: Tensor, token: int, moves: Tensor) -> Tensor:
        errors = present[:, None].repeat(1, moves.shape[1])
        image, candidate = moves.any(2).nonzero(as_tuple=True)
        if len(image):
            tried = quantized[image]
            tried[:, token] += moves[image, candidate]
            errors[image, candidate] = self.present(rows[image], tried)
        return errors


class _MetricError(_Error):
    def __init__(self, tokens: Tensor, metrics: Tensor) -> None:
        self._tokens, self._metrics = tokens, metrics

    def batch(self, n_candidates: int) -> int:
        held = self._tokens.shape[2] * max(n_candidates, self._metrics.shape[-1])
        return max(1, MOVES_A_BATCH // held)

    def present(self, rows: Tensor, quantized: Tensor) -> Tensor:
        away = quantized - self._tokens[rows]
        pulled = [self._row(rows, token, away)[1] for token in range(away.shape[1])]
        return (away * torch.stack(pulled, dim=1)).sum((1, 2), dtype=torch.float64)

    def moved(self, rows: Tensor, quantized: Tensor, present: Tensor, token: int, moves: Tensor) -> Tensor:
        block, pulled = self._row(rows, token, quantized - self._tokens[rows])
        change = (moves * (moves @ block + 2 * pulled[:, None])).sum(2)
        return present[:, None] + change

    def _row(self, rows: Tensor, token: int, away: Tensor) -> tuple[Tensor, Tensor]:
        """The token's own block of the metric (b, d, d), and its row of the metric times ``away``, (b, d)."""
        dim = away.shape[2]
        if self._metrics.ndim == 4:
            block = self._metrics[rows, token]
            return block, (block @ away[:, token, :, None])[..., 0]
        own = slice(token * dim, (token + 1) * dim)
        row = self._metrics[rows, own]
        return row[..., own], (row @ away.flatten(1)[..., None])[..., 0]


@torch.no_grad()
def _refined(
    codes: Tensor,
    tokens: Tensor,
    codebooks: Sequence[Tensor],
    error: _Error,
    n_candidates: int,
    sweeps: int,
    beam: int,
) -> Tensor:
    _check(codes, tokens, codebooks, {"n_candidates": n_candidates, "sweeps": sweeps, "beam": beam})
    books = [book.to(tokens) for book in codebooks]
    count = min(n_candidates, max(len(book) for book in books))
    changing, refined = torch.arange(len(codes), device=codes.device), codes.clone()
    if len(books) > 1:
        for rows in changing.split(error.batch(beam)):
            refined[rows] = _Batch(rows, refined, tokens, books, error).with_sums_tried(beam)
    for _ in range(sweeps):
        if len(changing) == 0:
            break
        still = []
        for rows in changing.split(error.batch(count)):
            before = refined[rows]
            refined[rows] = _Batch(rows, refined, tokens, books, error).with_codes_tried(count)
            still.append(rows[(refined[rows] != before).flatten(1).any(1)])
        changing = torch.cat(still)
    return refined


class _Batch:
    """Images ``rows (b,)`` while their codes are searched."""

    def __init__(
        self, rows: Tensor, codes: Tensor, tokens: Tensor, books: Sequence[Tensor], error: _Error
    ) -> None:
        self._rows, self._books, self._error = rows, books, error
        self._tokens_btd, self._codes_btl = tokens[rows], codes[rows]
        self._quantized_btd = Quantizer.look_up(books, self._codes_btl)
        self._errors = error.present(rows, self._quantized_btd)

    def with_codes_tried(self, count: int) -> Tensor:
        """Codes (b, t, l) after one pass over all slots, with ``count`` candidates each."""
        for token in range(self._tokens_btd.shape[1]):
            for level, book in enumerate(self._books):
                present = book[self._codes_btl[:, token, level]]
                left_over = self._tokens_btd[:, token] - self._quantized_btd[:, token] + present
                nearest = extend_beams(left_over[:, None], book, min(count, len(book)))[2]
                nearest = nearest.sort(dim=1).values  # argmin takes the lowest of equals
                tried_bcl = self._codes_btl[:, token, None].repeat(1, nearest.shape[1], 1)
                tried_bcl[..., level] = nearest
                self._take_best(token, tried_bcl, book[nearest] - present[:, None])
        return self._codes_btl

    def with_sums_tried(self, beam: int) -> Tensor:
        """Codes (b, t, l) after one pass over all tokens, with the sums that a beam search ends with."""
        for token in range(self._tokens_btd.shape[1]):
            tried_bcl = beam_sums(self._tokens_btd[:, token], self._books, beam)
            moves_bcd = Quantizer.look_up(self._books, tried_bcl) - self._quantized_btd[:, None, token]
            # Rounding must not make a move of the sum that is there.
            moves_bcd[(tried_bcl == self._codes_btl[:, None, token]).all(2)] = 0
            self._take_best(token, tried_bcl, moves_bcd)
        return self._codes_btl

    def _take_best(self, token: int, tried_bcl: Tensor, moves_bcd: Tensor) -> None:
        tried_bc = self._error.moved(self._rows, self._quantized_btd, self._errors, token, moves_bcd)
        best = tried_bc.argmin(1)
        (better,) = (tried_bc.gather(1, best[:, None])[:, 0] < self._errors).nonzero(as_tuple=True)
        best = best[better]
        self._codes_btl[better, token] = tried_bcl[better, best]
        self._quantized_btd[better, token] += moves_bcd[better, best]
        self._errors[better] = tried_bc[better, best]


def _check(codes: Tensor, tokens: Tensor, codebooks: Sequence[Tensor], counts: Mapping[str, int]) -> None:
    if tokens.ndim != 3 or codes.shape != (*tokens.shape[:2], len(codebooks)):
        raise InputError(
            f"codes have shape {tuple(codes.shape)} for tokens {tuple(tokens.shape)} and {len(codebooks)} "
            "codebooks; expected (N, T, L) for (N, T, d) and L"
        )
    for level, book in enumerate(codebooks):
        if book.ndim != 2 or book.shape[1] != tokens.shape[2] or len(book) == 0:
            raise InputError(
                f"codebook {level} has shape {tuple(book.shape)}; expected (K, {tokens.shape[2]}) with K > 0"
            )
        outside = (codes[..., level] < 0) | (codes[..., level] >= len(book))
        if bool(outside.any()):
            raise InputError(
                f"codes of level {level} run from {int(codes[..., level].min())} to "
                f"{int(codes[..., level].max())}; expected 0 to {len(book) - 1}"
            )
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} is {value}; expected at least 1")
