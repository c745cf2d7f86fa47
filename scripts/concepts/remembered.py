"""Lengths behind a decoder that are measured once, however many codebooks are fitted on the same graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from geovq.geometry import ChordEdges, DecoderEdges, FisherEdges, Latents, PullbackEdges


class Lengths:
    """Lengths of edges by the rows that they join, whichever way round."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self.pairs, self.lengths = np.empty(0, dtype=np.int64), np.empty(0)

    def of(
        self, starts: np.ndarray, ends: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Lengths (e,) of edges between rows ``starts (e,)`` and ``ends (e,)``.

        ``measure(which)`` gives those of the edges numbered ``which``, and is asked for what is not known.
        """
        pairs = np.minimum(starts, ends) * self.n_rows + np.maximum(starts, ends)
        unknown = np.flatnonzero(~np.isin(pairs, self.pairs))
        if len(unknown):
            found = np.concatenate([self.lengths, measure(unknown)])
            self.pairs, first = np.unique(np.concatenate([self.pairs, pairs[unknown]]), return_index=True)
            self.lengths = found[first]
        return self.lengths[np.searchsorted(self.pairs, pairs)]


class Remembering(DecoderEdges):
    """Edge lengths and metrics of whole latents, kept after the first call."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._known = Lengths(len(self.latents))
        self._metrics: np.ndarray | None = None

    def lengths(self, latents: Latents, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """As of the edges that are remembered."""
        rows = _rows(latents)

        def measure(which: np.ndarray) -> np.ndarray:
            return super(Remembering, self).lengths(latents, starts[which], ends[which])

        return self._known.of(rows[starts], rows[ends], measure)

    def prepared(self, latents: Latents) -> Latents:
        """As of the edges that are remembered."""
        return replace(latents, metrics=self.metrics()[_rows(latents)])

    def metrics(self) -> np.ndarray:
        """The metric tensor of every latent, (N, D, D)."""
        if self._metrics is None:
            self._metrics = super().prepared(Latents(self.latents.numpy())).metrics
        assert self._metrics is not None
        return self._metrics


class RememberedPullback(Remembering, PullbackEdges):
    """Pull-back lengths."""


class RememberedFisher(Remembering, FisherEdges):
    """Fisher lengths."""


class RememberedChord(Remembering, ChordEdges):
    """Chords, with the metrics of ``pullback``: they are the same."""

    def __init__(self, pullback: RememberedPullback) -> None:
        super().__init__(pullback.decoder, pullback.latents)
        self._pullback = pullback

    def metrics(self) -> np.ndarray:
        """Those of the pull-back."""
        return self._pullback.metrics()


def _rows(latents: Latents) -> np.ndarray:
    return np.arange(len(latents)) if latents.rows is None else latents.rows
