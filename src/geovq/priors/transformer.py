"""A decoder-only Transformer over codes: each slot predicted from all slots before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import skip_init

from geovq.errors import ConfigError
from geovq.priors.alphabets import layout_alphabets
from geovq.priors.attention import KeyValueCache
from geovq.priors.block import Block
from geovq.priors.dropout import KeyedDropout
from geovq.priors.inputs import checked_codes, checked_labels
from geovq.priors.sampling import SamplingRule, draw, sampling_uniforms
from geovq.seeding import torch_generator
from geovq.tokenizer.layout import CodeLayout

NUMBERS_A_BATCH = 2**23
"""Bound on the largest tensors of one internal batch, in numbers: 32 MiB of float32."""


class TransformerPrior(nn.Module):
    """p(codes) as the product over slots t of p(code t | codes before t), in the layout's order.

    The input at slot t is the embedding of code t - 1 (a start token at slot 0) plus a learnt embedding of
    position t. Each level of each grid has its own embedding table and output head, shared by the grid's
    positions, because the same number means another thing in another level; codes outside a slot's alphabet
    thus have probability 0. Layers are those of GPT-2 (Radford et al. 2019), initialised as there, except
    that the heads start at 0: before training it is the uniform prior.

    Parameters
    ----------
    layout
        How the codes (N, S) are arranged.
    width, n_layers, n_heads
        Size of the hidden vectors, number of layers, attention heads a layer (they must divide ``width``).
    dropout
        Fraction dropped of the embeddings and of each residual branch, in training only.
    n_classes
        Above 0, a class embedding is added to the start token, and labels are required everywhere.
    seed
        Decides the initial weights, alone: no global generator is read or advanced.
    """

    _first_row: Tensor

    def __init__(
        self,
        layout: CodeLayout,
        width: int = 128,
        n_layers: int = 3,
        n_heads: int = 4,
        dropout: float = 0.1,
        n_classes: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_sizes(width, n_layers, n_heads, dropout, n_classes)
        self.layout = layout
        self.n_classes = n_classes
        self._params: dict[str, Any] = {
            "width": width,
            "n_layers": n_layers,
            "n_heads": n_heads,
            "dropout": dropout,
            "n_classes": n_classes,
            "seed": seed,
        }
        self._alphabets = layout_alphabets(layout)
        sizes = [alphabet.n_codes for alphabet in self._alphabets]
        self._largest_alphabet = max(sizes)
        # All tables are one matrix, each alphabet's rows after the other's: one lookup serves every slot.
        alphabet_of_slot = torch.empty(layout.n_slots, dtype=torch.int64)
        for i, alphabet in enumerate(self._alphabets):
            alphabet_of_slot[alphabet.slots] = i
        self._head_of_slot: list[int] = alphabet_of_slot.tolist()
        first_rows = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("_first_row", first_rows[alphabet_of_slot], persistent=False)
        self.code_embedding = skip_init(nn.Embedding, sum(sizes), width)
        self.class_embedding = skip_init(nn.Embedding, n_classes, width) if n_classes else None
        self.start = nn.Parameter(torch.empty(width))
        self.position = nn.Parameter(torch.empty(layout.n_slots, width))
        self.dropout = KeyedDropout(dropout)
        self.blocks = nn.ModuleList(Block(width, n_heads, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList(skip_init(nn.Linear, width, size) for size in sizes)
        self._initialise(torch_generator(seed, "prior weights"))

    @property
    def params(self) -> Mapping[str, Any]:
        """The constructor's keywords besides ``layout``."""
        return dict(self._params)

    def forward(
        self, codes: Tensor, labels: Tensor | None = None, generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """Logits of every slot given the codes before it: for each alphabet (N, its slots, its codes).

        ``codes`` are int64 (N, S), ``labels`` int64 (N,); ``generator`` draws the dropout masks.
        """
        read = self.code_embedding(codes[:, :-1] + self._first_row[:-1])
        x = torch.cat([self._start_token(len(codes), labels), read], dim=1) + self.position
        x = self.dropout(x, generator)
        for block in self.blocks:
            x = block(x, generator)
        x = self.norm(x)
        return [head(x[:, a.slots]) for a, head in zip(self._alphabets, self.heads, strict=True)]

    def next_logits(
        self, prefix: Tensor, caches: Sequence[KeyValueCache], labels: Tensor | None = None
    ) -> Tensor:
        """Logits (N, K) of slot t given the codes before it, ``prefix`` int64 (N, t), for t = 0, 1, 2, ...

        ``caches``, from ``empty_caches``, remember what was read before: only the prefix's last code is new.
        """
        slot = prefix.shape[1]
        if slot == 0:
            x = self._start_token(len(prefix), labels)
        else:
            x = self.code_embedding(prefix[:, -1:] + self._first_row[slot - 1])
        x = x + self.position[slot]
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cache=cache)
        return self.heads[self._head_of_slot[slot]](self.norm(x[:, 0]))

    def empty_caches(self, n: int) -> list[KeyValueCache]:
        """Caches for ``next_logits`` over ``n`` images, one a layer."""
        n_heads = self._params["n_heads"]
        return [KeyValueCache(n, self.layout.n_slots, n_heads, like=self.position) for _ in self.blocks]

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """What training minimises, for a batch ``(codes,)`` or ``(codes, labels)``: scalars.

        ``total`` is the mean nats an image, ``nats_per_token`` that divided by S. In train mode ``generator``
        draws the dropout masks.
        """
        codes, labels = self._inputs(batch[0], batch[1] if len(batch) > 1 else None)
        total = self._slot_nats(codes, labels, generator).sum(1).mean()
        return {"total": total, "nats_per_token": total.detach() / self.layout.n_slots}

    @torch.inference_mode()
    def nll(self, codes: ArrayLike | Tensor, labels: ArrayLike | Tensor | None = None) -> np.ndarray:
        """Negative log-likelihood of codes (N, S), float64 nats (N,); see ``Prior.nll``. Never drops out."""
        codes_ns, labels_n = self._inputs(codes, labels)
        nats = np.empty(len(codes_ns))
        widest = max(4 * self._params["width"], self._largest_alphabet)
        for rows in _batches(len(codes_ns), self.layout.n_slots * widest):
            labels_b = None if labels_n is None else labels_n[rows]
            slot_nats = self._slot_nats(codes_ns[rows], labels_b, generator=None)
            nats[rows] = slot_nats.cpu().double().sum(1).numpy()
        return nats

    @torch.inference_mode()
    def sample(
        self,
        n: int,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        labels: ArrayLike | Tensor | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """Codes of ``n`` images, int64 (n, S), slot by slot; see ``Prior.sample``.

        An image's random numbers depend on ``seed`` and its index alone. Its logits may differ in the last
        bit between batches of another size, so a draw within rounding of the boundary of two codes may too.
        """
        rule = SamplingRule(temperature, top_k, top_p)
        uniforms = sampling_uniforms(n, self.layout.n_slots, seed)
        labels_n = self._labels(labels, n)
        sampled = torch.empty(n, self.layout.n_slots, dtype=torch.int64)
        cached = 2 * len(self.blocks) * self.position.numel()
        for rows in _batches(n, max(cached, self._largest_alphabet)):
            labels_b = None if labels_n is None else labels_n[rows]
            sampled[rows] = self._sample_batch(rule, uniforms[rows], labels_b)
        return sampled.numpy()

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights by name, on the CPU."""
        return {name: weight.detach().cpu().numpy() for name, weight in self.state_dict().items()}

    def load_tensors(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take over the weights that ``tensors`` gave."""
        self.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})

    def _initialise(self, generator: torch.Generator) -> None:
        for name, weight in self.named_parameters():
            if name.endswith(".bias") or name.startswith("heads"):
                nn.init.zeros_(weight)
            elif "norm" not in name:
                # The residual stream sums 2 branches a layer; GPT-2 keeps its variance by scaling them down.
                branch = name.endswith(("attention.output.weight", "contract.weight"))
                std = 0.02 / math.sqrt(2 * len(self.blocks)) if branch else 0.02
                nn.init.normal_(weight, std=std, generator=generator)

    def _start_token(self, n: int, labels: Tensor | None) -> Tensor:
        start = self.start.expand(n, 1, -1)
        return start if self.class_embedding is None else start + self.class_embedding(labels).unsqueeze(1)

    def _slot_nats(self, codes: Tensor, labels: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Negative log-probability of every code given those before it, float32 (N, S)."""
        nats = torch.empty(codes.shape, device=codes.device)
        for alphabet, logits in zip(self._alphabets, self(codes, labels, generator), strict=True):
            targets = codes[:, alphabet.slots]
            # In float32 even under a caller's reduced precision: nats are sums over hundreds of slots.
            flat = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
            nats[:, alphabet.slots] = flat.view(targets.shape)
        return nats

    def _sample_batch(self, rule: SamplingRule, uniforms: Tensor, labels: Tensor | None) -> Tensor:
        codes = torch.empty(uniforms.shape, dtype=torch.int64, device=self.position.device)
        caches = self.empty_caches(len(codes))
        for slot in range(self.layout.n_slots):
            logits = self.next_logits(codes[:, :slot], caches, labels)
            codes[:, slot] = draw(rule.probabilities(logits), uniforms[:, slot]).to(codes)
        return codes.cpu()

    def _inputs(
        self, codes: ArrayLike | Tensor, labels: ArrayLike | Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        checked = checked_codes(self.layout, codes)
        return torch.from_numpy(checked).to(self.position.device), self._labels(labels, len(checked))

    def _labels(self, labels: ArrayLike | Tensor | None, n: int) -> Tensor | None:
        checked = checked_labels(labels, n, self.n_classes)
        return None if checked is None else torch.from_numpy(checked).to(self.position.device)


def _batches(n: int, numbers_an_image: int) -> list[slice]:
    rows = max(1, NUMBERS_A_BATCH // numbers_an_image)
    return [slice(start, start + rows) for start in range(0, n, rows)]


def _check_sizes(width: int, n_layers: int, n_heads: int, dropout: float, n_classes: int) -> None:
    sizes = [("width", width, 1), ("n_layers", n_layers, 1), ("n_heads", n_heads, 1)]
    for name, value, least in [*sizes, ("n_classes", n_classes, 0)]:
        if not isinstance(value, int) or value < least:
            raise ConfigError(f"{name} is {value!r}; expected a whole number of at least {least}")
    if width % n_heads:
        raise ConfigError(f"width {width} is not a multiple of n_heads {n_heads}; choose one that divides it")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout!r}; expected a fraction from 0 to below 1")
