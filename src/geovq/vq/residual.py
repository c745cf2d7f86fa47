"""Residual vector quantization inside a model: every level quantizes what the levels before it left over.

Zeghidour et al., "SoundStream: An End-to-End Neural Audio Codec" (2021), section III.C; Lee et al.,
"Autoregressive Image Generation using Residual Quantization" (2022), section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from geovq.config import Spec, from_json
from geovq.errors import InputError
from geovq.registry import build, with_seed
from geovq.search import beam_search
from geovq.seeding import derive_seed, torch_generator
from geovq.vq.distributed import gathered
from geovq.vq.estimators import straight_through
from geovq.vq.layer import Codebook, QuantizerLayer, check_table, checked_tokens, levels_of
from geovq.vq.quantized import Quantized
from geovq.vq.start import enlarged

START_VECTORS_PER_CODE = 16  # a start on fewer fits them so closely that it leaves later levels nothing


class ResidualVQ(QuantizerLayer):
    """L levels of one kind of layer; a vector is the sum of one code from each.

    A level sees ``z`` less the *detached* codes of the levels before it, and one straight-through estimator
    stands around the whole sum: the gradient of a model's loss reaches ``z`` once, not once a level, and the
    loss of every level reaches ``z`` as well. The levels' own estimators are not used, so a level must learn
    by its moving averages or by its loss. ``loss`` is the sum of the levels' losses, for EMA levels RQ-VAE's
    ``commitment * sum_l |z - sg(e_1 + ... + e_l)|^2``; with one level it is that level's.

    A first training batch with fewer than 16 vectors a code is enlarged by mixtures of its vectors, for the
    start of the levels alone: it may hold fewer vectors than there are codes.

    Parameters
    ----------
    dim : vector length d.
    layer : what every level is, ``{"kind": "ema", "params": {"n_codes": 256}}``: any layer of one code a
        vector.
    n_levels : L; codes are (..., L), or (...) for a single level.
    level_dropout : probability that a training batch is put out as the sum of its first l levels, l uniform
        in 1..L, so that a decoder learns to read the first codes alone. All levels learn from every batch.
    beam : partial sums kept while coding in eval mode; training is greedy (1), and so are the codes that
        ``loss`` and ``stats`` speak of.
    seed : of the levels, of their start and of the level dropout.
    """

    levels: nn.ModuleList
    n_updates: Tensor

    def __init__(
        self,
        dim: int,
        layer: Mapping[str, Any],
        n_levels: int,
        *,
        level_dropout: float = 0.0,
        beam: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if n_levels < 1 or beam < 1:
            raise InputError(
                f"ResidualVQ: n_levels is {n_levels} and beam {beam}; expected both to be at least 1"
            )
        if not 0 <= level_dropout <= 1:
            raise InputError(f"ResidualVQ: level_dropout is {level_dropout}; expected a probability, 0 to 1")
        self.dim = dim
        self.level_dropout, self.beam, self.seed = level_dropout, beam, seed
        spec = from_json(Spec, layer, "layer")
        self.levels = nn.ModuleList(
            build("layer", with_seed("layer", spec, derive_seed(seed, "ResidualVQ level", i)), dim=dim)
            for i in range(n_levels)
        )
        if len(self.n_codes) != n_levels:
            raise InputError(
                f"ResidualVQ: layer '{spec.kind}' gives {len(self.n_codes) // n_levels} codes a vector; "
                "expected a layer that gives one"
            )
        if any(level.learns_by_output for level in self._levels()):
            raise InputError(
                f"ResidualVQ: a level of kind '{spec.kind}' learns by the gradient of its own output, and a "
                "level's output has none here; expected a kind that learns by averages or by its loss, as "
                "'ema' does"
            )
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))

    @property
    def n_codes(self) -> tuple[int, ...]:
        """``(K,) * L``."""
        return tuple(size for level in self._levels() for size in level.n_codes)

    @property
    def codebook(self) -> Tensor:
        """Codes (L, K, d), or (K, d) of a single level."""
        every_code = torch.arange(self.n_codes[0], device=self.n_updates.device)
        books = [level.lookup(every_code) for level in self._levels()]
        return torch.stack(books) if len(books) > 1 else books[0]

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., d) of codes (..., L): the sum over levels."""
        of_levels = codes.unbind(-1) if len(self.levels) > 1 else (codes,)
        return _sum([level.lookup(c) for level, c in zip(self._levels(), of_levels, strict=True)])

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z (..., d)``; in training mode every level learns from its residual."""
        flat = checked_tokens("ResidualVQ", z, self.dim)
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            if self.training and any(level.awaits_start for level in self._levels()):
                self._start(flat.detach())
            parts, residual = [], z
            for level in self._levels():
                part: Quantized = level(residual)
                residual = residual - part.z_q.detach()
                parts.append(part)
            codes = torch.stack([part.codes for part in parts], dim=-1)
            quantized = _sum([part.z_q for part in parts[: self._draw_n_levels()]])
            if self.training:
                self.n_updates += 1
            elif self.beam > 1 and len(parts) > 1:
                codes = beam_search(flat.detach(), self.codebook, self.beam).reshape(codes.shape)
                quantized = self.lookup(codes)
        if len(parts) == 1:
            codes = codes[..., 0]
        loss = _sum([part.loss for part in parts])
        return Quantized(straight_through(z, quantized), codes, loss, mean_stats(parts))

    def start_from(self, codebook: Codebook) -> None:
        """Take the L codebooks (K_l, d) of a fitted quantizer as the levels'.

        Raises ``InputError`` if there are not as many, or one of them is not its level's in shape or
        not finite; no level has changed then.
        """
        books = levels_of(codebook)
        if len(books) != len(self.levels):
            raise InputError(
                f"ResidualVQ: the codebook to start from has {len(books)} levels; expected "
                f"{len(self.levels)}, n_levels of this layer"
            )
        for i, (size, book) in enumerate(zip(self.n_codes, books, strict=True)):
            check_table(f"ResidualVQ level {i}", book, size, self.dim)
        for level, book in zip(self._levels(), books, strict=True):
            level.start_from(book)

    @torch.no_grad()
    def _start(self, flat: Tensor) -> None:
        n_wanted = START_VECTORS_PER_CODE * self.n_codes[0]
        vectors = gathered(flat)  # so that all processes start alike, or none
        if len(vectors) < n_wanted:
            residual = enlarged(vectors, n_wanted, self.seed)
            for level in self._levels():
                if level.awaits_start:
                    level.start_on(residual)
                residual = residual - level.eval()(residual).z_q
                level.train()

    def _draw_n_levels(self) -> int:
        if not self.training or self.level_dropout == 0:
            return len(self.levels)
        generator = torch_generator(self.seed, "ResidualVQ level dropout", int(self.n_updates))
        if torch.rand((), generator=generator) >= self.level_dropout:
            return len(self.levels)
        return int(torch.randint(1, len(self.levels) + 1, (), generator=generator))

    def _levels(self) -> list[QuantizerLayer]:
        return cast(list[QuantizerLayer], list(self.levels))


def _sum(terms: Sequence[Tensor]) -> Tensor:
    """The sum, added from first to last: forward and lookup must agree to the last bit."""
    return sum(terms[1:], terms[0])


def mean_stats(parts: Sequence[Quantized]) -> dict[str, Tensor]:
    """Means over levels of what they watch, and the lowest use and perplexity of any of them."""
    stats = {name: torch.stack([part.stats[name].float() for part in parts]) for name in parts[0].stats}
    means = {name: values.mean() for name, values in stats.items()}
    for name in ("utilization", "perplexity"):
        if f"batch_{name}" in stats:
            means[f"lowest_level_{name}"] = stats[f"batch_{name}"].min()
    return means
