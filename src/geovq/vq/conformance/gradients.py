"""Which term of the loss moves what: the encoder, through ``z``, or the codebook."""

from __future__ import annotations

from unittest import SkipTest

import torch
from torch import Tensor

from geovq.vq.conformance.candidate import (
    N_VECTORS,
    Candidate,
    books,
    check,
    chooses_its_codebook,
    codebook_parameters,
    evaluated,
    expect,
    gradients_of,
    take_step,
)
from geovq.vq.layer import QuantizerLayer

TOLERANCE = 1e-5  # relative


@check
def commitment_moves_the_encoder_alone(candidate: Candidate) -> None:
    """``beta |z - sg(e)|^2``: beta scales the gradient of ``z`` exactly and no gradient of the codebook.

    And without it no term of the loss moves the encoder: ``|sg(z) - e|^2`` is the codebook's. ``entropy``
    and ``kl``, if ``make`` takes them, are set to 0.
    """
    candidate.needs("commitment")
    state = candidate.trained().state_dict()

    def gradients(commitment: float) -> tuple[Tensor, dict[str, Tensor]]:
        layer = candidate.fresh(commitment=commitment, **candidate.taken(entropy=0.0, kl=0.0)).train()
        layer.load_state_dict(state)
        return _of_loss(layer, candidate.vectors(N_VECTORS, step=5))

    (none, at_none), (once, at_once), (twice, at_twice) = (gradients(beta) for beta in (0.0, 0.5, 1.0))
    size = float(once.abs().max())
    expect(
        size > 0,
        "no gradient of z of the loss at commitment 0.5",
        "that of 0.5 |z - sg(e)|^2",
        "a loss of the output after the straight-through estimator, or z detached in the commitment term",
    )
    without = float(none.abs().max())
    expect(
        without <= TOLERANCE * size,
        f"a gradient of z up to {without:.3g} at commitment 0, {size:.3g} at 0.5",
        "none at commitment 0",
        "the codebook term without its detach, beta on the wrong term, or a loss after the estimator",
    )
    ratio = float((twice * once).sum() / once.square().sum())
    expect(
        bool(((twice - 2 * once).abs() <= TOLERANCE * size).all()),
        f"{ratio:.6g} times the gradient of z at twice the commitment",
        2,
        "beta on the codebook term",
    )
    for name, gradient in at_twice.items():
        for other in (at_none[name], at_once[name]):
            expect(
                torch.allclose(gradient, other, rtol=TOLERANCE, atol=TOLERANCE * float(gradient.abs().max())),
                f"a gradient of {name} that changes with the commitment",
                "one that does not",
                "beta on the codebook term, or a commitment term without its detach",
            )


@check
def codebook_learns(candidate: Candidate) -> None:
    """Every parameter of the codebook gets a gradient; without one, the codebook moves in training."""
    layer = candidate.trained()
    parameters = codebook_parameters(layer)
    if parameters:
        z = candidate.vectors(N_VECTORS, step=5)
        found = layer(z)
        total = found.loss + (found.z_q - z).square().sum(-1).mean()
        gradients = gradients_of(total, list(parameters.values()))
        for name, gradient in zip(parameters, gradients, strict=True):
            expect(
                bool(gradient.isfinite().all()) and bool(gradient.any()),
                f"no finite gradient of {name}",
                "one from the loss or from z_q",
                "a codebook term of the detached codes, or of the output after the estimator",
            )
        return
    before = books(layer)
    take_step(layer, candidate.vectors(N_VECTORS, step=5))
    moved = any(not torch.equal(a, b) for a, b in zip(before, books(layer), strict=True))
    if not moved and not chooses_its_codebook(layer):
        raise SkipTest("its codebook is fixed by construction")
    expect(
        moved, "the same codebook after a training step", "one that moves", "averages that are not applied"
    )


@check
def gradient_reaches_the_input(candidate: Candidate) -> None:
    """What is downstream of ``z_q`` moves the encoder in training, and backward sees what forward saw.

    ``entropy`` is set to 0.1 if ``make`` takes it, so that all of the codebook is in the graph.
    """
    layer = candidate.trained(**candidate.taken(entropy=0.1))
    z = candidate.vectors(N_VECTORS, step=5).requires_grad_()
    (gradient,) = gradients_of(layer(z).z_q.square().sum(), [z])
    expect(
        bool(gradient.isfinite().all()) and bool(gradient.any()),
        f"a gradient of z from {float(gradient.min()):.3g} to {float(gradient.max()):.3g}",
        "a finite one that is not 0",
        "a missing straight-through estimator, or a length divided by 0",
    )


@check
def loss_is_a_mean_over_vectors(candidate: Candidate) -> None:
    """Neither more vectors nor another shape change the loss."""
    layer, z = candidate.trained().eval(), candidate.vectors(20, step=7)
    expected = float(evaluated(layer, z).loss.detach())
    for what, other in (
        ("three times the vectors", z.repeat(3, 1)),
        ("vectors (4, 5, d)", z.reshape(4, 5, -1)),
    ):
        found = float(evaluated(layer, other).loss.detach())
        expect(
            abs(found - expected) <= TOLERANCE * (1 + abs(expected)),
            f"loss {found:.6g} of {what}",
            f"{expected:.6g}",
            "a sum over vectors, or a mean over one axis of several",
        )


def _of_loss(layer: QuantizerLayer, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    z.requires_grad_()
    parameters = codebook_parameters(layer)
    first, *others = gradients_of(layer(z).loss, [z, *parameters.values()])
    return first, dict(zip(parameters, others, strict=True))
