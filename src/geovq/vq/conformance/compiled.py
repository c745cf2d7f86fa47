"""``torch.compile`` changes nothing but the time it takes."""

from __future__ import annotations

import copy
import warnings
from typing import cast

import torch
from torch import nn

from geovq.vq.conformance.candidate import (
    N_VECTORS,
    Candidate,
    check,
    count_unequal,
    expect,
    state_of,
    take_step,
)
from geovq.vq.layer import QuantizerLayer

LIKELY = "a draw, a branch or an update lost in the tracing"


@check
def compiled_is_the_same(candidate: Candidate) -> None:
    """Traced by ``torch.compile``, a layer gives and learns what it does uncompiled, seeds being equal.

    Backend ``eager``: the tracing, where a layer's control flow and random draws go wrong, without the
    generation of code, which takes minutes.
    """
    torch.compiler.reset()
    with warnings.catch_warnings():
        # Dynamo itself looks at .grad of tensors where it breaks a graph, and instantiates functions.
        warnings.filterwarnings("ignore", message=r"The \.grad attribute")
        warnings.filterwarnings("ignore", message=".*should not be instantiated", category=DeprecationWarning)
        for training in (True, False):
            _compare(candidate, candidate.trained().train(training))
    torch.compiler.reset()


def _compare(candidate: Candidate, layer: QuantizerLayer) -> None:
    twin = copy.deepcopy(layer)
    compiled = cast(nn.Module, torch.compile(twin, backend="eager"))
    for step in range(4, 6):
        z = candidate.vectors(N_VECTORS, step=step)
        ours, theirs = (take_step(each, z) if layer.training else each(z) for each in (compiled, layer))
        expect(
            torch.equal(ours.codes, theirs.codes),
            f"{count_unequal(ours.codes, theirs.codes)} among the codes, compiled",
            "the same codes",
            LIKELY,
        )
        for what in ("z_q", "loss"):
            a, b = getattr(ours, what), getattr(theirs, what)
            expect(
                torch.allclose(a, b, rtol=1e-5, atol=1e-6),
                f"{what} up to {float((a - b).detach().abs().max()):.3g} off, compiled",
                "no difference",
                LIKELY,
            )
    after = state_of(twin)
    off = [
        name
        for name, tensor in state_of(layer).items()
        if not torch.allclose(tensor.float(), after[name].float(), rtol=1e-5, atol=1e-6)
    ]
    expect(not off, f"other {', '.join(off)}, compiled", "the same", LIKELY)
