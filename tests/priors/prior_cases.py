"""Layouts, priors and a training loop that the tests of priors share."""

import itertools

import numpy as np
import torch

from geovq.config import Spec
from geovq.registry import FAMILIES, build
from geovq.seeding import numpy_generator, torch_generator
from geovq.tokenizer.layout import CodeGrid, CodeLayout

KINDS = sorted(FAMILIES["prior"])
SMALL = {"transformer": {"width": 16, "n_layers": 2, "n_heads": 2}}

LAYOUTS = {
    "chunks": CodeLayout((CodeGrid("codes", 2, 2, (3,)),)),
    "residual": CodeLayout((CodeGrid("codes", 1, 1, (5, 2, 4)),)),
    "unequal-map": CodeLayout((CodeGrid("codes", 1, 2, (2, 4)),)),
    "hierarchical": CodeLayout((CodeGrid("top", 1, 1, (3,)), CodeGrid("bottom", 1, 2, (2, 1, 3)))),
    "one-slot": CodeLayout((CodeGrid("codes", 1, 1, (6,)),)),
}


def all_codes(layout):
    """Every sequence of codes that the layout allows, (prod K, S)."""
    return np.array(list(itertools.product(*map(range, layout.slot_alphabets))))


def random_codes(layout, n, seed=0):
    """Codes (n, S), each slot uniform over its alphabet."""
    return numpy_generator(seed, "test codes").integers(0, layout.slot_alphabets, (n, layout.n_slots))


def example(kind, layout, **params):
    """A prior of any kind whose probabilities are neither uniform nor untrained."""
    prior = build("prior", Spec(kind, {**SMALL.get(kind, {}), **params}), layout=layout)
    if isinstance(prior, torch.nn.Module):
        scramble(prior)
    elif hasattr(prior, "fit"):
        prior.fit(random_codes(layout, 20) // 2)
    return prior


def scramble(module):
    """Weights large enough that every input matters to every output it may reach."""
    generator = torch_generator(0, "test weights")
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(std=0.5, generator=generator)


def train(prior, tensors, n_steps, learning_rate=3e-3, batch_size=128):
    """AdamW on random batches of the rows of ``tensors``."""
    optimizer = torch.optim.AdamW(prior.parameters(), lr=learning_rate)
    prior.train()
    for step in range(n_steps):
        rows = numpy_generator(0, "test batch", step).integers(0, len(tensors[0]), batch_size)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / n_steps)
        optimizer.zero_grad()
        prior.loss(tuple(t[rows] for t in tensors), torch_generator(0, "test loss", step))["total"].backward()
        optimizer.step()
    prior.eval()
