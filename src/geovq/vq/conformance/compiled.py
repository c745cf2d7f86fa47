"""``torch.compile`` changes nothing but the time it takes."""

from __future__ import annotations

import copy
import functools
import warnings
from typing import cast

import torch

from geovq.vq.conformance.candidate import (
    N_VECTORS,
    Candidate,
    check,
    count_unequal,
    expect,
    state_of,
    take_step,
)
from geovq.vq.conformance.refusals import refused
from geovq.vq.layer import QuantizerLayer

LIKELY = "a draw, a branch or an update lost in the tracing"


@check
def compiled_is_the_same(candidate: Candidate) -> None:
    """Traced by ``torch.compile``, a layer gives, learns and refuses what it does uncompiled.

    It is compiled new, so that the start of its codebook is traced too, then trained, then evaluated; seeds
    are equal. Backend ``eager``: the tracing, where a layer's control flow and random draws go wrong,
    without the generation of code, which takes minutes.
    """
    torch.compiler.reset()
    with warnings.catch_warnings():
        # Dynamo itself looks at .grad of tensors where it breaks a graph, and instantiates functions.
        warnings.filterwarnings("ignore", message=r"The \.grad attribute")
        warnings.filterwarnings("ignore", message=".*should not be instantiated", category=DeprecationWarning)
        layer = candidate.fresh()
        twin = copy.deepcopy(layer)
        compiled = cast(QuantizerLayer, torch.compile(twin, backend="eager"))
        for training, n_steps in ((True, 2), (False, 1)):
            for each in (layer, twin):
                each.train(training)
            _compare(candidate, layer, twin, compiled, n_steps)
            if training:
                _refuses(candidate, compiled)
                off = _unequal(layer, twin)
                expect(not off, f"{', '.join(off)} changed by vectors not finite", "no change", LIKELY)
    torch.compiler.reset()


def _compare(
    candidate: Candidate, layer: QuantizerLayer, twin: QuantizerLayer, compiled: QuantizerLayer, n_steps: int
) -> None:
    for step in range(n_steps):
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
    off = _unequal(layer, twin)
    expect(not off, f"other {', '.join(off)}, compiled", "the same", LIKELY)


def _refuses(candidate: Candidate, compiled: QuantizerLayer) -> None:
    for number in (torch.nan, torch.inf):
        z = candidate.vectors(N_VECTORS, step=5)
        z[3, 0] = number
        refused(functools.partial(compiled, z), f"z with a number {number}, compiled", ("z", "finite"))


def _unequal(layer: QuantizerLayer, twin: QuantizerLayer) -> list[str]:
    after = state_of(twin)
    return [
        name
        for name, tensor in state_of(layer).items()
        if not torch.allclose(tensor.float(), after[name].float(), rtol=1e-5, atol=1e-6)
    ]
