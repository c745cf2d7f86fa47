"""What all layers share whose codes are a table of vectors, one code a vector."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.search import nearest_codes
from geovq.seeding import torch_generator
from geovq.vq.entropy import codebook_entropy_penalty
from geovq.vq.estimators import mean_squared_distance, straight_through
from geovq.vq.layer import Codebook, QuantizerLayer, check_codes, checked_tokens, one_level
from geovq.vq.quantized import Quantized
from geovq.vq.revival import replacements
from geovq.vq.start import kmeans_start
from geovq.vq.watch import Watch


class CodebookLayer(QuantizerLayer):
    """The nearest of K vectors, with the remedies against collapse that any way of learning them can have.

    A subclass holds the table, as ``codebook`` (``_make_table``), says how to overwrite rows of it
    (``_overwrite``), and may change how codes are chosen (``_assign``), how gradients pass (``_estimate``),
    what is minimised (``_loss``), or all three at once (``_quantize``), and how the table moves besides
    (``_move``).

    Parameters
    ----------
    dim : vector length d.
    n_codes : codebook size K.
    commitment : weight of ``|z - sg(e)|^2``, which acts on the encoder alone.
    decay : weight of the past in the moving average of the codes' use.
    revival : use, relative to the average code's, below which a code is dead and becomes a random vector of
        the batch; 0 never revives.
    entropy : weight of the entropy penalty in nats (``geovq.vq.entropy``).
    start : ``kmeans`` of the first training batch, or ``random`` normal vectors.
    seed : of the start and of the revivals.
    """

    codebook: Tensor
    usage: Tensor
    started: Tensor
    n_updates: Tensor

    def __init__(
        self,
        dim: int,
        n_codes: int,
        *,
        commitment: float = 0.25,
        decay: float = 0.99,
        revival: float = 0.03,
        entropy: float = 0.0,
        start: Literal["kmeans", "random"] = "kmeans",
        seed: int = 0,
    ) -> None:
        super().__init__()
        name = self._name
        if dim < 1 or n_codes < 2:
            raise InputError(
                f"{name}: dim is {dim} and n_codes {n_codes}; expected at least 1 and 2 codes or more"
            )
        for what, value in (("commitment", commitment), ("entropy", entropy)):
            if not 0 <= value < math.inf:
                raise InputError(f"{name}: {what} is {value}; expected a weight of at least 0")
        for what, value in (("decay", decay), ("revival", revival)):
            if not 0 <= value < 1:
                raise InputError(f"{name}: {what} is {value}; expected at least 0 and below 1")
        if start not in ("kmeans", "random"):
            raise InputError(f"{name}: start is '{start}'; expected 'kmeans' or 'random'")
        self.dim, self._n_codes = dim, n_codes
        self.commitment, self.decay, self.revival, self.entropy = commitment, decay, revival, entropy
        self.start, self.seed = start, seed
        self.watch = Watch(n_codes, dim)
        self.register_buffer("usage", torch.ones(n_codes))
        self.register_buffer("started", torch.tensor(start == "random"))
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))
        self._make_table(torch.randn(n_codes, dim, generator=torch_generator(seed, "normal start")))

    @property
    def _name(self) -> str:
        """What errors call the layer."""
        return type(self).__name__

    @property
    def n_codes(self) -> tuple[int, ...]:
        """``(K,)``."""
        return (self._n_codes,)

    @property
    def awaits_start(self) -> bool:
        """Whether k-means of the first training batch is still to come."""
        return not bool(self.started)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (...). Raises ``InputError`` if a code is negative or not below K."""
        check_codes(self._name, codes, self._n_codes)
        return self.codebook[codes]

    def start_on(self, flat: Tensor) -> None:
        """Let the codes be the k-means centres of vectors (n, d)."""
        self._start_at(kmeans_start(flat, self._n_codes, self.seed))

    def start_from(self, codebook: Codebook) -> None:
        """Take the vectors (K, d) of a fitted quantizer as the codebook, in place of a start on a batch.

        Raises ``InputError`` if there are more levels than one, or they are not (K, d) of this layer and
        finite.
        """
        vectors = one_level(self._name, codebook, self._n_codes, self.dim)
        self._start_at(vectors.to(self.usage))

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z (..., d)``; in training mode the codebook starts, moves and revives dead codes.

        The codes are those of the codebook before it moves. Raises ``InputError`` if ``z`` is empty, has
        another width or is not finite.
        """
        flat = checked_tokens(self._name, z, self.dim)
        # Distances and averages in half precision would flip codes and stall the averages.
        with torch.autocast(z.device.type, enabled=False):
            if self.training and self.awaits_start:
                self.start_on(flat.detach())
            codes, z_q, loss = self._quantize(flat)
            if self.entropy:
                # A copy, for the codebook moves before the penalty's gradient is asked for.
                loss = loss + self.entropy * codebook_entropy_penalty(flat, self.codebook.clone())
            counts, stats = self.watch(flat.detach(), z_q.detach(), codes)
            if self.training:
                stats["revived"] = self._learn(flat.detach(), codes, counts)
        return Quantized(z_q.reshape(z.shape), codes.reshape(z.shape[:-1]), loss, stats)

    @abstractmethod
    def _make_table(self, vectors: Tensor) -> None:
        """Hold a table that starts as standard normal ``vectors`` (K, d)."""

    @abstractmethod
    def _overwrite(self, rows: Tensor, vectors: Tensor) -> None:
        """Let the codes ``rows`` (bool (K,)) be ``vectors``, and forget what they were."""

    def _quantize(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (n,) of vectors (n, d), ``z_q`` (n, d) and the loss without any entropy penalty."""
        codes = self._assign(flat)
        quantized = self.codebook[codes]
        return codes, self._estimate(flat, quantized), self._loss(flat, quantized)

    def _assign(self, flat: Tensor) -> Tensor:
        """Codes (n,) of vectors (n, d)."""
        return nearest_codes(flat, self.codebook)

    def _estimate(self, flat: Tensor, quantized: Tensor) -> Tensor:
        """``quantized`` (n, d) in value, with a gradient for ``flat``."""
        return straight_through(flat, quantized)

    def _loss(self, flat: Tensor, quantized: Tensor) -> Tensor:
        """What the layer adds to a model's loss, summed over d and averaged over vectors."""
        return self.commitment * mean_squared_distance(flat, quantized.detach())

    def _move(self, flat: Tensor, codes: Tensor, to_relative: float) -> None:
        """Move the codebook by other means than gradients."""

    @torch.no_grad()
    def _start_at(self, vectors: Tensor) -> None:
        self._overwrite(torch.ones_like(self.usage, dtype=torch.bool), vectors)
        self.usage.fill_(1.0)
        self.started.fill_(True)

    @torch.no_grad()
    def _learn(self, flat: Tensor, codes: Tensor, counts: Tensor) -> Tensor:
        to_relative = self._n_codes / float(counts.sum())
        self.usage.lerp_(counts * to_relative, 1 - self.decay)
        self._move(flat, codes, to_relative)
        dead = self.usage < self.revival
        n_dead = int(dead.sum())
        if n_dead:
            self._overwrite(dead, replacements(flat, n_dead, self.seed, int(self.n_updates)))
            self.usage[dead] = 1.0
        self.n_updates += 1
        return dead.sum()
