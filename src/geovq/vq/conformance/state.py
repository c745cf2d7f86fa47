"""What a layer keeps: unchanged by evaluation, whole in ``state_dict``, alone its own."""

from __future__ import annotations

import copy

import torch

from geovq.vq.conformance.candidate import (
    N_VECTORS,
    Candidate,
    changed,
    check,
    count_unequal,
    expect,
    state_of,
    take_step,
)


@check
def evaluation_changes_nothing(candidate: Candidate) -> None:
    """In eval mode no buffer and no parameter moves, and no codebook starts."""
    for what, layer in (("new", candidate.fresh()), ("trained", candidate.trained())):
        layer.eval()
        before = state_of(layer)
        layer.lookup(layer(candidate.vectors(N_VECTORS, step=5)).codes)
        moved = changed(before, state_of(layer))
        expect(
            not moved,
            f"{', '.join(moved)} of a {what} layer changed in eval mode",
            "no change",
            "averages, counts or a start that do not look at self.training",
        )


@check
def state_dict_is_everything(candidate: Candidate) -> None:
    """A new layer that loads the state trains on exactly as the old one."""
    layer, loaded = candidate.trained(), candidate.fresh().train()
    loaded.load_state_dict(state_of(layer))
    for step in range(3, 7):
        z = candidate.vectors(N_VECTORS, step=step)
        ours, theirs = take_step(loaded, z), take_step(layer, z)
        for what in ("codes", "z_q", "loss"):
            a, b = getattr(ours, what), getattr(theirs, what)
            expect(
                torch.equal(a, b),
                f"{count_unequal(a, b)} among the numbers of {what}, {step - 2} steps after loading",
                "those of the layer that was saved",
                "state that is no buffer, or random draws not keyed by a step that is saved",
            )
    moved = changed(state_of(layer), state_of(loaded))
    expect(not moved, f"other {', '.join(moved)} after 4 steps", "the same", "state that is no buffer")


@check
def global_generator_is_left_alone(candidate: Candidate) -> None:
    """Neither making nor training a layer draws from PyTorch's global generator, or depends on it."""
    states = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            layer = candidate.make().train()
            for step in range(3):
                layer(candidate.vectors(N_VECTORS, step=step))
            states.append(state_of(layer))
            expect(
                torch.equal(torch.get_rng_state(), before),
                "a draw from the global generator",
                "draws keyed by the layer's seed and step",
                "torch.rand, or weights initialised, without a generator",
            )
    moved = changed(*states)
    expect(not moved, f"{', '.join(moved)} that change with torch.manual_seed", "the same", "a global draw")


@check
def copies_are_independent(candidate: Candidate) -> None:
    """Training a deep copy leaves the layer as it was."""
    layer = candidate.trained()
    before, twin = state_of(layer), copy.deepcopy(layer)
    take_step(twin, candidate.vectors(N_VECTORS, step=5))
    moved = changed(before, state_of(layer))
    expect(not moved, f"{', '.join(moved)} changed by a copy", "no change", "tensors shared by the class")
