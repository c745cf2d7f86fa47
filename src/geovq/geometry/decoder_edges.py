"""Lengths of edges in what a decoder makes of the latents: the geometry that its images pull back.

Sources: the pull-back metric J'J of a decoder, Arvanitidis, Hansen and Hauberg, "Latent Space Oddity: on the
Curvature of Deep Generative Models", ICLR 2018; such lengths on the edges of a k-NN graph, Chen et al., "Fast
Approximate Geodesics for Deep Generative Models", ICANN 2019, and clusters on it, Yang et al., "Geodesic
Clustering in Deep Generative Models", 2018; decoders of distributions, Arvanitidis et al., "Pulling Back
Information Geometry", AISTATS 2022.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from geovq.errors import InputError, unknown_name
from geovq.geometry.decoded_images import DecodedImages
from geovq.geometry.decoder_calls import BernoulliCalls, Decoder, DecoderCalls
from geovq.geometry.edges import DATA_EDGES, EdgeLengths
from geovq.geometry.latents import Latents
from geovq.geometry.metric_edges import MetricEdges
from geovq.geometry.token_contexts import TokenContexts

TOLERANCE = 1e-6  # of the largest number of the latents: what a change of dtype may alter


class DecoderEdges(MetricEdges):
    """Lengths of what a decoder shows while a token moves along the straight line to another.

    Fitted points are tokens: row ``r`` of the n = N T fitted ones is token ``r % T`` of image ``r // T``. The
    edge between two tokens is measured in both of their images, where one token moves to the value of the
    other and the rest of the image stays; its length is the root of the mean square of the two. With T = 1,
    whole latents, both are the same line.

    The decoder runs in eval mode, on its own device, in float32 unless its weights are float64. It is called
    while fitting alone: how new points are joined, ``MetricEdges`` says.

    Parameters
    ----------
    decoder : module or function, latents (N, D) or (N, D, h, w) -> images (N, ...), row by row
    latents : the N latents that the fitted points are cut from, array or tensor (N, D) or (N, D, h, w). Flat
        ones are cut into T consecutive chunks, maps into their T = h w sites in row order.

    Attributes
    ----------
    calls : ``calls.decodes`` and ``calls.jvps`` count the latents decoded and the Jacobian-vector products
        taken so far

    Raises
    ------
    InputError
        If the latents have another shape; by the methods, if the decoder gives anything but one finite image
        for every latent, or has no derivative.
    """

    _calls: ClassVar[type[DecoderCalls]] = DecoderCalls

    def __init__(self, decoder: Decoder, latents: np.ndarray | Tensor) -> None:
        if not callable(decoder):
            raise InputError(
                f"{self.subject}: decoder is a {type(decoder).__name__}; expected a module or function"
            )
        self.decoder = decoder
        try:
            self.latents = _as_tensor(latents)
        except TypeError as error:
            raise InputError(f"{self.subject}: latents are not an array of numbers: {error}") from None
        if self.latents.ndim not in (2, 4) or self.latents.numel() == 0:
            raise InputError(
                f"{self.subject}: latents have shape {tuple(self.latents.shape)}; expected flat ones "
                "(N, D) or maps (N, D, h, w), as they go into the decoder"
            )
        wrong = ~self.latents.flatten(1).isfinite().all(1)
        if bool(wrong.any()):
            raise InputError(
                f"{self.subject}: latents have NaN or infinity in {int(wrong.sum())} of {len(wrong)} "
                f"rows, first in row {int(wrong.int().argmax())}; expected finite numbers"
            )
        self.calls = self._calls(decoder, self.latents[:1], self.subject)
        self._cut: TokenContexts | None = None

    @property
    def subject(self) -> str:
        """What messages begin with."""
        return f"edges '{self.name}'"

    def __repr__(self) -> str:
        decoder = getattr(self.decoder, "__name__", type(self.decoder).__name__)
        return f"{type(self).__name__}({decoder}, latents {tuple(self.latents.shape)})"

    def check(self, latents: Latents) -> None:
        """Raise ``InputError`` unless the points are tokens of the latents and the decoder takes a latent."""
        contexts = self._contexts(latents)
        n_rows, n_tokens = contexts.tokens.shape[:2].numel(), contexts.tokens_a_latent
        rows = _rows(latents)
        if (latents.rows is None and len(rows) != n_rows) or rows.max() >= n_rows:
            raise InputError(
                f"X has {rows.max() + 1} rows, but {self.subject} have {len(self.latents)} latents of "
                f"{n_tokens} tokens; expected token r % {n_tokens} of latent r // {n_tokens} in row r; fit "
                "on all latents that the edges were given"
            )
        tokens = contexts.tokens.reshape(n_rows, -1).double().numpy()[rows]
        differs = np.abs(tokens - latents.means).max(1) > TOLERANCE * np.abs(tokens).max()
        if differs.any():
            row = int(rows[differs.argmax()])
            raise InputError(
                f"X differs from the latents that {self.subject} were given in {differs.sum()} of "
                f"{len(rows)} rows, first in row {row}; expected token {row % n_tokens} of latent "
                f"{row // n_tokens} there; fit on the same latents in the same order"
            )
        with self.calls.running():
            self.calls.check()

    def lengths(self, latents: Latents, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Lengths of the edges between fitted tokens ``starts (e,)`` and ``ends (e,)``, float64 (e,)."""
        contexts, rows = self._contexts(latents), _rows(latents)
        first, second = torch.from_numpy(rows[starts]), torch.from_numpy(rows[ends])
        with self.calls.running():
            lengths = self._in_batches(contexts, first, second)
            if contexts.tokens_a_latent > 1:
                lengths = np.sqrt((lengths**2 + self._in_batches(contexts, second, first) ** 2) / 2)
        return lengths

    def prepared(self, latents: Latents) -> Latents:
        """The points with ``metrics``, float32 (n, d, d): J'J for their token in its image.

        Takes d Jacobian-vector products a point.
        """
        contexts, rows = self._contexts(latents), torch.from_numpy(_rows(latents))
        metrics = np.empty((len(rows), contexts.dim, contexts.dim), dtype=np.float32)
        with self.calls.running():
            size = max(1, self.calls.batch // contexts.dim)
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                images = part // contexts.tokens_a_latent
                steps = self.calls.products(contexts.latents(images), contexts.directions(part), images)
                metrics[start : start + size] = (steps.movedim(0, 1) @ steps.permute(1, 2, 0)).cpu()
        wrong = np.flatnonzero(~np.isfinite(metrics.sum((1, 2))))
        if len(wrong):
            raise InputError(
                f"{self.subject}: the metric is too large for float32 at {len(wrong)} of {len(metrics)} "
                f"points, first at row {int(rows[wrong[0]])}; expected moderate outputs; scale the decoder's "
                "images down"
            )
        return replace(latents, metrics=metrics)

    @abstractmethod
    def _moves(self, contexts: TokenContexts, rows: Tensor, others: Tensor) -> Tensor:
        """Lengths, float64 (b,), of the moves of tokens ``rows (b,)`` to the values of ``others (b,)``."""

    def _in_batches(self, contexts: TokenContexts, rows: Tensor, others: Tensor) -> np.ndarray:
        lengths = np.empty(len(rows))
        size = self.calls.batch
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            lengths[part] = self._moves(contexts, rows[part], others[part]).cpu()
        return lengths

    def _contexts(self, latents: Latents) -> TokenContexts:
        dim = latents.means.shape[1]
        if self._cut is None or self._cut.dim != dim:
            try:
                self._cut = TokenContexts(self.latents, dim)
            except ValueError as error:
                raise InputError(f"X has {dim} columns, but {self.subject} were given {error}") from None
        return self._cut


class ChordEdges(DecoderEdges):
    """||g(z) - g(z')||, the difference of the decoded images.

    With ``segments``, the straight line from z to z' is cut into as many equal pieces and their chords are
    added up: a lower bound of its length that does not fall when the segments double. Where outputs saturate,
    as behind a sigmoid, they cannot tell long ways from short ones.

    Every whole latent is decoded once, if the images of all take no more than 0.5 GB.

    Parameters
    ----------
    decoder, latents : see ``DecoderEdges``
    segments : pieces of an edge
    """

    name = "chord"

    def __init__(self, decoder: Decoder, latents: np.ndarray | Tensor, segments: int = 1) -> None:
        super().__init__(decoder, latents)
        if not isinstance(segments, int | np.integer) or isinstance(segments, bool) or segments < 1:
            raise InputError(
                f"{self.subject}: segments is {segments!r}; expected a whole number of at least 1"
            )
        self.segments = int(segments)
        self._images = DecodedImages(self.calls, self.latents)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, segments={self.segments})"

    def check(self, latents: Latents) -> None:
        """As of all ``DecoderEdges``. What was decoded before is forgotten: the decoder may have changed."""
        self._images.forget()
        super().check(latents)

    def lengths(self, latents: Latents, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Lengths of the edges between fitted tokens ``starts (e,)`` and ``ends (e,)``, float64 (e,)."""
        tokens_a_latent = self._contexts(latents).tokens_a_latent
        rows = torch.from_numpy(_rows(latents)[np.concatenate([starts, ends])])
        with self.calls.running():
            self._images.keep(rows // tokens_a_latent)
        return super().lengths(latents, starts, ends)

    def prepared(self, latents: Latents) -> Latents:
        """As of all ``DecoderEdges``. Decoded images are forgotten: the graph has been measured."""
        self._images.forget()
        return super().prepared(latents)

    def _moves(self, contexts: TokenContexts, rows: Tensor, others: Tensor) -> Tensor:
        images = rows // contexts.tokens_a_latent
        begin, end = contexts.latents(images), contexts.with_token(rows, others)
        seen, length = self._images.features(images), torch.zeros(len(rows), dtype=torch.float64)
        for segment in range(1, self.segments + 1):
            if segment < self.segments:
                image = self.calls.features(begin.lerp(end, segment / self.segments), images)
            elif contexts.tokens_a_latent == 1:
                image = self._images.features(others)
            else:
                image = self.calls.features(end, images)
            length += _norms(image - seen)
            seen = image
        return length


class PullbackEdges(DecoderEdges):
    """||J(m)(z' - z)||, J the decoder's Jacobian at the midpoint m: the midpoint rule for the line's length.

    One Jacobian-vector product an edge, or two for tokens within images; no Jacobian is formed.
    """

    name = "pullback"

    def _moves(self, contexts: TokenContexts, rows: Tensor, others: Tensor) -> Tensor:
        images = rows // contexts.tokens_a_latent
        begin, end = contexts.latents(images), contexts.with_token(rows, others)
        (products,) = self.calls.products((begin + end) / 2, (end - begin)[None], images)
        return _norms(products)


class FisherEdges(ChordEdges):
    """Fisher-Rao distance of the Bernoulli pixels that a decoder gives: a chord between angles.

    ||2 arcsin sqrt(p) - 2 arcsin sqrt(p')|| over all pixels, with p held in [1e-6, 1 - 1e-6], because the
    derivative of the angle is infinite at 0 and 1. ``segments`` as for ``ChordEdges``. Angles tell apart what
    is nearly black or white better than grey levels do. Outputs outside [0, 1] are an ``InputError``.
    """

    name = "fisher"
    _calls = BernoulliCalls


class DetachedEdges(MetricEdges):
    """Decoder lengths by name alone, as a saved quantizer has them: they join new points, and fit nothing.

    Parameters
    ----------
    name : a key of ``DECODER_EDGES``
    """

    name: str  # type: ignore[misc]  # this one class stands for several kinds

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"DetachedEdges({self.name!r})"

    def check(self, latents: Latents) -> None:
        """Raise ``InputError``: there is no decoder."""
        raise self._refusal()

    def lengths(self, latents: Latents, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Raise ``InputError``: there is no decoder."""
        raise self._refusal()

    def prepared(self, latents: Latents) -> Latents:
        """Raise ``InputError``: there is no decoder."""
        raise self._refusal()

    def _refusal(self) -> InputError:
        kind = DECODER_EDGES[self.name].__name__
        return InputError(f"edges '{self.name}' need a decoder: pass geovq.geometry.{kind}(decoder, latents)")


DECODER_EDGES: dict[str, type[DecoderEdges]] = {
    kind.name: kind for kind in (ChordEdges, PullbackEdges, FisherEdges)
}


def edge_lengths(edges: str | EdgeLengths) -> EdgeLengths:
    """Edge lengths by name, or as they are.

    A name in ``DECODER_EDGES`` gives ``DetachedEdges``: those that measure are made with a decoder. Raises
    ``InputError`` for an unknown name, with the nearest, and for anything that is not edges.
    """
    if isinstance(edges, EdgeLengths):
        return edges
    names = [*DATA_EDGES, *DECODER_EDGES]
    if not isinstance(edges, str):
        raise InputError(
            f"edges are a {type(edges).__name__}; expected one of {', '.join(names)}, or an object such as "
            "geovq.geometry.PullbackEdges(decoder, latents)"
        )
    if edges not in names:
        raise InputError(unknown_name("edges", edges, names))
    return DATA_EDGES[edges] if edges in DATA_EDGES else DetachedEdges(edges)


def _rows(latents: Latents) -> np.ndarray:
    rows = np.arange(len(latents)) if latents.rows is None else latents.rows
    return rows.astype(np.int64, copy=False)


def _as_tensor(latents: np.ndarray | Tensor) -> Tensor:
    """Latents on the CPU, float32 or float64."""
    if not isinstance(latents, Tensor):
        # PyTorch has no read-only tensors and warns; memory maps are read-only.
        latents = torch.from_numpy(np.require(latents, requirements=["C", "W"]))
    latents = latents.detach().cpu()
    return latents if latents.dtype == torch.float64 else latents.float()


def _norms(differences: Tensor) -> Tensor:
    return torch.linalg.vector_norm(differences, dim=1, dtype=torch.float64).cpu()
